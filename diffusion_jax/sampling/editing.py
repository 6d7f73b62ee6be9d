"""Editing: a start other than pure noise, and pixels to keep.

An edit is a sampling schedule, and inputs of `sample_with_inputs`:
- image-to-image: `image`, on the rest of a schedule, `part_of(sampling_schedule, strength)`
  (SDEdit, arXiv:2108.01073); variations are the same with images that the model has sampled;
- inpainting: `known` and `mask`, on a whole schedule, or on a `resampled` one (RePaint);
- inversion: `x`, a clean image, on `sampling_schedule.reversed()`, with a deterministic solver;
- interpolation: `x`, a `slerp` between two noises or two inverted images, on a whole schedule.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.process import q_sample
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Denoiser, Images, Keys, PerImage
from diffusion_jax.sampling.inpainting import inpainting
from diffusion_jax.sampling.loop import Index, Trajectory, sample, starting_noise
from diffusion_jax.sampling.solver import Coefficients, Solver


def sample_with_inputs(
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
    image: Images | None = None,
    known: Images | None = None,
    mask: Images | None = None,
) -> tuple[Images, Trajectory]:
    """Runs `sample`, from a given start or with known pixels if there are any.

    Args:
        x: the state at the first level of the schedule.
        image: a clean image, which is noised to the first level.
        known: the clean image whose pixels are kept where the mask is 0.
        mask: (batch, height, width, 1), 1 for pixels to sample, 0 for pixels to keep.

    Raises:
        ValueError: both x and image, or one of known and mask without the other.
    """
    if x is not None and image is not None:
        raise ValueError("x and image both set the start; give one")
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together")
    if known is not None and mask is not None:
        solver = inpainting(solver, known, mask)
    if image is not None:
        x = noised(sampling_schedule, keys, image)
    how = {"frames": frames, "watch": watch, "x": x}
    return sample(solver, denoiser, sampling_schedule, coefficients, keys, shape, **how)


def part_of(sampling_schedule: SamplingSchedule, strength: float) -> SamplingSchedule:
    """Returns the last part of the schedule, for image-to-image.

    strength: fraction of the steps, in (0, 1], rounded to whole steps; 1 keeps almost nothing of
    the image. Raises ValueError if it is out of range, or rounds to no step.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength={strength} must be above 0, up to 1")
    total = sampling_schedule.num_steps
    kept = round(strength * total)
    if not kept:
        raise ValueError(
            f"strength={strength} of {total} steps rounds to 0 steps; choose more steps or "
            f"a strength of at least {1 / total:.2g}"
        )
    return sampling_schedule.from_level(total - kept)


def noised(sampling_schedule: SamplingSchedule, keys: Keys, images: Images) -> Images:
    """Returns alpha x0 + sigma eps at the first level, with the keys' starting noise."""
    return q_sample(sampling_schedule.start, images, starting_noise(keys, images.shape[1:]))


def slerp(
    first: Images, second: Images, fraction: Float[Array, "batch"] | Float[Array, ""] | float
) -> Images:
    """Interpolates each image along a great circle: fraction 0 is the first, 1 the second.

    sin((1 - f) w) / sin(w) first + sin(f w) / sin(w) second, with w the angle between the two
    images as vectors. Between two noises the length is kept. DDIM (arXiv:2010.02502), appendix D.5.
    Images in the same direction are interpolated linearly.
    """
    axes = (1, 2, 3)

    def length(images: Images) -> PerImage:
        return jnp.sqrt(jnp.sum(images**2, axis=axes, keepdims=True))

    product = length(first) * length(second)
    cosine = jnp.sum(first * second, axis=axes, keepdims=True) / jnp.maximum(product, 1e-12)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    fraction = jnp.asarray(fraction, jnp.float32)
    fraction = fraction if fraction.ndim == 0 else fraction[:, None, None, None]
    sine = jnp.sin(angle)
    parallel = sine < 1e-4
    sine = jnp.where(parallel, 1.0, sine)
    one = jnp.where(parallel, 1 - fraction, jnp.sin((1 - fraction) * angle) / sine)
    two = jnp.where(parallel, fraction, jnp.sin(fraction * angle) / sine)
    return one * first + two * second
