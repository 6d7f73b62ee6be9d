"""The sampling loop: any solver, on any sampling schedule, as one `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffusion_jax.diffusion import keys as random_keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Denoiser, Images, Keys, Leaf, Level, Prediction
from diffusion_jax.sampling.solver import Coefficients, Solver, State

Index = Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Film:
    """States on the way, (frames, batch, height, width, channels).

    x: after a step. x0: the clean image predicted at the beginning of that step, or of the last
    step before it with a prediction.
    """

    x: Leaf
    x0: Leaf


def sample(
    solver: Solver,
    denoiser: Denoiser,
    sampling_schedule: SamplingSchedule,
    coefficients: Coefficients,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    watch: Callable[[Index, Images], None] | None = None,
    x: Images | None = None,
) -> tuple[Images, Film]:
    """Runs the solver from the first level of the sampling schedule to the last.

    Args:
        coefficients: of `solver.prepare(sampling_schedule, schedule)`.
        keys: one for each image, the only source of its randomness. An image depends neither on its
            neighbors in the batch nor on the number of devices.
        shape: (height, width, channels).
        frames: number of states to return, evenly spaced and ending with the last.
        watch: called in the program with the number and the x0 of each frame, such as a
            `jax.debug.callback`.
        x: the state at the first level; None is `starting_noise`.

    Returns:
        x at the last level (about [-1, 1] for a clean image, not clipped), and the film (without
        frames, arrays with a leading dimension of 0).

    Raises:
        ValueError: more frames than steps.
    """
    num_steps = sampling_schedule.num_steps
    if not 0 <= frames <= num_steps:
        raise ValueError(f"frames={frames} is not in 0..{num_steps}, the number of sampling steps")
    first = starting_noise(keys, shape) * sampling_schedule.start_std if x is None else x
    # Keys num_steps .. 1; key 0 is the starting noise.
    counts = np.arange(num_steps, 0, -1)
    # One place for each frame; within a frame's stretch of steps the last state stays.
    places = np.arange(num_steps) * frames // num_steps
    ends = np.diff(places, append=frames) > 0
    blank = jnp.zeros((frames, *first.shape), first.dtype)
    film = Film(blank, blank)

    def stepped(
        levels: tuple[Level, Level],
        row: Coefficients,
        beta: Leaf,
        x: Images,
        noise: Images,
        state: State,
        x0: Images,
    ) -> tuple[Images, State, Images]:
        """Makes a step of the solver; returns also its first predicted x0."""
        predicted = []

        def watched(x: Images, level: Level) -> Prediction:
            predicted.append(denoiser(x, level))
            return predicted[-1]

        x, state = solver.step(watched, *levels, row, x, noise, state)
        return x, state, predicted[0].x0

    def noised(
        levels: tuple[Level, Level],
        row: Coefficients,
        beta: Leaf,
        x: Images,
        noise: Images,
        state: State,
        x0: Images,
    ) -> tuple[Images, State, Images]:
        """Samples x_next ~ q(x_next | x) and resets the state."""
        now, next = levels
        ratio = per_image(next.alpha) / per_image(now.alpha)
        x = ratio * x + jnp.sqrt(per_image(beta)) * noise
        return x, solver.init(x), x0

    def report(film: Film, place: Index) -> None:
        assert watch is not None
        watch(place, film.x0[place])

    def body(carry: tuple, row: tuple) -> tuple[tuple, None]:
        x, state, x0, film = carry
        levels, coefficients, beta, is_noised, count, place, end = row
        noise = random_keys.normal(random_keys.at_step(keys, count), shape)
        step = levels, coefficients, beta, x, noise, state, x0
        if is_noised is None:
            x, state, x0 = stepped(*step)
        else:
            x, state, x0 = jax.lax.cond(is_noised, noised, stepped, *step)
        if frames:
            film = Film(film.x.at[place].set(x), film.x0.at[place].set(x0))
        if frames and watch is not None:
            jax.lax.cond(end, report, lambda film, place: None, film, place)
        return (x, state, x0, film), None

    rows = (
        sampling_schedule.pairs(),
        coefficients,
        sampling_schedule.steps.beta,
        sampling_schedule.noised,
        counts,
        places,
        ends,
    )
    start = first, solver.init(first), jnp.zeros_like(first), film
    (last, _, _, film), _ = jax.lax.scan(body, start, jax.tree.map(jnp.asarray, rows))
    return last, film


def starting_noise(keys: Keys, shape: tuple[int, ...]) -> Images:
    """Draws standard normal noise, one image for each key: the same for any number of steps."""
    return random_keys.normal(random_keys.at_step(keys, 0), shape)
