"""What training and sampling ask of a network."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from diffusion_jax.diffusion.types import CNoise, Condition, Images, Labels, NetworkOutput

# What a field must be: a test, and its words.
RULES = {
    "at_least_1": (lambda value: value >= 1, "at least 1"),
    "at_least_0": (lambda value: value >= 0, "at least 0"),
    "in_0_to_1": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "dtype": (lambda value: value in ("float32", "bfloat16"), "float32 or bfloat16"),
}


class Network(nn.Module):
    """A network maps (x, c_noise, condition) to a NetworkOutput.

    Every network has the fields `channels`, of the images, and `num_classes`: 0 without classes;
    otherwise the condition is labels (batch,) in 0 .. num_classes - 1, and num_classes is the null
    label. A network with another kind of condition overrides `example_condition`, `null_condition`
    and `training_condition`.
    """

    channels: int
    num_classes: int

    # Which of RULES each field must satisfy.
    FIELDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __call__(
        self,
        x: Images,
        c_noise: CNoise,
        condition: Condition = None,
        *,
        train: bool = False,
        examples: Int[Array, "batch"] | None = None,
    ) -> NetworkOutput:
        """x: (batch, height, width, channels). c_noise: (batch,), see `Level`.

        train: whether dropout is on. examples: the index of each example in the global batch, from
        which dropout draws; None: their order.
        """
        raise NotImplementedError

    @property
    def learns_variance(self) -> bool:
        """Whether the output has a learned variance, which some losses train."""
        return False

    @property
    def classifies(self) -> bool:
        """Whether the output is logits of the classes (batch, num_classes), and no NetworkOutput.

        Such a network draws nothing; it guides others.
        """
        return False

    @property
    def embedding_period(self) -> int:
        """Period of the time embedding over the batch: example i is embedded as i modulo this."""
        return 1

    @classmethod
    def option_sections(cls) -> dict[str, Any]:
        """Fields that are sections of their own in a config, with the defaults within."""
        return {}

    @classmethod
    def check_fields(cls, fields: Mapping[str, Any]) -> None:
        """Raises ValueError for the first field that breaks its rule."""
        for rule, names in cls.FIELDS.items():
            holds, wanted = RULES[rule]
            for name in names:
                try:
                    right = holds(fields[name])
                except TypeError:  # a text where a number belongs
                    right = False
                if not right:
                    raise ValueError(f"model.{name}={fields[name]} must be {wanted}")
        for name, parameter in inspect.signature(cls).parameters.items():
            kind = type(parameter.default)
            if name not in fields or kind not in (int, float, str, bool):
                continue
            value = fields[name]
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"model.{name}={value} must be of type {kind.__name__}")

    def check(self, resolution: int) -> None:
        """Raises ValueError if the fields do not fit each other, or images of this side."""

    def example_condition(self, rows: int) -> Condition:
        """A condition with this number of rows, for initialization."""
        return jnp.zeros((rows,), jnp.int32) if self.num_classes else None

    def null_condition(self, condition: Condition) -> Condition:
        """The null condition, in the shape of this one; None for a network without one."""
        if not self.num_classes:
            return None
        return jax.tree.map(lambda labels: jnp.full_like(labels, self.num_classes), condition)

    def training_condition(self, x0: Images, labels: Labels) -> Condition:
        """What the network is told of training images: their labels, if it has classes."""
        return labels if self.num_classes else None

    @property
    def image_conditioned(self) -> bool:
        """Whether the condition has images, so that it cannot be made from labels alone."""
        return False

    def constrained(self, params: PyTree) -> PyTree:
        """The parameters as training keeps them: at the start, and after each update."""
        return params

    def check_condition(self, condition: Condition) -> None:
        """Raises ValueError for labels without classes, or for classes without labels."""
        if (condition is None) != (self.num_classes == 0):
            given = "no labels" if condition is None else "labels"
            raise ValueError(f"A model with num_classes={self.num_classes} was given {given}")
