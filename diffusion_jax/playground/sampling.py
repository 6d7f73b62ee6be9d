"""Sampling for the playground: settings of a request, and live frames."""

import queue
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np

from diffusion_jax import images
from diffusion_jax.config import overrides
from diffusion_jax.generation import guidance_models
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs.run import Run
from diffusion_jax.runs.run_edits import RunEdits

FRAMES = 16  # live frames of one request, at most
FILM_VALUES = 2**26  # floats in all live frames, at most: 256 MB

MOST_PIXELS = 64**3  # of the images sampled at the same time: 64 of 64 x 64, or 4 of 256 x 256

# Arguments of `Run.sample`: labels, count, seed, solver, steps and guidance.
Settings = Mapping[str, Any]


def run_settings(run: Run) -> Settings:
    """Returns the run's own solver, steps and guidance. Raises ValueError for a classifier."""
    if run.experiment.model.classifies:
        raise ValueError(
            f"{run.workdir} is a classifier (model.name={run.config.model.name}), which cannot be "
            "sampled; it guides another run"
        )
    used = overrides.settings_in_use(run.experiment)
    return {name: used[name] for name in ("solver", "steps", "guidance")}


def arguments(run: Run, wanted: Settings) -> dict[str, Any]:
    """Returns the settings without those that equal the run's own."""
    own = run_settings(run)
    return {name: value for name, value in wanted.items() if value != own.get(name)}


def python_line(run: Run, wanted: Settings) -> str:
    """Returns the Python expression that samples the same images."""
    given = arguments(run, wanted)
    labels = given.pop("labels")
    first = [] if labels == "random" else [repr(labels)]
    words = first + [f"{name}={value!r}" for name, value in given.items()]
    return f"diffusion_jax.load({str(run.workdir)!r}).sample({', '.join(words)})"


def description(run: Run, wanted: Settings) -> str:
    """Returns the settings in one line, without those that have no effect on this run."""
    parts = [wanted["labels"]] if classes(run)[0] else []
    parts += [f"seed {wanted['seed']}", f"{wanted['solver']}, {wanted['steps']} steps"]
    parts += [f"guidance {wanted['guidance']:g}"] if is_guided(run) else []
    return " · ".join(parts)


def classes(run: Run) -> tuple[int, list[str]]:
    """Returns the number of classes and their names."""
    return guidance_models.classes_of(run.config, run.class_names)


def is_guided(run: Run) -> bool:
    """True if the guidance scale has an effect."""
    return bool(run.config.model.num_classes or run.config.sampling.autoguidance)


def enlarges(run: Run) -> bool:
    """True if the model is for super-resolution, and can only enlarge images."""
    return run.experiment.model.image_conditioned


def batch_size(run: Run, count: int) -> int:
    """Returns how many images to sample at the same time, so that their memory is limited."""
    most = max(1, MOST_PIXELS // run.config.data.resolution**2)
    return min(most, 2 ** (count - 1).bit_length())


def edits(run: Run, count: int) -> RunEdits:
    """Returns the edits of a run, for this number of results."""
    return RunEdits(run, batch_size=batch_size(run, count))


def sample_live(
    run: Run, labels: str, *, count: int, seed: int, **settings: Any
) -> Iterator[tuple[Gallery, str]]:
    """Yields (predicted images, progress) for each frame, then (`run.sample`'s images, "").

    The model runs in a daemon thread. Closing the iterator waits for that thread, so that two
    requests never use the model at the same time.
    """
    experiment = run.experiment_with(settings)
    chosen = run.labels(labels, count, seed=seed)
    shape = (count, *experiment.shape)
    steps = experiment.sampling.sampling_schedule.num_steps
    frames = min(FRAMES, max(1, FILM_VALUES // int(np.prod(shape))), steps)
    size = batch_size(run, count)
    sampler = run.sampler(experiment, count, batch_size=size, frames=frames, watched=True)
    updates: queue.Queue = queue.Queue()
    result = Future()

    def watch(*update: Any) -> None:
        updates.put(update)

    def sample() -> None:
        try:
            pixels, _ = run.sample_with(sampler, experiment, chosen, seed=seed, watch=watch)
            result.set_result(pixels)
        except BaseException as error:
            result.set_exception(error)
        updates.put(None)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        film, missing, shown = np.zeros((frames, *shape), np.float32), np.full(frames, count), 0
        # Each device reports its own rows of each frame, in any order.
        for rows, frame, predicted in iter(updates.get, None):
            real = rows < count  # the others fill the batch up
            film[frame, rows[real]] = predicted[real]
            missing[frame] -= real.sum()
            while shown < frames and not missing[shown]:
                pixels = images.to_uint8(np.nan_to_num(film[shown]))
                shown += 1
                yield Gallery.of(pixels), f"Denoising: {shown} of {frames}"
        yield Gallery.of(result.result()), ""
    finally:
        thread.join()
