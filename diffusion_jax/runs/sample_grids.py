"""The pictures that training shows: samples, or how well a classifier does at each noise."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax import images, parallel
from diffusion_jax.config import build
from diffusion_jax.data import Source
from diffusion_jax.diffusion import keys, process
from diffusion_jax.diffusion.parameterizations import network_inputs
from diffusion_jax.diffusion.types import Images, Level
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.generation.guidance_models import classes_of
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.pictures.captions import captioned
from diffusion_jax.workdir.parameters import DiffusionModel

# Parameters -> a picture, uint8; None if what they draw or predict is not finite.
Preview = Callable[[PyTree], np.ndarray | None]


def make_preview(config: ConfigDict, source: Source) -> Preview:
    """The picture of a config's model. Raises what `Generator.from_config` does."""
    classifies = build.make_model(config).classifies
    return (accuracy_by_noise if classifies else grid_of_samples)(config, source)


def grid_of_samples(config: ConfigDict, source: Source) -> Preview:
    """Samples: a row for each class (at most grid_rows), named at its left."""
    sampling = config.sampling
    classes, names = classes_of(config, list(source.class_names))
    rows, columns = sampling.grid_rows, sampling.grid_columns
    if not classes:
        shown = np.zeros(rows, np.int32)
    else:
        shown = np.rint(np.linspace(0, classes - 1, min(rows, classes))).astype(np.int32)
    condition = shown.repeat(columns)
    batches = -(-len(condition) // config.batch_size)  # of equal sizes
    batch_size = parallel.round_up(-(-len(condition) // batches))
    generator = Generator.from_config(config, batch_size=batch_size)
    model = generator.model
    if model.image_conditioned:  # the first of the training data
        indices = np.arange(len(condition)) % len(source)
        x0 = images.normalize(jnp.asarray(build.read_squares(config, source, indices)))
        of_images = jnp.asarray(source.labels[indices], jnp.int32)
        condition = jax.device_get(model.training_condition(x0, of_images))

    def draw(params: PyTree) -> np.ndarray | None:
        drawn, _ = generator(params, condition, seed=config.seed)
        if not np.isfinite(drawn).all():
            return None
        upscale = max(1, 32 // config.data.resolution)
        picture = images.grid(images.to_uint8(drawn), columns, upscale=upscale)
        if not classes or model.image_conditioned:
            return picture
        return captioned(picture, captions(shown, classes, names))

    return draw


def accuracy_by_noise(config: ConfigDict, source: Source) -> Preview:
    """The share of images that a classifier knows: a row for each of some noises, from low to high.

    The noises are of the sampling path (at most grid_rows), the images the first of the training
    data (at most batch_size), of which a row shows grid_columns.
    """
    sampling, classifier = config.sampling, DiffusionModel.from_config(config)
    count = parallel.round_up(min(len(source), config.batch_size))
    indices = np.arange(count) % len(source)
    levels = build.make_sampling_path(config).levels
    sigmas = np.asarray(levels.sigma) / np.asarray(levels.alpha)
    sigmas = np.unique(sigmas[np.isfinite(sigmas) & (sigmas > 0)])
    places = np.linspace(0, len(sigmas) - 1, min(sampling.grid_rows, len(sigmas)))
    sigmas = sigmas[np.rint(places).astype(int)]
    program = parallel.spread(partial(_predicted, classifier))
    pixels, labels = build.read_squares(config, source, indices), source.labels[indices]
    columns = min(sampling.grid_columns, count)
    upscale = max(1, 32 // config.data.resolution)

    def draw(params: PyTree) -> np.ndarray | None:
        rows, captions = [], []
        for sigma in sigmas:
            level = jax.tree.map(np.float32, classifier.schedule.at_sigma(sigma))
            batch = {"image": pixels, "index": np.arange(count, dtype=np.int32)}
            x, predicted = program(params, (level, seed_key), parallel.local_rows(batch))
            if (predicted < 0).any():
                return None
            rows.append(x[:columns] / np.hypot(level.alpha, level.sigma))
            captions.append(f"noise {sigma:.3g}: {np.mean(predicted == labels):.0%}")
        shown = images.to_uint8(np.concatenate(rows))
        return captioned(images.grid(shown, columns, upscale=upscale), captions)

    seed_key = keys.derive(config.seed, "preview")
    return draw


def _predicted(
    classifier: DiffusionModel, params: PyTree, numbers: PyTree, batch: PyTree
) -> tuple[Images, Int[Array, "rows"]]:
    """(noisy images of a device's rows, the likeliest class of each).

    -1 in place of a class whose logits are not finite: the likeliest of them would be the first.
    """
    level: Level
    level, key = numbers
    x0 = images.normalize(batch["image"])
    noise = keys.normal(keys.per_example(key, batch["index"]), x0.shape[1:])
    x = process.q_sample(level, x0, noise)
    logits = classifier.model.apply(
        {"params": params}, *network_inputs(classifier.parameterization, x, level)
    )
    finite = jnp.isfinite(logits).all(axis=1)
    return x, jnp.where(finite, jnp.argmax(logits, axis=1), -1)
