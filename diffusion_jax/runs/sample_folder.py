"""Sampling into a folder, in shards that an interrupted call resumes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax import images, parallel
from diffusion_jax.config import overrides
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.generation import class_labels as class_labels
from diffusion_jax.generation import guidance_models, outputs
from diffusion_jax.generation.image_shards import Shards, check_free
from diffusion_jax.runs.run import Run
from diffusion_jax.workdir.parameters import digest
from diffusion_jax.workdir.run_files import next_folder

BATCH = 64  # images at a time, unless given

# (number of images, number there already) -> a context that is called with each batch's number.
Progress = Callable[[int, int], AbstractContextManager[Callable[[int], Any]]]


@contextmanager
def silent(count: int, done: int) -> Iterator[Callable[[int], None]]:
    yield lambda images: None


def sample_into(
    run: Run,
    experiment: Experiment,
    out: Path | None,
    choice: outputs.OutputOptions,
    *,
    labels: str = "random",
    count: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[Path, str]:
    """Samples images of a run into a folder, and writes the files of the choice.

    Args:
        experiment: of the run, with the settings of sampling.
        out: the folder, or None for a new one in the workdir. An interrupted call with the same
            arguments is resumed, with the same files.
        labels, count: see `class_labels.parse_labels`.
        batch_size: on all devices.

    Returns:
        The files, with a note on each; none except in process 0.

    Raises:
        ValueError: for arguments that do not fit the run or each other, and if the samples are not
            finite.
    """
    config = experiment.config
    classes, names = guidance_models.classes_of(config, run.class_names)
    chosen = class_labels.parse_labels(labels, count, classes, names, seed)
    choice.check_count(len(chosen))
    out = out or next_folder(run.workdir / "generated")
    check_free(out)
    if classes and config.sampling.classifier and (chosen == classes).all():
        raise ValueError(
            "--labels=none was given with a classifier, which can only guide to classes; name some"
        )
    if experiment.model.image_conditioned:
        experiment.model.check_condition(chosen)  # labels alone are not its condition
    frames = choice.film_frames
    batch_size = batch_size or parallel.round_up(min(len(chosen), BATCH))
    sampler = run.sampler(experiment, len(chosen), batch_size=batch_size, frames=frames)
    settings = {
        **overrides.settings_in_use(experiment),
        "checkpoint": run.step,
        "params": "ema" if run.ema else "raw",
        "parameters_sha256": digest(run.params),
        "seed": seed,
        "batch_size": batch_size,
        **({"frames": frames, "film_of": list(choice.film_of)} if frames else {}),
        **class_labels.label_settings(chosen, classes, names),
    }
    settings |= guidance_models.checksums(sampler.guide_params)

    def sample(first: int, number: int) -> dict[str, np.ndarray]:
        rows = chosen[first : first + number]
        pixels, trajectory = run.sample_with(sampler, experiment, rows, seed=seed, start=first)
        arrays = {"images": pixels}
        for of in choice.film_of if frames else ():
            arrays[f"film_{of}"] = images.to_uint8(getattr(trajectory, of))
        return arrays

    shards = Shards.begin(out, settings, len(chosen), batch_size)
    left = sum(map(shards.images_in, shards.missing()))
    writes = jax.process_index() == 0
    with progress(len(chosen), len(chosen) - left) as advance:
        shards.fill(sample, advance, write=writes)
    if not writes:
        return {}
    # A film's images are few, and in one shard.
    films = {of: next(shards.blocks(f"film_{of}")) for of in choice.film_of} if frames else {}
    captions = class_labels.captions(chosen, classes, names)
    samples = outputs.Samples(lambda: shards.blocks("images"), chosen, captions, films)
    written = {}
    for name, write in outputs.writers(choice).items():
        if not (out / name).exists():
            write(shards.folder / name, samples)
            (shards.folder / name).replace(out / name)
        written[out / name] = outputs.note(name, samples.count)
    shards.finish()
    return written
