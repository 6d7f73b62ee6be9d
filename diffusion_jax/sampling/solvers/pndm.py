"""PNDM: a linear multi-step method for the predicted noise, in DDIM's steps."""

from dataclasses import dataclass, fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level, Waypoint
from diffusion_jax.sampling.solver import Solver

# How many steps a warm-up takes.
WARM_UPS = {"heun": 1, "runge_kutta": 3}
# Adams-Bashforth: the weights of the noises predicted last, the newest first.
ADAMS_BASHFORTH = np.array(
    [
        [1, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ]
)

# From this noise / signal on, x counts as pure noise.
PURE_NOISE = 1000.0
# Where noise / signal is sought; at a clean image it is 0.
FINITE = (1e-8, 1e8)

Row = Float[np.ndarray, "num_steps_plus_1"]
History = tuple[Images, Images, Images]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PNDMWaypoint(Waypoint):
    """A waypoint with what the step that arrives here needs.

    slope: what one unit of noise changes in x here, noise - signal noise_before / signal_before.
    noise_weights: of the noises predicted last, the newest first, (num_steps + 1, 4).
    warms_up: whether the step belongs to a warm-up.
    middle: the level in the middle of the step, and middle_slope the slope there.
    """

    slope: Leaf
    noise_weights: Leaf
    warms_up: Leaf
    middle: Leaf
    middle_slope: Leaf


def pndm(*, warmup: str = "heun") -> Solver:
    """PNDM (arXiv:2202.09778), algorithm 2: four predicted noises make the noise of a step.

    warmup: how the first ones are made. "heun": one step with two evaluations, and then as many
    noises as there are, which is known as PLMS. "runge_kutta": three steps with four evaluations,
    as in the paper.
    Raises ValueError for another warm-up.
    """
    if warmup not in WARM_UPS:
        raise ValueError(f"Unknown warmup {warmup!r}; known: {', '.join(WARM_UPS)}")
    return Solver(
        init=lambda x: (jnp.zeros_like(x),) * 3,
        step=partial(pndm_step, warmup=warmup),
        prepare=partial(prepare, warmup=warmup),
        waypoint=PNDMWaypoint,
    )


def pndm_step(
    denoiser: Denoiser,
    now: Waypoint,
    next: PNDMWaypoint,
    x: Images,
    fresh_noise: Images,
    history: History,
    *,
    warmup: str,
) -> tuple[Images, History]:
    """x_next = signal_next x0 + noise_next eps + slope (eps' - eps). PNDM eq. 11 and 12.

    That is DDIM's step with the noise eps' in place of the predicted one:
    eps' = (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24, where eps_k was predicted k steps before.
    In a warm-up eps' is the mean of what is predicted within the step, (eps + 2 eps_b + 2 eps_c +
    eps_d) / 6 of a Runge-Kutta method (eq. 13) or (eps + eps_b) / 2 of Heun's.
    """
    prediction = denoiser(x, now)
    known = (prediction.eps, *history)

    def moved(level: Level, slope: Leaf, noise: Images) -> Images:
        """DDIM's step from x to this level with this noise."""
        ddim = per_image(level.alpha) * prediction.x0 + per_image(level.sigma) * prediction.eps
        return ddim + per_image(slope) * (noise - prediction.eps)

    def remembered() -> Images:
        return sum(
            per_image(next.noise_weights[place]) * noise for place, noise in enumerate(known)
        )

    def within_the_step() -> Images:
        # (level, slope there, weight of what is predicted there)
        end = Level(next.alpha, next.sigma, next.c_noise), next.slope
        middle = next.middle, next.middle_slope
        stages = {
            "runge_kutta": [(*middle, 1 / 3), (*middle, 1 / 3), (*end, 1 / 6)],
            "heun": [(*end, 1 / 2)],
        }[warmup]
        rows = jax.tree.map(lambda *row: jnp.stack([jnp.float32(v) for v in row]), *stages)
        first = 1 - sum(weight for _, _, weight in stages)

        def stage(carry: tuple[Images, Images], row: tuple) -> tuple[tuple[Images, Images], None]:
            noise, mean = carry
            level, slope, weight = row
            noise = denoiser(moved(level, slope, noise), level).eps
            return (noise, mean + weight * noise), None

        (_, mean), _ = jax.lax.scan(stage, (prediction.eps, first * prediction.eps), rows)
        return mean

    noise = jax.lax.cond(jnp.asarray(next.warms_up), within_the_step, remembered)
    return moved(next, next.slope, noise), known[:3]


def prepare(path: Path, schedule: Schedule, *, warmup: str) -> Path:
    """Adds the fields of `PNDMWaypoint`.

    A warm-up begins where no step arrives: at the start, and after x was noised again. In (almost)
    pure noise an error of eps' is multiplied by noise / signal; a step from there is DDIM's, and
    the warm-up begins after it. At the clean image no noise is left to predict; a step to there
    takes the predictions that it finds.
    """
    w, levels, middle = path.waypoints, path.levels(), halfway(path, schedule)
    signal, noise = (np.asarray(row, np.float64) for row in (w.alpha, w.sigma))
    has_signal = noise < PURE_NOISE * signal
    arrives = np.isfinite(np.asarray(w.log_snr_step))
    known = np.zeros(path.num_steps + 1, int)  # predictions, in the step to here
    for step in range(path.num_steps):
        before = known[step] if arrives[step] else 0
        known[step + 1] = before + 1 if has_signal[step] else 0
    more = {
        "slope": slopes(levels, levels),
        "noise_weights": ADAMS_BASHFORTH[np.clip(known, 1, 4) - 1],
        "warms_up": (known > 0) & (known <= WARM_UPS[warmup]) & (noise > 0),
        "middle": middle,
        "middle_slope": slopes(levels, middle),
    }
    waypoint = {field.name: getattr(w, field.name) for field in fields(Waypoint)}
    return replace(path, waypoints=PNDMWaypoint(**waypoint, **more))


def slopes(visited: Level, reached: Level) -> Row:
    """noise - signal noise_before / signal_before; 0 at the start, and where there is no signal."""
    before = jax.tree.map(lambda row: np.asarray(row, np.float64)[:-1], visited)
    here = jax.tree.map(lambda row: np.asarray(row, np.float64)[1:], reached)
    ratio = here.alpha / np.where(before.alpha > 0, before.alpha, 1)
    slope = here.sigma - ratio * before.sigma
    return np.append(0.0, np.where(before.alpha > 0, slope, 0))


def halfway(path: Path, schedule: Schedule) -> Level:
    """The levels half-way to each waypoint in the schedule's c_noise, found by bisection."""
    levels = jax.tree.map(lambda row: np.asarray(row, np.float64), path.levels())
    with np.errstate(divide="ignore"):
        sigma = np.clip(levels.sigma / levels.alpha, *FINITE)
    before = np.append(sigma[:1], sigma[:-1])
    low, high = np.minimum(sigma, before), np.maximum(sigma, before)
    wanted = (levels.c_noise + np.append(levels.c_noise[:1], levels.c_noise[:-1])) / 2
    for _ in range(60):
        middle = np.sqrt(low * high)
        above = schedule.at_sigma(middle, np).c_noise > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return schedule.at_sigma(high, np)
