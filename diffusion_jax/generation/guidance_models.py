"""Guidance models: a weaker run, or a classifier of noisy images, that guide another run."""

from dataclasses import dataclass, fields
from functools import partial
from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.classifier_guidance import LogProbability
from diffusion_jax.diffusion.losses import log_probability
from diffusion_jax.diffusion.parameterizations import network_inputs
from diffusion_jax.diffusion.types import Images, Labels, Level, PerExample
from diffusion_jax.files.paths import local_path
from diffusion_jax.generation.prepared_denoiser import DiffusionModel
from diffusion_jax.workdir.parameters import digest, load_params
from diffusion_jax.workdir.run_files import load_classes, load_config

# Kinds of runs by field of config.sampling.
KINDS = {"autoguidance": "generative model", "classifier": "classifier of noisy images"}


@dataclass(frozen=True)
class GuidanceModels:
    """Models that guide a run.

    Their schedules and parameterizations may differ from the run's own.

    Args:
        weak: a weaker model, in place of the null condition; or None.
        classifier: a model whose network `classifies`; or None.
    """

    weak: DiffusionModel | None = None
    classifier: DiffusionModel | None = None

    def names(self) -> set[str]:
        """Returns the names of the active guidance models."""
        return {field.name for field in fields(self) if getattr(self, field.name) is not None}


def load_guidance_models(experiment: Experiment) -> tuple[GuidanceModels, dict[str, PyTree]]:
    """Loads the models named in config.sampling: (models, EMA parameters by name).

    Raises FileNotFoundError or ValueError, naming the field, if the run or checkpoint does not
    exist, or if its image size, channels or classes differ.
    """
    config = experiment.config
    if config.sampling.classifier and experiment.model.image_conditioned:
        raise ValueError(
            f"sampling.classifier={config.sampling.classifier} is for models of classes, and this "
            "run enlarges images; leave it out"
        )
    guides, params = {}, {}
    for name, field in (("weak", "autoguidance"), ("classifier", "classifier")):
        if config.sampling[field]:
            guide, params[name] = _load(config, field)
            guides[name] = DiffusionModel.from_experiment(guide)
    return GuidanceModels(**guides), params


def checksums(params: dict[str, PyTree]) -> dict[str, str]:
    """Returns the SHA-256 of the parameters of guidance models, for provenance."""
    names = {"weak": "autoguidance_sha256", "classifier": "classifier_sha256"}
    return {names[name]: digest(found) for name, found in params.items()}


def classes_of(config: ConfigDict, names: list[str]) -> tuple[int, list[str]]:
    """Returns (number, names) of the classes that can be sampled: the run's, or its classifier's.

    names: the run's own. Raises FileNotFoundError or ValueError if the classifier is not a run, or
    if both have classes and these differ.
    """
    field = config.sampling.classifier
    if not field:
        return config.model.num_classes, names
    workdir = local_path(field)
    try:
        count, others = load_config(workdir).model.num_classes, load_classes(workdir)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"sampling.classifier={field}: {error}") from None
    if not config.model.num_classes:
        return count, others
    for number, (own, other) in enumerate(zip(names, others)):
        if own != other:
            raise ValueError(
                f"sampling.classifier={field} names class {number} {other!r}, and the guided run "
                f"names it {own!r}; choose a classifier of the same classes"
            )
    return config.model.num_classes, names or others


def log_probability_of(
    classifier: DiffusionModel, params: PyTree, labels: Labels
) -> LogProbability:
    """Returns log p(label | x) of a classifier at levels of any schedule; 0 for the null label."""
    network = partial(classifier.model.apply, {"params": params})

    def log_probability_at(x: Images, level: Level) -> PerExample:
        noise = jnp.asarray(level.sigma, jnp.float32)
        own = classifier.schedule.at_sigma(noise / jnp.asarray(level.alpha, jnp.float32), xp=jnp)
        inputs = network_inputs(classifier.parameterization, x * (own.sigma / noise), own)
        return log_probability(cast(Array, network(*inputs)), labels)

    return log_probability_at


def _load(config: ConfigDict, field: str) -> tuple[Experiment, PyTree]:
    """Loads (experiment, EMA parameters) of the run named in sampling.`field`."""
    name = config.sampling[field]
    workdir = local_path(name)
    try:
        experiment = Experiment.from_config(load_config(workdir), training=False)
        guide = experiment.config
        if experiment.model.classifies != (field == "classifier"):
            raise ValueError(f"a run of model.name={guide.model.name} is no {KINDS[field]}")
        step = config.sampling[f"{field}_checkpoint"]
        _, params = load_params(workdir, experiment, checkpoint=step)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"sampling.{field}={name}: {error}") from None
    own, other = config.model.num_classes, guide.model.num_classes
    # A model without classes may be guided by a classifier, and may be a weak model itself.
    classes = (own or other, other) if field == "classifier" else (own, other or own)
    for what, own, other in (
        ("resolution", config.data.resolution, guide.data.resolution),
        ("channels", config.model.channels, guide.model.channels),
        ("classes", *classes),
    ):
        if own != other:
            raise ValueError(
                f"sampling.{field}={name} has {other} for {what}, and the guided run has {own}; "
                "choose a run on the same images"
            )
    return experiment, params
