"""Rematerialization (activation checkpointing): blocks recomputed in the backward pass.

Training Deep Nets with Sublinear Memory Cost (arXiv:1604.06174).
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from diffusion_jax.diffusion.types import Images

# Maps of any size and number of channels.
Maps = Float[Array, "batch _ _ _"]


def apply_block(
    block: nn.Module,
    x: Images,
    *inputs: PyTree,
    remat: Sequence[int],
    train: bool,
    takes_train: bool = True,
) -> Maps:
    """Returns block(x, *inputs, train=train), rematerialized in training if `remat` has its side.

    Args:
        remat: sides of the maps whose blocks are rematerialized, such as (64, 32).
        takes_train: True if the block has the argument `train`, as blocks with dropout have.
    """
    options = {"train": train} if takes_train else {}

    def apply(block: nn.Module, x: Images, *inputs: PyTree) -> Maps:
        return block(x, *inputs, **options)

    recompute = train and x.shape[1] in remat
    return (nn.remat(apply) if recompute else apply)(block, x, *inputs)


def check_sides(field: str, given: Sequence[int], sides: Sequence[int]) -> None:
    """Raises ValueError if a given side is not among the sides of the levels.

    field: the name in `config.model`, "remat" or "attention".
    """
    if unknown := set(given) - set(sides):
        nearest = dict.fromkeys(min(sides, key=lambda side: abs(side - each)) for each in given)
        raise ValueError(
            f"model.{field}={given} has {min(unknown)}, which is not the side of a level: "
            f"{', '.join(map(str, sides))}. Set, for example, --config.model.{field}="
            f"{','.join(map(str, nearest))}"
        )
