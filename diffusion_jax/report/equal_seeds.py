"""What runs draw from the same noises and classes, to be compared."""

from pathlib import Path

import numpy as np

from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.report.embedded import Embedded, embed_picture
from diffusion_jax.runs.run import load

SEED = 0
WIDTH = 400  # pixels that a picture is about as wide as


def draw(workdir: Path, count: int, most_bytes: int) -> Embedded | str:
    """`count` images of the newest checkpoint with the run's own settings; or why there are none.

    Noises and random classes are those of a fixed seed: the same for runs of one resolution and
    number of classes.
    """
    try:
        run = load(workdir)
        pixels = run.sample("random", count=count, seed=SEED)
        classes = guidance_models.classes_of(run.config, run.class_names)
        shown = captions(run.labels("random", count, seed=SEED), *classes)
    except (FloatingPointError, OSError, ValueError) as error:
        return f"Nothing was drawn: {error}"
    columns = int(np.ceil(np.sqrt(count)))
    upscale = max(1, WIDTH // (columns * pixels.shape[1]))
    picture = captioned_grid(np.asarray(pixels), shown, columns, upscale=upscale)
    return embed_picture(picture, most_bytes)
