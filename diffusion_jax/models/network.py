"""What training and sampling ask of a network."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from diffusion_jax.diffusion.types import Clock, Condition, Images, NetworkOutput

# What a field must be: a test, and its words.
RULES = {
    "at_least_1": (lambda value: value >= 1, "at least 1"),
    "at_least_0": (lambda value: value >= 0, "at least 0"),
    "in_0_to_1": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "dtype": (lambda value: value in ("float32", "bfloat16"), "float32 or bfloat16"),
}


class Network(nn.Module):
    """A network maps (x, clock, condition) to a NetworkOutput.

    Every network has the fields `channels`, of the images, and `num_classes`: 0 without classes;
    otherwise the condition is labels (batch,) in 0 .. num_classes - 1, and num_classes is the null
    label. A network with another kind of condition overrides `example_condition` and
    `null_condition`.
    """

    channels: int
    num_classes: int

    # Which of RULES each field must satisfy.
    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __call__(
        self,
        x: Images,
        clock: Clock,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> NetworkOutput:
        """x: (batch, height, width, channels). clock: (batch,), what it is told about the level.

        train: dropout on, which draws from `examples`: each one's index in the whole batch (of all
        devices); None: as they come.
        """
        raise NotImplementedError

    @property
    def learns_variance(self) -> bool:
        """Whether the output has a variance fraction, which some losses train."""
        return False

    @classmethod
    def check_fields(cls, fields: Mapping[str, Any]) -> None:
        """Raises ValueError for the first field, each by itself, that makes no network."""
        for rule, names in cls.FIELDS.items():
            holds, wanted = RULES[rule]
            for name in names:
                try:
                    right = holds(fields[name])
                except TypeError:  # a text where a number belongs
                    right = False
                if not right:
                    raise ValueError(f"model.{name}={fields[name]} must be {wanted}")

    def check(self, resolution: int) -> None:
        """Raises ValueError where the fields together make no network for images of this side."""

    def example_condition(self, rows: int) -> Condition:
        """Some condition of so many rows, for initialisation."""
        return jnp.zeros((rows,), jnp.int32) if self.num_classes else None

    def null_condition(self, condition: Condition) -> Condition:
        """The condition that says nothing, in the shape of this one; None if there is none."""
        if not self.num_classes:
            return None
        return jax.tree.map(lambda labels: jnp.full_like(labels, self.num_classes), condition)

    def check_condition(self, condition: Condition) -> None:
        """Raises ValueError unless labels come to a network with classes, and to no other."""
        if (condition is None) != (self.num_classes == 0):
            given = "no labels" if condition is None else "labels"
            raise ValueError(f"A model with num_classes={self.num_classes} was given {given}")
