"""Blocks that are computed again in the backward pass, which saves the memory of their insides.

Training Deep Nets with Sublinear Memory Cost (arXiv:1604.06174).
"""

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from diffusion_jax.diffusion.types import Images
from diffusion_jax.models.layers.resolution_levels import numbers

# Maps of any size and number of channels.
Maps = Float[Array, "batch _ _ _"]


def apply_block(
    block: nn.Module, x: Images, *told: PyTree, remat: str, train: bool, is_told: bool = True
) -> Maps:
    """block(x, *told, train=train); in training again in the backward pass, where `remat` says so.

    remat: sides of the maps whose blocks are computed again, "64,32". is_told: whether the block
    takes `train`, as those with dropout do.
    """
    options = {"train": train} if is_told else {}

    def apply(block: nn.Module, x: Images, *told: PyTree) -> Maps:
        return block(x, *told, **options)

    again = train and x.shape[1] in sides_of(remat)
    return (nn.remat(apply) if again else apply)(block, x, *told)


def sides_of(remat: str) -> list[int]:
    """The sides in `model.remat`. Raises ValueError if they are no positive whole numbers."""
    return numbers("remat", remat)


def check_sides(remat: str, sides: list[int]) -> None:
    """Raises ValueError for a side that no map has."""
    if lost := set(sides_of(remat)) - set(sides):
        raise ValueError(
            f"model.remat={remat} has {min(lost)}, which is not the side of a level: "
            f"{', '.join(map(str, sides))}"
        )
