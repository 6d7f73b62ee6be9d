"""The sampling loop: any one-step solver, from pure noise to images, as one `lax.scan`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion_jax.diffusion import keys as random_keys
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import Images, Keys, Steps

# (x_t, t, fresh noise) -> x_{t-1}: a solver bound to its schedule, denoiser and settings.
Step = Callable[[Images, Steps, Images], Images]


def sample(
    schedule: Schedule,
    step: Step,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    x_T: Images | None = None,
) -> tuple[Images, Float[Array, "frames batch height width channels"]]:
    """Runs the chain from x_T ~ N(0, I) down to x_0.

    keys: one for each image, the only source of its randomness, so that an image depends neither
    on its neighbours in the batch nor on the number of devices. shape: (height, width, channels).
    frames: how many states to return on the way, evenly spaced and ending with x_0. x_T: where to
    start, if not from noise that the keys give.

    Returns x_0 (about [-1, 1], not clipped) and the frames (none: a leading dimension of 0).
    """
    num_steps = schedule.num_steps
    if not 0 <= frames <= num_steps:
        raise ValueError(f"frames={frames} is not in 0..{num_steps}, the number of sampling steps")
    # Step 0 does not exist, so that its key is free for x_T: the same image for any num_steps.
    if x_T is None:
        x_T = random_keys.normal(random_keys.at_step(keys, 0), shape)
    steps = np.arange(num_steps, 0, -1)
    # One place for each frame; within a frame's stretch of steps the last state stays.
    places = np.arange(num_steps) * frames // num_steps
    film = jnp.zeros((frames, *x_T.shape), x_T.dtype)

    def body(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple, None]:
        x_t, film = carry
        t, place = now
        fresh_noise = random_keys.normal(random_keys.at_step(keys, t), shape)
        x_t = step(x_t, jnp.full(keys.shape, t), fresh_noise)
        return (x_t, film.at[place].set(x_t) if frames else film), None

    (x_0, film), _ = jax.lax.scan(body, (x_T, film), (jnp.asarray(steps), jnp.asarray(places)))
    return x_0, film
