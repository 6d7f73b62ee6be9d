"""The network of ESRGAN and Real-ESRGAN, which quadruples both sides of an image.

Enhanced SRGAN (arXiv:1809.00219), section 3.1; Real-ESRGAN (arXiv:2107.10833) trains the same
network on degraded images. It maps images to images and is no denoiser. Modules have the names of
the published weights.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.models.layers.convolutions import conv

PARAMETERS = 16_697_987  # of RealESRGAN_x4plus
FACTOR = 4
RESIDUAL_SCALE = 0.2  # beta of section 3.1

Map = Float[Array, "batch height width features"]

_conv = partial(conv, size=3, dtype=jnp.float32)
_relu = partial(nn.leaky_relu, negative_slope=0.2)


class DenseBlock(nn.Module):
    """x + 0.2 f(x): five convolutions, each on x and the outputs of all convolutions before it."""

    growth: int

    @nn.compact
    def __call__(self, x: Map) -> Map:
        seen = x
        for index in range(1, 5):
            new = _relu(_conv(self.growth, name=f"conv{index}")(seen))
            seen = jnp.concatenate([seen, new], axis=-1)
        return x + RESIDUAL_SCALE * _conv(x.shape[-1], name="conv5")(seen)


class RRDB(nn.Module):
    """The residual-in-residual dense block: x + 0.2 g(x), where g is three dense blocks."""

    growth: int

    @nn.compact
    def __call__(self, x: Map) -> Map:
        y = x
        for index in range(1, 4):
            y = DenseBlock(self.growth, name=f"rdb{index}")(y)
        return x + RESIDUAL_SCALE * y


class RRDBNet(nn.Module):
    """A network that enlarges RGB images in [0, 1] to four times their height and width.

    Results may lie slightly outside [0, 1]. The defaults are the sizes of RealESRGAN_x4plus.

    Args:
        blocks: number of RRDBs.
        features: channels of the maps.
        growth: channels added by each convolution of a dense block.
    """

    blocks: int = 23
    features: int = 64
    growth: int = 32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch 4*height 4*width 3"]:
        first = _conv(self.features, name="conv_first")(images)
        x = first
        for index in range(self.blocks):
            x = RRDB(self.growth, name=f"body_{index}")(x)
        x = first + _conv(self.features, name="conv_body")(x)
        for name in ("conv_up1", "conv_up2"):
            x = _relu(_conv(self.features, name=name)(_double(x)))
        x = _relu(_conv(self.features, name="conv_hr")(x))
        return _conv(3, name="conv_last")(x)


def _double(x: Map) -> Float[Array, "batch 2*height 2*width features"]:
    """Repeats each pixel in a square of 2x2."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
