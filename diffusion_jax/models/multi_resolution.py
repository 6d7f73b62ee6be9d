"""Base class of the U-Nets whose levels follow from `multipliers` and `attention`."""

from diffusion_jax.models.field_types import Count, Dtype, Rate, Sides
from diffusion_jax.models.layers.remat import check_sides
from diffusion_jax.models.network import Network


class MultiResolutionNetwork(Network):
    """A network with maps at several resolutions, each half as high and wide as the one before.

    Args:
        width: base number of channels.
        multipliers: level i has width * multipliers[i] channels.
        blocks: residual blocks of a level on the way down.
        attention: sides of the maps with self-attention, such as (16, 8).
        dropout: rate in the residual blocks.
        remat: see `apply_block`.
        dtype: of convolutions and matrix products, see `dtype_of`. Parameters, norms,
            embeddings and the output are float32.
    """

    width: Count = 128
    multipliers: tuple[int | float, ...] = (1, 2, 3, 4)
    blocks: Count = 3
    attention: Sides = (16, 8)
    dropout: Rate = 0.0
    remat: Sides = ()
    dtype: Dtype = "auto"

    def widths(self) -> list[int]:
        """Returns the channels of each level. Raises ValueError unless they are whole numbers."""
        widths = [self.width * multiplier for multiplier in self.multipliers]
        if any(width % 1 for width in widths):
            raise ValueError(
                f"model.width={self.width} times model.multipliers={self.multipliers} must be "
                "whole numbers"
            )
        return [int(width) for width in widths]

    def channels_by_side(self, resolution: int) -> dict[int, int]:
        """Maps the side of each level's maps to their channels, for images of this side.

        Raises:
            ValueError: there is no level, the side cannot be halved often enough, or a side in
                `attention` or `remat` is not one of a level.
        """
        widths = self.widths()
        if not widths:
            raise ValueError(f"model.multipliers={self.multipliers} has no level")
        if resolution % 2 ** (len(widths) - 1):
            raise ValueError(
                f"data.resolution={resolution} is not divisible by {2 ** (len(widths) - 1)}, which "
                f"the {len(widths)} levels of model.multipliers={self.multipliers} need"
            )
        by_side = {resolution // 2**level: channels for level, channels in enumerate(widths)}
        check_sides("attention", self.attention, list(by_side))
        check_sides("remat", self.remat, list(by_side))
        return by_side
