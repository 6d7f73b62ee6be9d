"""The ADM U-Net, which is Improved DDPM's with residual blocks that resample, and more attention.

Diffusion Models Beat GANs (arXiv:2105.05233), section 3; Improved DDPM (arXiv:2102.09672). With the
options of `configs/edm64.py` it is the network that EDM (arXiv:2206.00364) has on ImageNet.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, Images, Labels, NetworkOutput
from diffusion_jax.models.layers.adm import ORDERS, square_conv
from diffusion_jax.models.layers.adm_encoder import Parts, embedding
from diffusion_jax.models.layers.embeddings import LabelEmbedding
from diffusion_jax.models.layers.remat import check_sides
from diffusion_jax.models.layers.resolution_levels import (
    attending,
    channels_by_side,
    widths,
)
from diffusion_jax.models.network import Network


class ADM(Network):
    """(x, c_noise, labels) -> NetworkOutput.

    stem -> levels down -> middle -> levels up -> head. Level i has width * multipliers[i] channels
    and blocks residual blocks on the way down, one more on the way up, each on a skip connection of
    its own. Between levels the sides are halved and doubled.

    multipliers: "1,2,3,4" or "0.5,1,2", a level each. attention: sides of the maps that have
    attention, "32,16". num_heads: of attention; head_channels: if not 0, one head for each so many
    channels instead. qkv_order: see `adm_layers.ORDERS`. scale_shift: see `ResidualBlock`.
    resample_blocks: residual blocks halve and double the sides; otherwise convolutions do.
    conv_resample: whether these learn anything. smallest_group: channels in a group of group norm,
    of which there are at most 32. learned_null: the null class has an embedding of its own;
    otherwise it is 0. learn_variance: a second output, v of Improved DDPM, or with direct_variance
    log sigma^2 itself. low_resolution: side of the images to enlarge, for a model of
    super-resolution, whose condition is {"label": labels or None, "image": those images}; 0: none.
    remat: see `apply_block`. dtype: "float32" or "bfloat16", for convolutions and matrix products;
    parameters, norms, embeddings and the output are float32.
    """

    channels: int
    num_classes: int
    width: int = 128
    multipliers: str = "1,2,3,4"
    blocks: int = 3
    attention: str = "16,8"
    num_heads: int = 4
    head_channels: int = 0
    qkv_order: str = "legacy"
    scale_shift: bool = True
    resample_blocks: bool = True
    conv_resample: bool = True
    smallest_group: int = 1
    learned_null: bool = False
    learn_variance: bool = True
    direct_variance: bool = False
    dropout: float = 0.0
    low_resolution: int = 0
    remat: str = ""
    dtype: str = "float32"

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": ("channels", "width", "blocks", "num_heads", "smallest_group"),
        "at_least_0": ("num_classes", "head_channels", "low_resolution"),
        "in_0_to_1": ("dropout",),
        "dtype": ("dtype",),
    }

    @property
    def learns_variance(self) -> bool:
        return self.learn_variance

    def widths(self) -> list[int]:
        """The channels of each level."""
        return widths(self)

    def attends(self, side: int) -> bool:
        """Whether maps of this side have attention."""
        return side in attending(self)

    @property
    def image_conditioned(self) -> bool:
        return self.low_resolution > 0

    def check(self, resolution: int) -> None:
        check_blocks(self, resolution)
        widths = self.widths()
        joined = [low + high for low, high in itertools.pairwise(widths)]  # by skip connections
        check_groups(joined, self.smallest_group)
        if self.direct_variance and not self.learn_variance:
            raise ValueError("model.direct_variance=True needs model.learn_variance=True")
        if self.low_resolution and resolution % self.low_resolution:
            raise ValueError(
                f"data.resolution={resolution} is not divisible by "
                f"model.low_resolution={self.low_resolution}"
            )

    def check_condition(self, condition: Condition) -> None:
        """Raises ValueError for a condition of another kind."""
        if self.low_resolution:
            if not isinstance(condition, dict) or set(condition) != {"label", "image"}:
                side = f"{self.low_resolution}x{self.low_resolution}"
                raise ValueError(
                    f"This model enlarges images of {side}: use `scripts.edit enlarge --images`, "
                    'or in Python the condition {"label": labels, "image": images}'
                )
            condition = condition["label"]
        super().check_condition(condition)

    def example_condition(self, rows: int) -> Condition:
        label = super().example_condition(rows)
        if not self.low_resolution:
            return label
        side = self.low_resolution
        return {"label": label, "image": jnp.zeros((rows, side, side, self.channels))}

    def null_condition(self, condition: Condition) -> Condition:
        if not self.low_resolution:
            return super().null_condition(condition)
        return condition | {"label": super().null_condition(condition["label"])}

    def training_condition(self, x0: Images, labels: Labels) -> Condition:
        label = super().training_condition(x0, labels)
        if not self.low_resolution:
            return label
        return {"label": label, "image": shrunk(x0, self.low_resolution)}

    @nn.compact
    def __call__(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> NetworkOutput:
        self.check_condition(condition)
        labels = condition
        if self.low_resolution:
            labels, small = condition["label"], condition["image"]
            large = jax.image.resize(small, x.shape, "linear")
            x = jnp.concatenate([x, large.astype(x.dtype)], axis=-1)
        table = None
        if labels is not None:
            dim = 4 * self.width
            table = LabelEmbedding(self.num_classes, dim, self.learned_null, name="label_embedding")
        cond = embedding(self, c_noise, labels, width=self.width, table=table)
        parts = Parts(self, cond, examples, train)
        x, kept = parts.encode(x)
        x = parts.middle(x)
        for level, features in reversed(list(enumerate(self.widths()))):
            for index in range(self.blocks + 1):
                x = jnp.concatenate([x, kept.pop()], axis=-1)
                x = parts.residual(x, features, f"up_{level}_{index}_res")
                if self.attends(x.shape[1]):
                    x = parts.attend(x, f"up_{level}_{index}_attention")
            if level:
                x = parts.resampled(x, "up", f"up_{level}_grow")

        x = jax.nn.silu(parts.norm(name="head_norm")(x.astype(jnp.float32)))
        outputs = 2 if self.learn_variance else 1
        x = square_conv(outputs * self.channels, 3, "head", jnp.float32, zero=True)(x)
        if not self.learn_variance:
            return NetworkOutput(x)
        estimate, variance = jnp.split(x, 2, axis=-1)
        if self.direct_variance:
            return NetworkOutput(estimate, log_variance=variance)
        # Improved DDPM's program has the place between the variances in [-1, 1].
        return NetworkOutput(estimate, variance_fraction=(variance + 1) / 2)


def check_blocks(network: Any, resolution: int) -> None:
    """Raises ValueError if the fields of blocks do not fit each other, or images of this side."""
    sides = channels_by_side(network, resolution)
    check_sides(network.remat, list(sides))
    if network.qkv_order not in ORDERS:
        raise ValueError(f"model.qkv_order={network.qkv_order} must be one of {', '.join(ORDERS)}")
    if network.width % 2:
        raise ValueError(f"model.width={network.width} must be even")
    with_attention = {*attending(network), min(sides)}
    for width in (sides[side] for side in with_attention):
        name = "head_channels" if network.head_channels else "num_heads"
        if width % getattr(network, name):
            raise ValueError(
                f"model.{name}={getattr(network, name)} does not divide the {width} channels of "
                "a level with attention"
            )
    check_groups(sides.values(), network.smallest_group)


def shrunk(images: Images, side: int) -> Float[Array, "batch side side channels"]:
    """Images of this side, each pixel the mean of the square that it replaces."""
    batch, height, _, channels = images.shape
    factor = height // side
    return images.reshape(batch, side, factor, side, factor, channels).mean((2, 4))


def check_groups(widths: Iterable[int], smallest_group: int) -> None:
    """Raises ValueError if so many channels cannot be cut into groups of one size."""
    for width in widths:
        if width % min(32, max(1, width // smallest_group)):
            raise ValueError(
                f"{width} channels, of a level or of two joined ones, cannot be cut into groups of "
                f"at least model.smallest_group={smallest_group}; choose multiples of 32"
            )
