"""Base class of the networks: the interface that training and sampling use."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition, Images, Labels, NetworkOutput
from diffusion_jax.models.field_types import Count, CountOrZero, check_fields

Examples = Int[Array, "batch"]
Logits = Float[Array, "batch classes"]


class Network(nn.Module):
    """A network, which maps (x, c_noise, condition) to a NetworkOutput.

    Subclasses implement `forward` and add fields, which become fields of `config.model`. The type
    of a field defines its allowed values; see `field_types`.

    The default condition is labels (batch,) in 0 .. num_classes - 1, and num_classes for the null
    label; without classes it is None. A network with another kind of condition overrides
    `check_condition`, `example_condition`, `null_condition` and `training_condition`.

    Args:
        channels: of the images.
        num_classes: 0 for a network without classes.
    """

    channels: Count
    num_classes: CountOrZero

    # jaxtyping does not check the constructor, which `__post_init__` does in the config's words.
    __no_type_check__ = True

    def __post_init__(self) -> None:
        check_fields(self, "model.", vars(self))
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Examples | None = None,
    ) -> NetworkOutput | Logits:
        """Applies the network.

        Args:
            x: images, (batch, height, width, channels).
            c_noise: noise conditioning, (batch,); see `Level`.
            condition: labels (batch,), or None for a network without classes.
            train: True turns dropout on.
            examples: global index of each example of the batch, (batch,), which seeds its dropout
                mask. The default, 0, 1, ..., is for a single device.

        Raises:
            ValueError: the condition does not fit the network.
        """
        self.check_condition(condition)
        return self.forward(x, c_noise, condition, train, examples)

    def forward(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition,
        train: bool,
        examples: Examples | None,
    ) -> NetworkOutput | Logits:
        """Computes the output; `__call__` documents the arguments. Submodules are created here."""
        raise NotImplementedError(f"{type(self).__name__} must implement `forward`")

    @property
    def learns_variance(self) -> bool:
        """True if the output has a learned variance, which some losses train."""
        return False

    @property
    def classifies(self) -> bool:
        """True if the output is logits of the classes, (batch, num_classes).

        Such a network guides others and cannot be sampled.
        """
        return False

    @property
    def image_conditioned(self) -> bool:
        """True if the condition contains images besides labels, as in super-resolution."""
        return False

    @property
    def embedding_period(self) -> int:
        """Period of the time embedding over the batch: example i is embedded as i modulo this."""
        return 1

    @classmethod
    def option_sections(cls) -> dict[str, Any]:
        """Returns the fields that are sections of a config, with the defaults within."""
        return {}

    def check(self, resolution: int) -> None:
        """Raises ValueError if the fields do not fit each other, or images of this side."""

    def check_condition(self, condition: Condition) -> None:
        """Raises ValueError for labels without classes, or for classes without labels."""
        if (condition is None) != (self.num_classes == 0):
            given = "no labels" if condition is None else "labels"
            raise ValueError(f"A model with num_classes={self.num_classes} was given {given}")

    def example_condition(self, rows: int) -> Condition:
        """Returns a condition with this number of rows, for initialization."""
        return jnp.zeros((rows,), jnp.int32) if self.num_classes else None

    def null_condition(self, condition: Condition) -> Condition:
        """Returns the null condition in the shape of this one; None for a network without one."""
        if not self.num_classes:
            return None
        return jax.tree.map(lambda labels: jnp.full_like(labels, self.num_classes), condition)

    def training_condition(self, x0: Images, labels: Labels) -> Condition:
        """Returns the condition of training images: their labels, or None without classes."""
        return labels if self.num_classes else None

    def constrained(self, params: PyTree) -> PyTree:
        """Projects the parameters, at initialization and after each update; the default does not.

        EDM2 normalizes its kernels here (forced weight normalization).
        """
        return params
