"""A classifier of noisy images: the encoder of ADM's U-Net with a pooling head.

Diffusion Models Beat GANs (arXiv:2105.05233), section 4 and appendix H. Its gradient guides a model
that was trained without it.
"""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffusion_jax.diffusion.types import CNoise, Condition, Images
from diffusion_jax.models.adm import ADM, check_blocks
from diffusion_jax.models.layers.adm import split_heads
from diffusion_jax.models.layers.adm_encoder import Parts, embedding
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL
from diffusion_jax.models.network import Network

Logits = Float[Array, "batch classes"]
POOLS = ("attention", "mean")


class NoisyClassifier(Network):
    """(x, c_noise) -> logits of the classes, (batch, num_classes). It is told no condition.

    Fields: see `ADM`. pool: "attention", a query made from the mean of all pixels (CLIP's,
    arXiv:2103.00020, section 2.4), or "mean".
    """

    channels: int
    num_classes: int
    width: int = 128
    multipliers: str = "1,2,3,4"
    blocks: int = 4
    attention: str = "32,16,8"
    num_heads: int = 4
    head_channels: int = 64
    qkv_order: str = "legacy"
    scale_shift: bool = True
    resample_blocks: bool = True
    conv_resample: bool = True
    smallest_group: int = 1
    dropout: float = 0.0
    pool: str = "attention"
    remat: str = ""
    dtype: str = "float32"

    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at_least_1": (*ADM.FIELDS["at_least_1"], "num_classes"),
        "at_least_0": ("head_channels",),
        "in_0_to_1": ("dropout",),
        "dtype": ("dtype",),
    }

    widths, attends = ADM.widths, ADM.attends

    @property
    def classifies(self) -> bool:
        return True

    def example_condition(self, rows: int) -> Condition:
        return None

    def check(self, resolution: int) -> None:
        """Raises ValueError if the fields do not fit each other, or images of this side."""
        check_blocks(self, resolution)
        if self.pool not in POOLS:
            raise ValueError(f"model.pool={self.pool} must be one of {', '.join(POOLS)}")

    @nn.compact
    def __call__(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> Logits:
        """x: (batch, height, width, channels). c_noise: (batch,), see `Level`."""
        cond = embedding(self, c_noise, None, width=self.width, table=None)
        parts = Parts(self, cond, examples, train)
        x, _ = parts.encode(x)
        x = parts.middle(x)
        x = jax.nn.silu(parts.norm(name="head_norm")(x.astype(jnp.float32)))
        if self.pool == "mean":
            kernel = nn.initializers.zeros_init()
            return nn.Dense(self.num_classes, kernel_init=kernel, name="head")(x.mean((1, 2)))
        heads = x.shape[-1] // self.head_channels if self.head_channels else self.num_heads
        return AttentionPool(self.num_classes, heads, name="pool")(x)


class AttentionPool(nn.Module):
    """What attention makes of the mean of all pixels, which is one more token, as a query."""

    features: int
    heads: int

    @nn.compact
    def __call__(self, x: Images) -> Logits:
        batch, height, width, channels = x.shape
        tokens = x.reshape(batch, height * width, channels)
        tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
        scale = nn.initializers.normal(1 / np.sqrt(channels))
        places = self.param("positions", scale, (height * width + 1, channels))
        tokens = tokens + jnp.asarray(places)[None]
        qkv = nn.Dense(3 * channels, kernel_init=TORCH_KERNEL, name="qkv")(tokens)
        query, key, value = split_heads(qkv, self.heads, "new")
        h = attention(query[:, :, :1], key, value, 1 / np.sqrt(channels // self.heads))
        h = h.reshape(batch, channels)
        return nn.Dense(self.features, kernel_init=TORCH_KERNEL, name="head")(h)
