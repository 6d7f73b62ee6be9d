"""ADM's U-Net: Improved DDPM's with residual blocks that resample, and more attention.

Diffusion Models Beat GANs (arXiv:2105.05233), section 3; Improved DDPM (arXiv:2102.09672). With the
options of `configs/edm64.py` it is the ImageNet network of EDM (arXiv:2206.00364).
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_jax.diffusion.types import Condition, Images, Labels, NetworkOutput
from diffusion_jax.models.adm_encoder import ADMEncoder, ADMLayers
from diffusion_jax.models.field_types import Count
from diffusion_jax.models.layers.adm_blocks import square_conv


class ADM(ADMEncoder):
    """ADM's U-Net: stem, levels down, middle, levels up, head.

    A level has `blocks` residual blocks on the way down and one more on the way up, each with a
    skip connection. Between levels the sides are halved and doubled.

    Args:
        learned_null: True if the embedding of the null class is learned, False if it is 0.
        learn_variance: True for a second output, v of Improved DDPM.
        direct_variance: True if this output is log sigma^2 itself.
        num_heads_upsample: attention heads on the way up, if head_channels is None; None for
            num_heads.
        low_resolution: side of the input images of a super-resolution model, whose condition is
            {"label": labels or None, "image": images}; None for other models.
    """

    learned_null: bool = False
    learn_variance: bool = True
    direct_variance: bool = False
    num_heads_upsample: Count | None = None
    low_resolution: Count | None = None

    @property
    def learns_variance(self) -> bool:
        return self.learn_variance

    @property
    def image_conditioned(self) -> bool:
        return self.low_resolution is not None

    def check(self, resolution: int) -> None:
        super().check(resolution)
        self.check_groups(low + high for low, high in itertools.pairwise(self.widths()))
        if self.direct_variance and not self.learn_variance:
            raise ValueError("model.direct_variance=True needs model.learn_variance=True")
        self._check_num_heads_upsample(resolution)
        if self.low_resolution and resolution % self.low_resolution:
            raise ValueError(
                f"data.resolution={resolution} is not divisible by "
                f"model.low_resolution={self.low_resolution}"
            )

    def _check_num_heads_upsample(self, resolution: int) -> None:
        heads = self.num_heads_upsample
        if heads and self.head_channels:
            raise ValueError(
                f"model.num_heads_upsample={heads} has no effect with "
                f"model.head_channels={self.head_channels}; set one of them to None"
            )
        sides = self.channels_by_side(resolution)
        for side in self.attention:
            if heads and sides[side] % heads:
                raise ValueError(
                    f"model.num_heads_upsample={heads} does not divide the {sides[side]} channels "
                    "of a level with attention"
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
        if self.low_resolution is None:
            return label
        side = self.low_resolution
        return {"label": label, "image": jnp.zeros((rows, side, side, self.channels))}

    def null_condition(self, condition: Condition) -> Condition:
        if self.low_resolution is None:
            return super().null_condition(condition)
        return condition | {"label": super().null_condition(condition["label"])}

    def training_condition(self, x0: Images, labels: Labels) -> Condition:
        label = super().training_condition(x0, labels)
        if self.low_resolution is None:
            return label
        return {"label": label, "image": shrunk(x0, self.low_resolution)}

    def forward(self, x, c_noise, condition, train, examples):
        labels = condition
        if self.low_resolution:
            labels, small = condition["label"], condition["image"]
            large = jax.image.resize(small, x.shape, "linear")
            x = jnp.concatenate([x, large.astype(x.dtype)], axis=-1)
        cond = self.embedding(c_noise, labels, null_row=self.learned_null)
        layers = ADMLayers(self, cond, train, examples)
        x, skips = layers.encode(x)
        x = layers.middle(x)
        for level, features in reversed(list(enumerate(self.widths()))):
            for index in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = layers.residual(x, features, f"up_{level}_{index}_res")
                if x.shape[1] in self.attention:
                    heads = self.num_heads_upsample or self.num_heads
                    x = layers.attend(x, f"up_{level}_{index}_attention", heads)
            if level:
                x = layers.resampled(x, "up", f"up_{level}_grow")

        x = jax.nn.silu(layers.norm(name="head_norm")(x.astype(jnp.float32)))
        outputs = 2 if self.learn_variance else 1
        x = square_conv(outputs * self.channels, 3, "head", jnp.float32, zero=True)(x)
        if not self.learn_variance:
            return NetworkOutput(x)
        estimate, variance = jnp.split(x, 2, axis=-1)
        if self.direct_variance:
            return NetworkOutput(estimate, log_variance=variance)
        # Improved DDPM's program has v in [-1, 1], and not in [0, 1].
        return NetworkOutput(estimate, variance_fraction=(variance + 1) / 2)


def shrunk(images: Images, side: int) -> Float[Array, "batch side side channels"]:
    """Returns images of this side, each pixel the mean of the square that it replaces."""
    batch, height, _, channels = images.shape
    factor = height // side
    return images.reshape(batch, side, factor, side, factor, channels).mean((2, 4))
