"""PNDM: DDIM steps with a linear multistep (Adams-Bashforth) estimate of eps."""

from dataclasses import dataclass
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Denoiser, Images, Leaf, Level
from diffusion_jax.sampling.solver import Solver

# Number of steps of a warm-up.
WARM_UPS = {"heun": 1, "runge_kutta": 3}
# Adams-Bashforth weights of the predicted eps, the newest first.
ADAMS_BASHFORTH = np.array(
    [
        [1, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    ]
)

# Level of sigma / alpha from which x is treated as pure noise.
PURE_NOISE = 1000.0
# Limits of the search for a sigma / alpha, which is 0 at the clean image.
FINITE = (1e-8, 1e8)

Row = Float[np.ndarray, "num_steps"]
Remembered = tuple[Images, Images, Images]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PNDMCoefficients:
    """Coefficients of a step of PNDM.

    slope: the change of x per unit of eps, sigma_next - alpha_next sigma / alpha.
    eps_weights: of the eps predicted last, the newest first, (num_steps, 4).
    warms_up: True in the steps of a warm-up.
    middle: the level in the middle of the step, and middle_slope the slope there.
    """

    slope: Leaf
    eps_weights: Leaf
    warms_up: Leaf
    middle: Level
    middle_slope: Leaf


def pndm(*, warmup: str = "heun") -> Solver:
    """Returns PNDM (arXiv:2202.09778), algorithm 2: a step uses the last four predicted eps.

    warmup: method of the first steps. "heun": one step with two evaluations, then multistep
    formulas of increasing order, known as PLMS. "runge_kutta": three steps with four evaluations,
    as in the paper.
    Raises ValueError for another warm-up.
    """
    if warmup not in WARM_UPS:
        raise ValueError(f"Unknown warmup {warmup!r}; known: {', '.join(WARM_UPS)}")
    return Solver(
        init=lambda x: (jnp.zeros_like(x),) * 3,
        step=partial(pndm_step, warmup=warmup),
        prepare=partial(pndm_coefficients, warmup=warmup),
    )


def pndm_step(
    denoiser: Denoiser,
    now: Level,
    next: Level,
    coefficients: PNDMCoefficients,
    x: Images,
    noise: Images,
    remembered: Remembered,
    *,
    warmup: str,
) -> tuple[Images, Remembered]:
    """x_next = alpha_next x0 + sigma_next eps + slope (eps' - eps). PNDM eq. 11 and 12.

    That is DDIM's step with eps' in place of the predicted eps:
    eps' = (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24, where eps_k was predicted k steps before.
    In a warm-up eps' is the mean of the predictions within the step, (eps + 2 eps_b + 2 eps_c +
    eps_d) / 6 of a Runge-Kutta method (eq. 13) or (eps + eps_b) / 2 of Heun's.
    """
    prediction = denoiser(x, now)
    predictions = (prediction.eps, *remembered)

    def moved(level: Level, slope: Leaf, eps: Images) -> Images:
        """Returns DDIM's step from x to this level with this eps."""
        ddim = per_image(level.alpha) * prediction.x0 + per_image(level.sigma) * prediction.eps
        return ddim + per_image(slope) * (eps - prediction.eps)

    def weighted() -> Images:
        terms = (
            per_image(coefficients.eps_weights[place]) * eps
            for place, eps in enumerate(predictions)
        )
        return cast(Images, sum(terms))

    def within_the_step() -> Images:
        # (level, slope there, weight of the prediction there)
        end = next, coefficients.slope
        middle = coefficients.middle, coefficients.middle_slope
        stages = {
            "runge_kutta": [(*middle, 1 / 3), (*middle, 1 / 3), (*end, 1 / 6)],
            "heun": [(*end, 1 / 2)],
        }[warmup]
        rows = jax.tree.map(lambda *row: jnp.stack([jnp.float32(v) for v in row]), *stages)
        first = 1 - sum(weight for _, _, weight in stages)

        def stage(carry: tuple[Images, Images], row: tuple) -> tuple[tuple[Images, Images], None]:
            eps, mean = carry
            level, slope, weight = row
            eps = denoiser(moved(level, slope, eps), level).eps
            return (eps, mean + weight * eps), None

        (_, mean), _ = jax.lax.scan(stage, (prediction.eps, first * prediction.eps), rows)
        return mean

    eps = jax.lax.cond(jnp.asarray(coefficients.warms_up), within_the_step, weighted)
    return moved(next, coefficients.slope, eps), predictions[:3]


def pndm_coefficients(
    sampling_schedule: SamplingSchedule, schedule: Schedule, *, warmup: str
) -> PNDMCoefficients:
    """Computes the coefficients of each step.

    A warm-up begins at the start, and after a step that adds noise (RePaint). Near pure noise an
    error of eps' is multiplied by sigma / alpha, so such a step is DDIM's, and the warm-up begins
    after it. A step to the clean image, where no eps can be predicted, uses earlier predictions.
    """
    now, next = sampling_schedule.pairs()
    middle = halfway(now, next, schedule)
    not_pure_noise = np.asarray(now.sigma) < PURE_NOISE * np.asarray(now.alpha)
    finite = np.isfinite(np.asarray(sampling_schedule.steps.log_snr_step))
    usable = np.zeros(sampling_schedule.num_steps, int)  # predictions, in each step
    for step in range(sampling_schedule.num_steps):
        before = usable[step - 1] if step and finite[step - 1] else 0
        usable[step] = before + 1 if not_pure_noise[step] else 0
    warms_up = (usable > 0) & (usable <= WARM_UPS[warmup]) & (np.asarray(next.sigma) > 0)
    return PNDMCoefficients(
        slope=slopes(now, next),
        eps_weights=ADAMS_BASHFORTH[np.clip(usable, 1, 4) - 1],
        warms_up=warms_up,
        middle=middle,
        middle_slope=slopes(now, middle),
    )


def slopes(now: Level, reached: Level) -> Row:
    """Returns sigma_reached - alpha_reached sigma / alpha of each step; 0 from pure noise."""
    now, reached = (
        jax.tree.map(lambda row: np.asarray(row, np.float64), level) for level in (now, reached)
    )
    ratio = reached.alpha / np.where(now.alpha > 0, now.alpha, 1)
    return np.where(now.alpha > 0, reached.sigma - ratio * now.sigma, 0)


def halfway(now: Level, next: Level, schedule: Schedule) -> Level:
    """Returns the levels half-way through each step in c_noise, found by bisection."""
    now, next = (
        jax.tree.map(lambda row: np.asarray(row, np.float64), level) for level in (now, next)
    )
    with np.errstate(divide="ignore"):
        ends = [np.clip(level.sigma / level.alpha, *FINITE) for level in (now, next)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    wanted = (now.c_noise + next.c_noise) / 2
    for _ in range(60):
        middle = np.sqrt(low * high)
        above = schedule.at_sigma(middle, np).c_noise > wanted
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return schedule.at_sigma(high, np)
