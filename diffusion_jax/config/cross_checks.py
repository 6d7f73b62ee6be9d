"""Checks of the parts of an experiment against each other."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from diffusion_jax.config.experiment import Experiment


def check_together(experiment: "Experiment") -> None:
    """Raises ValueError for parts that do not fit each other."""
    config, model = experiment.config, experiment.model
    sampling = config.sampling
    smallest, largest = experiment.schedule.sigma_range
    low, high = experiment.sampling.guidance.interval or (0, np.inf)
    if low >= largest or high < smallest:
        raise ValueError(
            f"sampling.guidance_low={sampling.guidance_low} and sampling.guidance_high="
            f"{sampling.guidance_high} leave nothing to guide: sigma / alpha of this schedule is "
            f"from {smallest:.3g} to {largest:.3g}"
        )
    guided_by_null = sampling.guidance != 0 and not sampling.autoguidance
    if model.num_classes and guided_by_null and not config.label_dropout:
        raise ValueError(
            f"sampling.guidance={sampling.guidance} needs the null class, which label_dropout=0 "
            "does not train; set sampling.guidance=0 or label_dropout=0.1, say"
        )
    for guide in ("autoguidance", "classifier"):
        checkpoint = sampling[f"{guide}_checkpoint"]
        if checkpoint is not None and not sampling[guide]:
            raise ValueError(
                f"sampling.{guide}_checkpoint={checkpoint} needs sampling.{guide}, the workdir of "
                "a run"
            )
    _check_loss(experiment)
    _check_timesteps(experiment)


def _check_loss(experiment: "Experiment") -> None:
    """Raises ValueError unless loss, schedule and model fit each other."""
    config, loss, model = experiment.config, experiment.loss, experiment.model
    kind, error, weight = config.loss.kind, config.loss.error, config.loss.weight
    if weight != "uniform" and not loss.uses_error:
        raise ValueError(
            f"loss.weight={weight} weights the squared error, which loss.kind={kind} does not "
            "have. Set loss.weight=uniform"
        )
    if error != "squared" and not loss.uses_error:
        raise ValueError(
            f"loss.error={error} has no effect with loss.kind={kind}. Set loss.error=squared"
        )
    if error != "squared" and weight != "uniform":
        raise ValueError(
            f"loss.weight={weight} is derived for the squared error, and loss.error={error} was "
            "given. Set loss.weight=uniform"
        )
    if loss.needs_vlb and experiment.schedule.num_steps is None:
        raise ValueError(
            f"loss.kind={kind} has a variational bound, which needs a chain of steps; "
            f"schedule.name={config.schedule.name} is continuous. Set loss.kind=simple"
        )
    if kind == "vlb" and config.loss.vlb.variance != "small" and model.learns_variance:
        raise ValueError(
            f"loss.vlb.variance={config.loss.vlb.variance} is for models without a learned "
            "variance, and this model has one. Set loss.vlb.variance=small"
        )
    if loss.is_classification != model.classifies:
        needed = "cross_entropy" if model.classifies else "simple"
        raise ValueError(
            f"model.name={config.model.name} {'is' if model.classifies else 'is not'} a "
            f"classifier, and loss.kind={kind} does not train it. Set loss.kind={needed}"
        )
    if loss.needs_variance and not model.learns_variance:
        raise ValueError(
            f"loss.kind={kind} trains a variance, which this model does not have. Set "
            "loss.kind=simple"
        )


def _check_timesteps(experiment: "Experiment") -> None:
    """Raises ValueError if timesteps are sampled by a bound that the loss does not have."""
    config, training = experiment.config, experiment.training
    bounded = experiment.loss.needs_vlb or experiment.model.learns_variance
    if training is not None and training.timestep_sampler.part == "vlb" and not bounded:
        raise ValueError(
            f"timesteps.{config.timesteps.name}.part=vlb needs a bound, which "
            f"loss.kind={config.loss.kind} does not have with this model. Set part=loss"
        )
