"""Draws images of a run into a folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import images, parallel
from diffusion_jax.config import overrides
from diffusion_jax.config.validation import validate
from diffusion_jax.generation import class_labels as class_labels
from diffusion_jax.generation import guidance_models, outputs
from diffusion_jax.generation.image_shards import Shards, check_free
from diffusion_jax.generation.pixels import Origin, finite_pixels
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.workdir.classes import load_classes
from diffusion_jax.workdir.layout import next_folder
from diffusion_jax.workdir.parameters import digest, load_params

BATCH = 64  # images at a time, if there is no wish

# (all images, those that are there already) -> what is told of each batch, as a context.
Progress = Callable[[int, int], AbstractContextManager[Callable[[int], Any]]]


@contextmanager
def silent(count: int, done: int) -> Iterator[Callable[[int], None]]:
    yield lambda images: None


def draw_into(
    out: Path | None,
    workdir: Path,
    config: ConfigDict,
    choice: outputs.Choice,
    *,
    labels: str = "random",
    count: int | None = None,
    seed: int = 0,
    checkpoint: int | None = None,
    ema: bool = True,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[Path, str]:
    """Draws images with the config's sampling settings, and writes what was chosen.

    out: the folder, or None for a new one in the workdir. If it holds images of a call with the
    same arguments that was stopped, this goes on from there, and gives the same files. labels,
    count: see `labels.parse_labels`. batch_size: global.

    Returns the files, with a note on each; none except in process 0. Raises FileNotFoundError or
    ValueError for arguments that do not fit the run or each other, and if the model draws values
    that are not finite.
    """
    validate(config)
    classes, names = guidance_models.classes_of(config, load_classes(workdir))
    chosen = class_labels.parse_labels(labels, count, classes, names, seed)
    choice.check_count(len(chosen))
    out = out or next_folder(workdir / "generated")
    check_free(out)
    frames = choice.film_frames
    batch_size = batch_size or parallel.round_up(min(len(chosen), BATCH))
    generator = Generator.from_config(config, batch_size=batch_size, frames=frames)
    if config.sampling.classifier and (chosen == classes).all():
        raise ValueError(
            "--labels=none was given with a classifier, which can only guide to classes; name some"
        )
    if generator.model.image_conditioned:
        generator.model.check_condition(chosen)  # labels alone do not tell it enough
    step, params = load_params(workdir, config, checkpoint=checkpoint, ema=ema)
    settings = {
        **overrides.in_use(config),
        "checkpoint": step,
        "params": "ema" if ema else "raw",
        "parameters_sha256": digest(params),
        "seed": seed,
        "batch_size": batch_size,
        **({"frames": frames, "film_of": list(choice.film_of)} if frames else {}),
        **class_labels.described(chosen, classes, names),
    }
    settings |= guidance_models.digests(generator.guide_params)
    origin = Origin(workdir, step, config.sampling.guidance)

    def draw(first: int, number: int) -> dict[str, np.ndarray]:
        drawn, film = generator(params, chosen[first : first + number], seed=seed, start=first)
        arrays = {"images": finite_pixels(drawn, origin)}
        for of in choice.film_of if frames else ():
            arrays[f"film_{of}"] = images.to_uint8(getattr(film, of))
        return arrays

    shards = Shards.begin(out, settings, len(chosen), batch_size)
    left = sum(map(shards.images_in, shards.missing()))
    writes = jax.process_index() == 0
    with progress(len(chosen), len(chosen) - left) as advance:
        shards.fill(draw, advance, write=writes)
    if not writes:
        return {}
    # A film's images are few, and in one shard.
    films = {of: next(shards.blocks(f"film_{of}")) for of in choice.film_of} if frames else {}
    captions = class_labels.captions(chosen, classes, names)
    drawn = outputs.Drawn(lambda: shards.blocks("images"), chosen, captions, films)
    written = {}
    for name, write in outputs.files(choice).items():
        if not (out / name).exists():
            write(shards.folder / name, drawn)
            (shards.folder / name).replace(out / name)
        written[out / name] = outputs.note(name, drawn.count)
    shards.finish()
    return written
