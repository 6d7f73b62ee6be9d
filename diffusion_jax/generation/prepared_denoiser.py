"""A trained network before a sampling loop: what it computes ahead, and its denoiser."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from diffusion_jax.diffusion import guidance
from diffusion_jax.diffusion.parameterizations import denoiser_from_network
from diffusion_jax.diffusion.types import (
    Clock,
    Condition,
    ConditionalDenoiser,
    Images,
    Leaf,
    Level,
    Prediction,
)
from diffusion_jax.models.layers.precompute import (
    OF_CONDITION,
    OF_LEVEL,
    OF_PARAMS,
    computed,
)
from diffusion_jax.workdir.parameters import Trained


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Told:
    """A clock or a condition, as it is, and what the network computes from it alone."""

    plain: Leaf
    ahead: Leaf


class Ready:
    """A trained network with its parameters, for one batch of images.

    Its kernels are cast and standardised here, once. `clocks` and `condition` say what the network
    is told, with all that it makes of the level or the condition alone; `denoiser` goes on from
    there, in the loop.
    """

    def __init__(
        self,
        trained: Trained,
        params: PyTree,
        examples: Int[Array, "batch"],
        shape: tuple[int, int, int],
    ):
        """examples: the images' numbers. shape: (height, width, channels) of an image."""
        self._trained, self._examples, self._shape = trained, examples, shape
        self._variables = {"params": params}
        one = jnp.ones((1,)), trained.model.example_condition(1), examples[:1]
        self._variables |= self._computed(OF_PARAMS, *one)
        # Jitted, so that the network is traced once, however often they are called.
        self.clocks, self.condition = jax.jit(self._clocks), jax.jit(self._condition)

    def denoiser(self, x: Images, level: Level, condition: Condition) -> Prediction:
        """The network as a denoiser.

        condition: from `condition`. level: its clock is a number, or comes from `clocks`.
        """
        variables = self._variables
        if isinstance(level.clock, Told):
            variables = variables | jax.tree.map(self._rows, level.clock.ahead)
            level = replace(level, clock=level.clock.plain)
        if condition is not None:
            variables = variables | condition.ahead
            condition = condition.plain
        network = partial(self._trained.model.apply, variables, examples=self._examples)
        denoiser = denoiser_from_network(network, self._trained.parametrisation)
        return denoiser(x, level, condition)

    def weak(self, condition: Condition) -> ConditionalDenoiser:
        """The denoiser for `guidance.autoguidance`: at levels of another schedule.

        It is told this condition, in its own way, and no other.
        """
        told = self.condition(condition)
        return guidance.at_levels_of(
            lambda x, level, _: self.denoiser(x, level, told),
            partial(self._trained.schedule.at_sigma, xp=jnp),
        )

    def _clocks(self, clocks: Clock) -> Told:
        """What replaces the clocks of levels, `Path.with_clocks`."""
        model = self._trained.model
        turns = jnp.arange(model.clock_period)
        condition = model.example_condition(model.clock_period)

        def of_level(clock: Float[Array, ""]) -> PyTree:
            return self._computed(OF_LEVEL, jnp.full(turns.shape, clock), condition, turns)

        return Told(clocks, jax.vmap(of_level)(clocks))

    def _condition(self, condition: Condition) -> Told | None:
        """The condition as the denoiser takes it; None for a model without one."""
        if not self._trained.takes_condition:
            return None
        clock = jnp.ones(self._examples.shape)
        return Told(condition, self._computed(OF_CONDITION, clock, condition, self._examples))

    def _computed(self, collection: str, *told: PyTree) -> PyTree:
        return computed(self._trained.model, collection, self._variables, self._shape, *told)

    def _rows(self, of_level: Leaf) -> Leaf:
        """A row for each image, from a row for each way in which a clock is told."""
        period = self._trained.model.clock_period
        if period > 1:
            return of_level[self._examples % period]
        return jnp.broadcast_to(of_level, (*self._examples.shape, *of_level.shape[1:]))
