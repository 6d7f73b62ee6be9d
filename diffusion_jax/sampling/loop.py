"""The sampling loop: any solver, along any path, as one `lax.scan`."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion_jax.diffusion import keys as random_keys
from diffusion_jax.diffusion.paths import Path
from diffusion_jax.diffusion.types import Denoiser, Images, Keys
from diffusion_jax.sampling.solver import Solver


def sample(
    solver: Solver,
    denoiser: Denoiser,
    path: Path,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    x: Images | None = None,
) -> tuple[Images, Float[Array, "frames batch height width channels"]]:
    """Follows the path from its first level to its last.

    keys: one for each image, the only source of its randomness, so that an image depends neither
    on its neighbours in the batch nor on the number of devices. shape: (height, width, channels).
    frames: how many states on the way to return, evenly spaced and ending with the last. x: where
    to start; None is noise of standard deviation `path.start_std`, drawn from the keys.

    Returns x at the last level (about [-1, 1] for a clean image, not clipped) and the frames (none:
    a leading dimension of 0).
    """
    num_steps = path.num_steps
    if not 0 <= frames <= num_steps:
        raise ValueError(f"frames={frames} is not in 0..{num_steps}, the number of sampling steps")
    # Steps are counted down to 1, so that key 0 is free for the start: the same for any num_steps.
    if x is None:
        start = random_keys.normal(random_keys.at_step(keys, 0), shape)
        x = start * path.start_std
    counts = np.arange(num_steps, 0, -1)
    # One place for each frame; within a frame's stretch of steps the last state stays.
    places = np.arange(num_steps) * frames // num_steps
    film = jnp.zeros((frames, *x.shape), x.dtype)

    def body(carry: tuple, row: tuple) -> tuple[tuple, None]:
        x, history, film = carry
        now, next, count, place = row
        fresh_noise = random_keys.normal(random_keys.at_step(keys, count), shape)
        x, history = solver.step(denoiser, now, next, x, fresh_noise, history)
        return (x, history, film.at[place].set(x) if frames else film), None

    rows = jax.tree.map(jnp.asarray, (*path.steps(), counts, places))
    (x, _, film), _ = jax.lax.scan(body, (x, solver.init(x), film), rows)
    return x, film
