"""Experiment: the objects that a config describes, built once. Building them is its validation."""

from dataclasses import dataclass, replace

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.config import schema
from diffusion_jax.config.building import accepted, naming, one_line_errors, sigma_data_argument
from diffusion_jax.config.cross_checks import check_together
from diffusion_jax.config.named_configs import get_config
from diffusion_jax.config.schema import choose, options_in
from diffusion_jax.config.training import Training, make_training
from diffusion_jax.diffusion import keys, schedules
from diffusion_jax.diffusion.checks import check_range
from diffusion_jax.diffusion.guidance import Guidance
from diffusion_jax.diffusion.losses import ERRORS, LOSSES, Loss
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS, Parameterization
from diffusion_jax.models import MODELS, Network
from diffusion_jax.sampling import SOLVERS, SPACINGS, make_sampling_schedule
from diffusion_jax.sampling.settings import SamplingSettings
from diffusion_jax.sampling.spacing.automatic import AUTO, resolve_spacing


@dataclass(frozen=True)
class Experiment:
    """The objects that a config describes.

    Args:
        config: the config, with references resolved and locked; a run records it.
        model: network, without parameters.
        schedule: noise schedule of training.
        parameterization: target of the network, such as eps or v.
        loss: training loss. A sampler uses a learned variance only if the loss trains it.
        sampling: solver, sampling schedule and guidance.
        training: objective, optimizer, EMA weights and loop settings; None for sampling alone.
    """

    config: ConfigDict
    model: Network
    schedule: schedules.Schedule
    parameterization: Parameterization
    loss: Loss
    sampling: SamplingSettings
    training: Training | None

    @classmethod
    def from_config(cls, config: ConfigDict, *, training: bool = True) -> "Experiment":
        """Builds the experiment.

        training: False leaves out the training side, and does not check its fields.

        Raises ValueError, in one line, for the first mistake.
        """
        with one_line_errors():
            config = config.copy_and_resolve_references()
            schema.check_fields(config, get_config("base"))
            _check_numbers(config)
            model, schedule = make_model(config), _make_schedule(config)
            parameterization, loss = _make_parameterization(config), _make_loss(config)
            parts = (model, schedule, parameterization, loss)
            experiment = cls(
                config.lock(),
                *parts,
                _make_sampling(config, schedule, loss),
                make_training(config, *parts) if training else None,
            )
            check_together(experiment)
            model.check(config.data.resolution)
            return experiment

    def require_training(self) -> Training:
        """Returns `training`. Raises ValueError if `from_config` left it out."""
        if self.training is None:
            raise ValueError("The experiment was built with training=False; leave that out")
        return self.training

    def with_sampling(self, sampling: ConfigDict) -> "Experiment":
        """Returns the experiment with another section `config.sampling`.

        Raises ValueError, in one line, for a mistake in it.
        """
        config = self.config.copy_and_resolve_references()
        with one_line_errors(), config.unlocked():
            config.sampling = sampling
            schema.check_fields(config, get_config("base"))
            _check_numbers(config)
            made = _make_sampling(config, self.schedule, self.loss)
            experiment = replace(self, config=config.lock(), sampling=made)
            check_together(experiment)
            return experiment

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return (self.config.data.resolution,) * 2 + (self.model.channels,)


def make_model(config: ConfigDict) -> Network:
    """Returns the network: `MODELS[name](**the rest of the section)`."""
    fields = config.model.to_dict()
    network = MODELS[schema.check_network(fields.pop("name"))]
    quirks = {"original_quirks": config.original_quirks}
    return network(**fields, **accepted(network, quirks))


def _make_schedule(config: ConfigDict) -> schedules.Schedule:
    section = config.schedule
    choose(schedules.SCHEDULES, section.name, "schedule.name")
    with naming(f"schedule.{section.name}"):
        return schedules.make_schedule(
            section.name,
            num_steps=section.num_steps,
            first_timestep=section.first_timestep,
            rescale_timesteps=section.rescale_timesteps,
            original_quirks=config.original_quirks,
            **options_in(section, section.name),
        )


def _make_parameterization(config: ConfigDict) -> Parameterization:
    section = config.parameterization
    make = choose(PARAMETERIZATIONS, section.name, "parameterization.name")
    with naming("parameterization"):
        return make(**sigma_data_argument(config, make), **options_in(section, section.name))


def _make_loss(config: ConfigDict) -> Loss:
    section = config.loss
    make = choose(LOSSES, section.kind, "loss.kind")
    with naming(f"loss.{section.kind}"):
        loss = make(**options_in(section, section.kind))
    return replace(loss, error=choose(ERRORS, section.error, "loss.error"))


def _make_sampling(
    config: ConfigDict, schedule: schedules.Schedule, loss: Loss
) -> SamplingSettings:
    section = config.sampling
    solver = choose(SOLVERS, section.solver, "sampling.solver")
    options = options_in(section, section.solver)
    with naming(f"sampling.{section.solver}"):
        conventions = solver(**options).conventions
    choose((AUTO, *SPACINGS), section.spacing, "sampling.spacing")
    spacing = resolve_spacing(section.spacing, section.solver, config.schedule.name)
    with naming("sampling"):
        sampling_schedule = make_sampling_schedule(
            schedule,
            steps=section.steps,
            stride=section.stride,
            spacing=spacing,
            to_clean_image=conventions.to_clean_image,
            **options_in(section, spacing),
        )
        guidance = Guidance(
            scale=section.guidance,
            interval=_guidance_interval(section),
            rescale=section.guidance_rescale,
            clip=section.clip,
            dynamic_threshold=section.dynamic_threshold,
            classifier_scale=section.classifier_scale if section.classifier else None,
            learned_variance=loss.needs_vlb,  # only the bound trains it
        )
    return SamplingSettings(solver, options, sampling_schedule, guidance)


def _guidance_interval(sampling: ConfigDict) -> tuple[float, float] | None:
    low, high = sampling.guidance_low, sampling.guidance_high
    if low is None and high is None:
        return None
    return (0.0 if low is None else low, np.inf if high is None else high)


# Counts that no constructor below takes, each at least 1.
COUNTS = (
    "cpu_devices",
    "data.threads",
    "sampling.grid_rows",
    "sampling.grid_columns",
    "sampling.autoguidance_checkpoint",
    "sampling.classifier_checkpoint",
)


def _check_numbers(config: ConfigDict) -> None:
    keys.check_seed(config.seed)
    values = schema.flatten(config)
    for name in COUNTS:
        check_range(name, values[name], 1)
