"""Editing: where to start, and what to keep, in place of pure noise and nothing.

An edit is a path, and what `edit` is given besides:
- image-to-image: `image`, on the rest of a path, `part_of(path, strength)` (SDEdit,
  arXiv:2108.01073); variations are the same with images that the model has drawn;
- inpainting: `known` and `mask`, on a whole path, or on a `resampled` one (RePaint);
- inversion: `x`, a clean image, on `path.climbing()`, with a deterministic solver;
- interpolation: `x`, a `slerp` between two noises or two inverted images, on a whole path.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.process import q_sample
from diffusion_jax.diffusion.sampling_schedule import Path
from diffusion_jax.diffusion.types import Denoiser, Images, Keys, PerImage
from diffusion_jax.sampling.inpainting import inpainting
from diffusion_jax.sampling.loop import Film, Index, sample, starting_noise
from diffusion_jax.sampling.solver import Solver


def edit(
    solver: Solver,
    denoiser: Denoiser,
    path: Path,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    watch: Callable[[Index, Images], None] | None = None,
    x: Images | None = None,
    image: Images | None = None,
    known: Images | None = None,
    mask: Images | None = None,
) -> tuple[Images, Film]:
    """`sample`, with a row for each image of what it starts from, or has to keep.

    x: where to start, the state at the first level of the path. image: a clean image, which is
    noised to that level. known: the clean image whose pixels are kept where the mask is 1. mask:
    (batch, height, width, 1), 1 for pixels to keep, 0 for pixels to draw.
    Raises ValueError for x with image, and for known without mask or the other way round.
    """
    if x is not None and image is not None:
        raise ValueError("x and image are both starts; give one of them")
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together")
    if known is not None:
        solver = inpainting(solver, known, mask)
    if image is not None:
        x = noised(path, keys, image)
    return sample(solver, denoiser, path, keys, shape, frames=frames, watch=watch, x=x)


def part_of(path: Path, strength: float) -> Path:
    """The last `strength` of the path's steps, rounded: for image-to-image.

    strength: in (0, 1]; 1 is the whole path, which leaves next to nothing of the image.
    Raises ValueError for a strength outside, or one of less than half a step.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength={strength} must be above 0, up to 1")
    kept = round(strength * path.num_steps)
    if not kept:
        raise ValueError(
            f"strength={strength} of {path.num_steps} steps is not one step; choose more steps or "
            f"a strength of at least {1 / path.num_steps:.2g}"
        )
    return path.since(path.num_steps - kept)


def noised(path: Path, keys: Keys, images: Images) -> Images:
    """x = signal x0 + noise eps at the first level of the path, with the keys' starting noise."""
    return q_sample(path.start, images, starting_noise(keys, images.shape[1:]))


def slerp(
    first: Images, second: Images, fraction: Float[Array, "batch"] | Float[Array, ""] | float
) -> Images:
    """Spherical interpolation, image by image: fraction 0 is the first, 1 the second.

    sin((1 - f) w) / sin(w) first + sin(f w) / sin(w) second, with w the angle between the two
    images as vectors. Between two noises it stays as long as noise is. DDIM (arXiv:2010.02502),
    appendix D.5. Images in the same direction are interpolated linearly.
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
