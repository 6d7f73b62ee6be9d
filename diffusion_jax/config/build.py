"""What a config builds: a section holds the arguments of one constructor."""

import inspect
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from diffusion_jax.config.schema import options_in
from diffusion_jax.data import FolderOptions, Source, batches, make_source
from diffusion_jax.data.cache import Batch
from diffusion_jax.data.crops import Crop, RandomResizedCrop
from diffusion_jax.data.pipeline import check_size
from diffusion_jax.diffusion import guidance, schedules
from diffusion_jax.diffusion.losses import ERRORS, LOSSES, Loss
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS, Parameterization
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.timestep_samplers import TIMESTEPS, TimestepSampler
from diffusion_jax.diffusion.weights import WEIGHTS, Weight
from diffusion_jax.models import MODELS, Network
from diffusion_jax.sampling import SOLVERS, Solver, make_sampling_schedule
from diffusion_jax.training.ema import AVERAGES, Decay
from diffusion_jax.training.optimizers import adamw, learning_rate_schedule

# What `make_source` is not told: these belong to the order of the examples.
OF_THE_PIPELINE = ("flip", "drop_last", "smallest_crop", "threads")


def make_model(config: ConfigDict) -> Network:
    """The network of a config: `MODELS[name](**the rest of the section)`."""
    fields = config.model.to_dict()
    return MODELS[fields.pop("name")](**fields)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    return adamw(**config.optimizer)


def make_learning_rate(config: ConfigDict) -> optax.Schedule:
    """The number of updates made before -> the learning rate of the next."""
    of = config.optimizer
    return learning_rate_schedule(of.learning_rate, of.warmup_steps, of.decay_steps, of.decay)


def make_average(config: ConfigDict) -> Decay:
    """The decay of the average of the parameters."""
    name = config.average
    shared = {
        "decay": config.ema_decay,
        "start": config.ema_start,
        "batch_size": config.batch_size,
    }
    taken = inspect.signature(AVERAGES[name]).parameters
    shared = {key: value for key, value in shared.items() if key in taken}
    return AVERAGES[name](**shared, **options_in(config.averages, name))


def make_second_average(config: ConfigDict) -> Decay | None:
    """The decay of the second average; None if there is none."""
    options = options_in(config.averages, config.average)
    width = options.get("second_sigma_rel", 0.0)
    return AVERAGES[config.average](sigma_rel=width) if width else None


def make_schedule(config: ConfigDict) -> schedules.Schedule:
    """The schedule to train with."""
    schedule = config.schedule
    return schedules.make_schedule(
        schedule.name,
        schedule.num_steps,
        schedule.behaviour == "original",
        schedule.first_timestep,
        schedule.rescale_timesteps,
        **options_in(schedule, schedule.name),
    )


def make_timesteps(config: ConfigDict) -> TimestepSampler:
    """Which levels of the schedule training draws."""
    name = config.timesteps.name
    return TIMESTEPS[name](make_schedule(config), **options_in(config.timesteps, name))


def make_parameterization(config: ConfigDict) -> Parameterization:
    name = config.parameterization
    return PARAMETERIZATIONS[name](**options_in(config.parameterizations, name))


def make_loss(config: ConfigDict) -> Loss:
    name = config.loss.kind
    loss = LOSSES[name](**options_in(config.loss, name))
    return replace(loss, error=ERRORS[config.loss.error])


def make_weight(config: ConfigDict) -> Weight:
    """The weight of the loss, with its options filled in."""
    name = config.loss.weight
    return partial(WEIGHTS[name], **options_in(config.loss, name))


def make_solver(config: ConfigDict) -> Solver:
    name = config.sampling.solver
    return SOLVERS[name](**options_in(config.sampling, name))


def make_sampling_path(config: ConfigDict) -> SamplingSchedule:
    """The levels to visit when sampling."""
    sampling = config.sampling
    return make_sampling_schedule(
        make_schedule(config),
        steps=sampling.steps,
        stride=sampling.stride,
        spacing=sampling.spacing,
        to_clean_image=make_solver(config).conventions.to_clean_image,
        **options_in(sampling, sampling.spacing),
    )


def make_guidance(config: ConfigDict) -> guidance.Guidance:
    """How predictions are changed when sampling; 0 is off."""
    sampling = config.sampling
    low, high = sampling.guidance_low, sampling.guidance_high
    return guidance.Guidance(
        scale=sampling.guidance,
        interval=(low, high or np.inf) if low or high else None,
        rescale=sampling.guidance_rescale,
        clip=sampling.clip,
        quantile=sampling.dynamic_threshold,
        classifier_scale=sampling.classifier_scale if sampling.classifier else 0.0,
        learned_variance=make_loss(config).needs_bound,
    )


def check_data(config: ConfigDict) -> None:
    """Raises ValueError for a field of `config.data` out of range; nothing is opened."""
    data = config.data
    Crop(data.crop, data.resolution, data.shorter_side)
    RandomResizedCrop(data.resolution, data.smallest_crop)
    FolderOptions(**{field.name: data[field.name] for field in fields(FolderOptions)})


def open_source(config: ConfigDict) -> Source:
    """The data source, once it is known to fit the rest. Raises ValueError if it does not."""
    data, model = config.data, config.model
    arguments = {name: value for name, value in data.items() if name not in OF_THE_PIPELINE}
    source = make_source(
        channels=model.channels, num_classes=model.num_classes or None, **arguments
    )
    shape = source.description.shape
    wanted = (data.resolution, data.resolution, model.channels)
    if shape not in (wanted, (0, 0, model.channels)):
        raise ValueError(
            f"{data.name} has images of (height, width, channels) = {shape}, but data.resolution "
            f"and model.channels say {wanted}"
        )
    check_size(len(source), config.batch_size, drop_last=data.drop_last)
    return source


def training_batches(config: ConfigDict, source: Source, start: int = 0) -> Iterator[Batch]:
    """This process's part of the batches, from that at position `start` on."""
    data, crop = config.data, None
    if not source.description.shape[0]:
        crop = RandomResizedCrop(data.resolution, data.smallest_crop)
    return batches(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        flip=data.flip,
        drop_last=data.drop_last,
        crop=crop,
        start=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=data.threads,
    )


def read_squares(config: ConfigDict, source: Source, indices: np.ndarray) -> np.ndarray:
    """The images with these indices; of those that are cut at random, always the same part."""
    pixels = source.read(indices)["image"]
    if source.description.shape[0]:
        return pixels
    crop = RandomResizedCrop(config.data.resolution, config.data.smallest_crop)
    return crop(pixels, [np.random.default_rng([config.seed, index, 2]) for index in indices])
