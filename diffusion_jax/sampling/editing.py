"""Editing: what to start from, and what to keep, in place of pure noise and nothing.

An edit is a solver, a path and a start:
- image-to-image: `noised` images, at the first level of the rest of a path, `path.since(first)`
  (SDEdit, arXiv:2108.01073); variations are the same with a model's own images;
- inversion: images as they are, at the first level of `path.climbing()`;
- interpolation: `slerp` between two noises, or two inverted images;
- inpainting: `inpainting(solver, ...)`, from pure noise.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.paths import Path
from diffusion_jax.diffusion.process import q_sample
from diffusion_jax.diffusion.types import Images, Keys, PerImage
from diffusion_jax.sampling.inpainting import inpainting
from diffusion_jax.sampling.loop import starting_noise
from diffusion_jax.sampling.solver import Solver

# Rows that an edit is given, and what they are.
INPUTS = {
    "x": "where to start: the state at the first level of the path",
    "image": "the clean image that is noised to the first level of the path, where to start",
    "known": "the clean image whose pixels are kept where the mask is 1",
    "mask": "(count, height, width, 1): 1 for pixels to keep, 0 for pixels to draw",
}


def begin(
    solver: Solver,
    path: Path,
    keys: Keys,
    *,
    x: Images | None = None,
    image: Images | None = None,
    known: Images | None = None,
    mask: Images | None = None,
) -> tuple[Solver, Images | None]:
    """The solver and the start of an edit with these `INPUTS`.

    Raises ValueError for x with image, and for known without mask or the other way round.
    """
    if x is not None and image is not None:
        raise ValueError("x and image are both starts; give one of them")
    if (known is None) != (mask is None):
        raise ValueError("known and mask belong together")
    if known is not None:
        solver = inpainting(solver, known, mask)
    return solver, noised(path, keys, image) if image is not None else x


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
