"""Samples of several runs from equal noise and classes."""

from pathlib import Path

import numpy as np

from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.report.embedded_picture import EmbeddedPicture, embed_picture
from diffusion_jax.runs.run import load

SEED = 0
WIDTH = 400  # pixels, about, of a grid


def sample_equal_seeds(workdir: Path, count: int, most_bytes: int) -> EmbeddedPicture | str:
    """Samples `count` images from the newest checkpoint, with the run's own settings.

    Noise and classes depend on a fixed seed alone: they are equal for runs with the same resolution
    and number of classes. Returns the reason as text if the run cannot be sampled.
    """
    try:
        run = load(workdir)
        pixels = run.sample("random", count=count, seed=SEED)
        classes = guidance_models.classes_of(run.config, run.class_names)
        names = captions(run.labels("random", count, seed=SEED), *classes)
    except (FloatingPointError, OSError, ValueError) as error:
        return f"No samples: {error}"
    columns = int(np.ceil(np.sqrt(count)))
    upscale = max(1, WIDTH // (columns * pixels.shape[1]))
    grid = captioned_grid(np.asarray(pixels), names, columns, upscale=upscale)
    return embed_picture(grid, most_bytes)
