"""A classifier of noisy images: the encoder of ADM's U-Net with a pooling head.

Diffusion Models Beat GANs (arXiv:2105.05233), section 4 and appendix H. Its gradient guides a model
that was trained without it.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.diffusion.types import Condition, Images
from diffusion_jax.models.adm_encoder import ADMEncoder, ADMLayers
from diffusion_jax.models.field_types import Count, Sides
from diffusion_jax.models.layers.adm_blocks import split_heads
from diffusion_jax.models.layers.attention import attention
from diffusion_jax.models.layers.convolutions import TORCH_KERNEL
from diffusion_jax.models.network import Logits


class NoisyClassifier(ADMEncoder):
    """A classifier, which maps (x, c_noise) to logits (batch, num_classes) and takes no condition.

    Args:
        pool: "attention", with the mean of all pixels as its query (CLIP, arXiv:2103.00020, section
            2.4), or "mean".
    """

    blocks: Count = 4
    attention: Sides = (32, 16, 8)
    head_channels: Count | None = 64
    pool: Literal["attention", "mean"] = "attention"

    @property
    def classifies(self) -> bool:
        return True

    def check(self, resolution: int) -> None:
        super().check(resolution)
        if not self.num_classes:
            raise ValueError("model.num_classes=0 must be at least 1 for a classifier")

    def check_condition(self, condition: Condition) -> None:
        """Accepts any condition, since the output does not depend on it."""

    def example_condition(self, rows: int) -> Condition:
        return None

    def forward(self, x, c_noise, condition, train, examples):
        cond = self.embedding(c_noise, None, null_row=False)
        layers = ADMLayers(self, cond, train, examples)
        x, _ = layers.encode(x)
        x = layers.middle(x)
        x = jax.nn.silu(layers.norm(name="head_norm")(x.astype(jnp.float32)))
        if self.pool == "mean":
            kernel = nn.initializers.zeros_init()
            return nn.Dense(self.num_classes, kernel_init=kernel, name="head")(x.mean((1, 2)))
        heads = x.shape[-1] // self.head_channels if self.head_channels else self.num_heads
        return AttentionPool(self.num_classes, heads, name="pool")(x)


class AttentionPool(nn.Module):
    """Attention whose query is the mean of all pixels, added as a token."""

    features: int
    heads: int

    @nn.compact
    def __call__(self, x: Images) -> Logits:
        batch, height, width, channels = x.shape
        tokens = x.reshape(batch, height * width, channels)
        tokens = jnp.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
        scale = nn.initializers.normal(1 / np.sqrt(channels))
        positions = self.param("positions", scale, (height * width + 1, channels))
        tokens = tokens + jnp.asarray(positions)[None]
        qkv = nn.Dense(3 * channels, kernel_init=TORCH_KERNEL, name="qkv")(tokens)
        query, key, value = split_heads(qkv, self.heads, "new")
        h = attention(query[:, :, :1], key, value, 1 / np.sqrt(channels // self.heads))
        h = h.reshape(batch, channels)
        return nn.Dense(self.features, kernel_init=TORCH_KERNEL, name="head")(h)
