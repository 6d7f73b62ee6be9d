"""Sample grids during training; for a classifier, its accuracy at each noise level."""

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from diffusion_jax import images, parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.data import Source
from diffusion_jax.diffusion import keys, process
from diffusion_jax.diffusion.parameterizations import network_inputs
from diffusion_jax.diffusion.types import Images, Level
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.generation.guidance_models import classes_of
from diffusion_jax.generation.prepared_denoiser import DiffusionModel
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.pictures.captions import captioned
from diffusion_jax.runs.datasets import read_images

# Parameters -> uint8 image of the grid; None if its samples or logits are not finite.
SampleGrid = Callable[[PyTree], np.ndarray | None]


def make_sample_grid(experiment: Experiment, source: Source) -> SampleGrid:
    """Returns the function that computes sample grids; raises as `Sampler.from_experiment`."""
    make = accuracy_by_noise if experiment.model.classifies else grid_of_samples
    return make(experiment, source)


def grid_of_samples(experiment: Experiment, source: Source) -> SampleGrid:
    """Returns a function that samples a grid, with a captioned row for each class."""
    config, model = experiment.config, experiment.model
    classes, names = classes_of(config, list(source.class_names))
    rows, columns = config.sampling.grid_rows, config.sampling.grid_columns
    labels = np.zeros(rows, np.int32)
    if classes:
        labels = np.rint(np.linspace(0, classes - 1, min(rows, classes))).astype(np.int32)
    condition = labels.repeat(columns)
    batches = -(-len(condition) // config.batch_size)  # of equal sizes
    batch_size = parallel.round_up(-(-len(condition) // batches))
    sampler = Sampler.from_experiment(experiment, batch_size=batch_size)
    if model.image_conditioned:  # the first of the training data
        indices = np.arange(len(condition)) % len(source)
        x0 = images.normalize(jnp.asarray(read_images(config, source, indices)))
        of_images = jnp.asarray(source.labels[indices], jnp.int32)
        condition = jax.device_get(model.training_condition(x0, of_images))

    def sample_grid(params: PyTree) -> np.ndarray | None:
        try:
            pixels, _ = sampler.pixels(params, condition, seed=config.seed)
        except images.NotFinite:
            return None
        upscale = max(1, 32 // config.data.resolution)
        grid = images.grid(pixels, columns, upscale=upscale)
        if not classes or model.image_conditioned:
            return grid
        return captioned(grid, captions(labels, classes, names))

    return sample_grid


def accuracy_by_noise(experiment: Experiment, source: Source) -> SampleGrid:
    """Returns a function that plots a classifier's accuracy, with a row for each noise level.

    The rows are at most grid_rows of the sampling levels, from low to high noise. Accuracy is over
    the first batch_size training images, of which a row shows grid_columns.
    """
    config, classifier = experiment.config, DiffusionModel.from_experiment(experiment)
    count = parallel.round_up(min(len(source), config.batch_size))
    indices = np.arange(count) % len(source)
    levels = experiment.sampling.sampling_schedule.levels
    sigmas = np.asarray(levels.sigma) / np.asarray(levels.alpha)
    sigmas = np.unique(sigmas[np.isfinite(sigmas) & (sigmas > 0)])
    places = np.linspace(0, len(sigmas) - 1, min(config.sampling.grid_rows, len(sigmas)))
    sigmas = sigmas[np.rint(places).astype(int)]
    program = parallel.map_batch(partial(_classify, classifier))
    pixels, labels = read_images(config, source, indices), source.labels[indices]
    columns = min(config.sampling.grid_columns, count)
    upscale = max(1, 32 // config.data.resolution)
    key = keys.derive(config.seed, "preview")

    def accuracy_grid(params: PyTree) -> np.ndarray | None:
        rows, captions = [], []
        for sigma in sigmas:
            level = jax.tree.map(np.float32, classifier.schedule.at_sigma(sigma))
            batch = {"image": pixels, "index": np.arange(count, dtype=np.int32)}
            x, predicted = program(params, (level, key), parallel.local_rows(batch))
            if (predicted < 0).any():
                return None
            rows.append(x[:columns] / np.hypot(level.alpha, level.sigma))
            captions.append(f"noise {sigma:.3g}: {np.mean(predicted == labels):.0%}")
        pixels_of_rows = images.to_uint8(np.concatenate(rows))
        return captioned(images.grid(pixels_of_rows, columns, upscale=upscale), captions)

    return accuracy_grid


def _classify(
    classifier: DiffusionModel, params: PyTree, numbers: PyTree, batch: PyTree
) -> tuple[Images, Int[Array, "rows"]]:
    """Returns (noisy images of a device's rows, the likeliest class of each).

    The class is -1 where logits are not finite.
    """
    level: Level
    level, key = numbers
    x0 = images.normalize(batch["image"])
    noise = keys.normal(keys.per_example(key, batch["index"]), x0.shape[1:])
    x = process.q_sample(level, x0, noise)
    logits = classifier.model.apply(
        {"params": params}, *network_inputs(classifier.parameterization, x, level)
    )
    logits = cast(Array, logits)
    finite = jnp.isfinite(logits).all(axis=1)
    return x, jnp.where(finite, jnp.argmax(logits, axis=1), -1)
