"""A network prepared for a sampling loop: precomputed activations, and its denoiser."""

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion import guidance
from diffusion_jax.diffusion.parameterizations import Parameterization, denoiser_from_network
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import (
    CNoise,
    Condition,
    ConditionalDenoiser,
    Images,
    Leaf,
    Level,
    NetworkFunction,
    Prediction,
)
from diffusion_jax.models import Network
from diffusion_jax.models.layers.precompute import (
    OF_CONDITION,
    OF_LEVEL,
    OF_PARAMS,
    compute_collection,
)


@dataclass(frozen=True)
class DiffusionModel:
    """A network, with the schedule and the parameterization that it was trained with."""

    model: Network
    schedule: Schedule
    parameterization: Parameterization

    @classmethod
    def from_experiment(cls, experiment: Experiment) -> "DiffusionModel":
        return cls(experiment.model, experiment.schedule, experiment.parameterization)

    @property
    def is_conditional(self) -> bool:
        """True if the network takes a condition."""
        return self.model.example_condition(1) is not None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Precomputed:
    """A c_noise or a condition, with the activations that depend on it alone."""

    value: Leaf
    activations: Leaf


class PreparedDenoiser:
    """A trained network with its parameters, for one batch of images.

    The constructor casts and normalizes kernels once. `prepare_c_noises` and `prepare_condition`
    compute the activations that depend on the level or the condition alone; `denoiser` uses them in
    the sampling loop.
    """

    def __init__(
        self,
        model: DiffusionModel,
        params: PyTree,
        examples: Int[Array, "batch"],
        shape: tuple[int, int, int],
    ):
        """Prepares the network for a batch.

        examples: indices of the images. shape: (height, width, channels) of an image.
        """
        self._model, self._examples, self._shape = model, examples, shape
        self._variables = {"params": params}
        one = jnp.ones((1,)), model.model.example_condition(1), examples[:1]
        self._variables |= self._compute(OF_PARAMS, *one)
        # Jitted, so that repeated calls trace the network once.
        self.prepare_c_noises = jax.jit(self._prepare_c_noises)
        self.prepare_condition = jax.jit(self._prepare_condition)

    def denoiser(self, x: Images, level: Level, condition: Condition) -> Prediction:
        """Applies the network as a denoiser.

        level: c_noise is a scalar, or a row of `prepare_c_noises`. condition: a result of
        `prepare_condition`.
        """
        variables = self._variables
        if isinstance(level.c_noise, Precomputed):
            variables = variables | jax.tree.map(self._rows, level.c_noise.activations)
            level = replace(level, c_noise=level.c_noise.value)
        if condition is not None:
            variables = variables | condition.activations
            condition = condition.value
        network = partial(self._model.model.apply, variables, examples=self._examples)
        denoiser = denoiser_from_network(
            cast(NetworkFunction, network), self._model.parameterization
        )
        return denoiser(x, level, condition)

    def as_weak(self, condition: Condition) -> ConditionalDenoiser:
        """Returns the denoiser as the weak model of `guidance.autoguidance`.

        It takes levels of any schedule, and ignores the condition of a call.
        """
        prepared = self.prepare_condition(condition)
        return guidance.at_own_levels(
            lambda x, level, _: self.denoiser(x, level, prepared),
            partial(self._model.schedule.at_sigma, xp=jnp),
        )

    def _prepare_c_noises(self, c_noises: CNoise) -> Precomputed:
        """Precomputes for the c_noise of each level; see `sampling_schedule.map_c_noises`."""
        model = self._model.model
        rows = jnp.arange(model.embedding_period)
        condition = model.example_condition(model.embedding_period)

        def of_level(c_noise: Float[Array, ""]) -> PyTree:
            return self._compute(OF_LEVEL, jnp.full(rows.shape, c_noise), condition, rows)

        return Precomputed(c_noises, jax.vmap(of_level)(c_noises))

    def _prepare_condition(self, condition: Condition) -> Precomputed | None:
        """Precomputes for a condition; returns None for a model without one."""
        if not self._model.is_conditional:
            return None
        c_noise = jnp.ones(self._examples.shape)
        return Precomputed(
            condition, self._compute(OF_CONDITION, c_noise, condition, self._examples)
        )

    def _compute(self, collection: str, *inputs: PyTree) -> PyTree:
        return compute_collection(
            self._model.model, collection, self._variables, self._shape, *inputs
        )

    def _rows(self, of_level: Leaf) -> Leaf:
        """Expands the rows of one embedding period to a row for each image."""
        period = self._model.model.embedding_period
        if period > 1:
            return of_level[self._examples % period]
        return jnp.broadcast_to(of_level, (*self._examples.shape, *of_level.shape[1:]))
