"""The sampling loop: any solver, along any path, as one `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffusion_jax.diffusion import keys as random_keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Denoiser, Images, Keys, Leaf, Level, Prediction, Waypoint
from diffusion_jax.sampling.solver import History, Solver

Index = Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Film:
    """States on the way, (frames, batch, height, width, channels).

    x: after a step. x0: the clean image that the denoiser predicted at the beginning of that step,
    or at the last step before it in which it was asked.
    """

    x: Leaf
    x0: Leaf


def sample(
    solver: Solver,
    denoiser: Denoiser,
    path: Path,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    watch: Callable[[Index, Images], None] | None = None,
    x: Images | None = None,
) -> tuple[Images, Film]:
    """Follows the path from its first level to its last.

    path: as the solver has prepared it, see `Solver`. keys: one for each image, the only source of
    its randomness, so that an image depends neither on its neighbors in the batch nor on the
    number of devices. shape: (height, width, channels). frames: how many states on the way to
    return, evenly spaced and ending with the last. watch: what the program does besides with the
    number and the x0 of each frame, such as a `jax.debug.callback`. x: where to start; None is
    `starting_noise`.

    Returns x at the last level (about [-1, 1] for a clean image, not clipped) and the film (without
    frames, arrays with a leading dimension of 0).
    Raises ValueError for a path that was not prepared, and for more frames than steps.
    """
    if not isinstance(path.waypoints, solver.waypoint):
        raise ValueError(
            f"The path has no {solver.waypoint.__name__}s, which this solver's steps need; give "
            "sample(...) the result of solver.prepare(path, schedule)"
        )
    num_steps = path.num_steps
    if not 0 <= frames <= num_steps:
        raise ValueError(f"frames={frames} is not in 0..{num_steps}, the number of sampling steps")
    if x is None:
        x = starting_noise(keys, shape) * path.start_std
    # Down to 1: 0 belongs to the start.
    counts = np.arange(num_steps, 0, -1)
    # One place for each frame; within a frame's stretch of steps the last state stays.
    places = np.arange(num_steps) * frames // num_steps
    ends = np.diff(places, append=frames) > 0
    blank = jnp.zeros((frames, *x.shape), x.dtype)
    film = Film(blank, blank)

    def stepped(
        now: Waypoint, next: Waypoint, x: Images, fresh_noise: Images, history: History, x0: Images
    ) -> tuple[Images, History, Images]:
        """A step of the solver, and the x0 that it began with."""
        predicted = []

        def watched(x: Images, level: Level) -> Prediction:
            predicted.append(denoiser(x, level))
            return predicted[-1]

        x, history = solver.step(watched, now, next, x, fresh_noise, history)
        return x, history, predicted[0].x0

    def noised(
        now: Waypoint, next: Waypoint, x: Images, fresh_noise: Images, history: History, x0: Images
    ) -> tuple[Images, History, Images]:
        """Draws x_next ~ q(x_next | x); predicts nothing, and starts a new history."""
        ratio = per_image(next.alpha) / per_image(now.alpha)
        x = ratio * x + jnp.sqrt(per_image(next.beta)) * fresh_noise
        return x, solver.init(x), x0

    def told(film: Film, place: Index) -> None:
        watch(place, film.x0[place])

    def body(carry: tuple, row: tuple) -> tuple[tuple, None]:
        x, history, x0, film = carry
        now, next, climbs, count, place, end = row
        fresh_noise = random_keys.normal(random_keys.at_step(keys, count), shape)
        step = now, next, x, fresh_noise, history, x0
        if climbs is None:
            x, history, x0 = stepped(*step)
        else:
            x, history, x0 = jax.lax.cond(climbs, noised, stepped, *step)
        if frames:
            film = Film(film.x.at[place].set(x), film.x0.at[place].set(x0))
        if frames and watch is not None:
            jax.lax.cond(end, told, lambda film, place: None, film, place)
        return (x, history, x0, film), None

    rows = jax.tree.map(jnp.asarray, (*path.steps(), path.noised, counts, places, ends))
    (x, _, _, film), _ = jax.lax.scan(body, (x, solver.init(x), jnp.zeros_like(x), film), rows)
    return x, film


def starting_noise(keys: Keys, shape: tuple[int, int, int]) -> Images:
    """Standard normal noise, one image for each key: the same for any number of steps."""
    return random_keys.normal(random_keys.at_step(keys, 0), shape)
