"""Checks of the fields of `UNet` against each other and the images."""

from itertools import pairwise

from diffusion_jax.models.field_types import check_fields
from diffusion_jax.models.layers.block_chain import BLOCKS, own_options, parse_blocks
from diffusion_jax.models.layers.convolutions import quarter_groups
from diffusion_jax.models.layers.embeddings import time_embedding_kind
from diffusion_jax.models.layers.original import original_frequencies
from diffusion_jax.models.layers.remat import check_sides
from diffusion_jax.models.network import Network


def check(unet: Network, resolution: int) -> None:
    """Raises ValueError if the fields do not fit each other, or images of this side."""
    blocks = parse_blocks(unet.blocks)
    for block in blocks:
        if BLOCKS[block].NEEDS_CLASSES and not unet.num_classes:
            raise ValueError(
                f"model.blocks={unet.blocks!r} has the block {block!r}, which needs classes, but "
                "model.num_classes is 0; drop the block or set the number of classes"
            )
    _check_options(unet)
    _check_groups(unet)
    kind = time_embedding_kind(unet.time_embedding, unet.original_quirks)
    if kind == "standard" and unet.time_dim % 2:
        raise ValueError(f"model.time_dim={unet.time_dim} is not even (sine and cosine halves)")
    if kind != "standard":
        original_frequencies(unet.time_dim)  # raises ValueError beyond its limit
    if resolution % 2**unet.levels:
        raise ValueError(
            f"data.resolution={resolution} is not divisible by 2^model.levels = "
            f"{2**unet.levels}; lower model.levels or choose another resolution"
        )
    sides = [resolution // 2**level for level in range(unet.levels + 1)]
    check_sides("remat", unet.remat, sides)
    for level, side in enumerate(sides):
        if "atn" in blocks and side > unet.window and side % unet.window:
            raise ValueError(
                f"The block 'atn' cuts maps of {side}x{side} (level {level}) into squares of "
                f"model.window={unet.window}, which does not divide them"
            )


def _check_options(unet: Network) -> None:
    for block, options in unet.options.items():
        known = own_options(BLOCKS[block]) if block in BLOCKS else {}
        if unknown := options.keys() - known.keys():
            raise ValueError(
                f"Unknown option model.options.{block}.{min(unknown)}; its options: "
                f"{', '.join(known) or 'none'}"
            )
        if known:
            check_fields(BLOCKS[block], f"model.options.{block}.", options)


def _check_groups(unet: Network) -> None:
    """Raises ValueError for channels that the norms of a block cannot cut into groups of four."""
    blocks, image, widths = parse_blocks(unet.blocks), unet.channels, unet.widths()
    ways = [*pairwise(widths), (widths[-1], widths[-1]), (widths[0], widths[0])]
    ways += [(2 * lower, upper) for upper, lower in pairwise(widths)]
    ways.append((widths[0], 2 * image))
    counts = {image}  # of the two heads
    for before, after in ways:
        places = zip(blocks, (before, *[after] * len(blocks)))
        counts |= {count for block, count in places if BLOCKS[block].GROUPS_OF_FOUR}
    for count in sorted(counts):
        if count % quarter_groups(count):
            raise ValueError(
                f"model.width={unet.width} and model.channels={image} give a layer of {count} "
                f"channels, which {unet.blocks} cannot cut into {quarter_groups(count)} equal "
                "groups; take a width that is a multiple of 4"
            )
