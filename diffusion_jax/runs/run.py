"""Run: a trained model in Python, to sample, edit and evaluate.

The scripts of the same names call it with flags; equal settings and seeds give equal images.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree
from ml_collections import ConfigDict
from tqdm import tqdm

from diffusion_jax.config import overrides
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.named_configs import get_config, set_fields
from diffusion_jax.config.other_names import guess
from diffusion_jax.diffusion import checks
from diffusion_jax.diffusion.checks import check_count
from diffusion_jax.evaluation import provenance, references
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.files import compilation_cache
from diffusion_jax.files.paths import local_path
from diffusion_jax.generation import class_labels, guidance_models
from diffusion_jax.generation.class_labels import LabelsLike
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.generation.sampler_cache import SamplerCache
from diffusion_jax.images import NotFinite, Uint8Images, to_uint8
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs import evaluate
from diffusion_jax.runs.datasets import resolve_experiment
from diffusion_jax.runs.run_edits import RunEdits
from diffusion_jax.runs.train import train as train_experiment
from diffusion_jax.sampling import Trajectory
from diffusion_jax.workdir.parameters import load_params
from diffusion_jax.workdir.run_files import load_classes, load_config

MOST_SAMPLES = 100_000_000
LABELS_TYPES = int | np.integer | Sequence | np.ndarray


class Run:
    """A trained model with its experiment, on all devices.

    Sampling settings come from the config. A call can replace them, by the names of
    `config.sampling` and of the options of solver and spacing: solver="heun", steps=20,
    guidance=1.5, eta=0.3. Another guidance scale or numeric option of the solver does not
    recompile, unless it switches guidance on or off; another solver or number of steps does.

    Args:
        workdir: the folder of the run, or the name of a packaged model.
        experiment: of the run's config. Changes of `run.config.sampling` set new defaults.
        class_names: in the order of the labels.
        step: of the checkpoint.
        params: of the network.
        ema: True if these are the EMA parameters.
    """

    def __init__(
        self,
        workdir: Path,
        experiment: Experiment,
        class_names: list[str],
        step: int,
        params: PyTree,
        *,
        ema: bool = True,
    ):
        self.workdir, self.experiment, self.step = workdir, experiment, step
        self.config = experiment.config.copy_and_resolve_references().lock()
        self.class_names = class_names
        self.params = params
        self.ema = ema
        self._samplers = SamplerCache()

    def __repr__(self) -> str:
        side, model = self.config.data.resolution, self.config.model
        classes = f", {model.num_classes} classes" if model.num_classes else ""
        return f"Run({self.workdir.name!r}: {model.name}, {side}x{side}{classes}, step {self.step})"

    def sample(
        self,
        labels: LabelsLike = "random",
        *,
        count: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: bool = True,
        **settings: Any,
    ) -> Gallery:
        """Samples uint8 images (count, height, width, channels), a grid in a notebook.

        Args:
            labels: a list of class names and indices, one for each image: texts are names, and
                integers are indices, as is "#4". Or a string as in `scripts.sample`: "random",
                "all", "none" or "#3,tabby", with the count shared evenly.
            count: number of images.
            batch_size: over all devices; None is a power of two up to 64.
            progress: True shows a progress bar if it takes more than a few seconds.
            settings: see `Run`.

        Raises:
            ValueError: for labels or settings that do not fit the run, and if samples are not
                finite.
        """
        experiment = self.experiment_with(settings)
        chosen = self.labels(labels, count, seed=seed)
        sampler = self.sampler(experiment, len(chosen), batch_size=batch_size)
        bar = progress_bar if progress else iter
        pixels, _ = self.sample_with(sampler, experiment, chosen, seed=seed, progress=bar)
        return Gallery.of(pixels)

    def denoising(
        self,
        labels: LabelsLike = "random",
        *,
        count: int | None = None,
        seed: int = 0,
        frames: int = 10,
        of: str = "x",
        **settings: Any,
    ) -> Gallery:
        """Samples with intermediate states: (count, frames, height, width, channels).

        frames: number of states, at most one per step. of: "x" for states, "x0" for predictions.
        """
        if of not in ("x", "x0"):
            raise ValueError(f"of={of!r} must be 'x', the states, or 'x0', the predicted images")
        check_count("frames", frames)
        experiment = self.experiment_with(settings)
        chosen = self.labels(labels, count, seed=seed)
        sampler = self.sampler(experiment, len(chosen), frames=frames)
        _, trajectory = self.sample_with(sampler, experiment, chosen, seed=seed)
        states = getattr(trajectory, of)
        rows = states.reshape(-1, *states.shape[2:])
        return self.gallery(rows, experiment).reshape(states.shape)

    def sample_with(
        self,
        sampler: Sampler,
        experiment: Experiment,
        labels: PyTree,
        *,
        seed: int,
        start: int = 0,
        truncate: bool = False,
        **options: Any,
    ) -> tuple[Uint8Images, Trajectory]:
        """Samples an image for each label: (pixels, intermediate states in [-1, 1]).

        `sample`, the scripts and the evaluation use this method. Image i depends on seed,
        start + i and its label alone. Raises ValueError if the samples are not finite.

        Args:
            experiment: has the settings of this call.
            truncate: see `images.to_uint8`.
            options: of `Sampler.__call__`.
        """
        checks.check_bools(truncate=truncate)
        settings = call_arguments(experiment) | options
        with self._naming_checkpoint(experiment):
            return sampler.pixels(
                self.params, labels, seed=seed, start=start, truncate=truncate, **settings
            )

    @property
    def edit(self) -> RunEdits:
        """Image edits, as in run.edit.inpaint(...)."""
        return RunEdits(self, progress=progress_bar)

    def evaluate(
        self,
        reference: str | Path,
        *,
        features: str = "inception",
        count: int = 50_000,
        labels: str = "random",
        seed: int = 0,
        batch_size: int = 64,
        allow_mismatch: bool = False,
        **settings: Any,
    ) -> dict[str, float]:
        """Computes metrics (FID, ...) of samples against a reference of `scripts.fid reference`.

        The result is saved in the run's evaluations; the same call loads it. Raises
        FileNotFoundError or ValueError if the reference cannot be read or does not fit.

        features, labels: see `make_extractor` and `evaluate.choose_labels`. allow_mismatch: see
        `Evaluator`. Warnings are printed to stderr.
        """
        experiment = self.experiment_with(settings)
        for file in references.paths_of(str(reference)):
            if not file.is_file():
                raise FileNotFoundError(f"The reference {file} does not exist")
        extract = make_extractor(features, batch_size=batch_size)
        evaluator = Evaluator.from_file(
            self.workdir / "evaluations",
            extract,
            str(reference),
            allow_mismatch=allow_mismatch,
        )
        samples = evaluate.samples_of(
            self, experiment, count=count, labels=labels, seed=seed, batch_size=batch_size
        )
        result = evaluator(samples)
        if "note" in result:
            provenance.log(f"Note: {result['note']}")
        return result["metrics"]

    def experiment_with(self, settings: Mapping[str, Any]) -> Experiment:
        """Returns the experiment with these sampling settings.

        Raises ValueError for unknown settings and for values that do not fit.
        """
        settings = overrides.with_field_names(settings)
        config = self.config.copy_and_resolve_references()
        known = {n for n, value in config.sampling.items() if not isinstance(value, ConfigDict)}
        fields = {name: value for name, value in settings.items() if name in known}
        options = {name: value for name, value in settings.items() if name not in known}
        for name in options.keys() - (possible := overrides.option_names()):
            names = sorted({*known, *overrides.SHORTHANDS, *possible})
            raise ValueError(
                f"Unknown setting {name}{guess(name, names)} The settings are {', '.join(names)}"
            )
        overrides.change_sampling(config, fields, options)
        return self.experiment.with_sampling(config.sampling)

    def labels(
        self, labels: LabelsLike, count: int | None = None, *, seed: int = 0
    ) -> Int[np.ndarray, "count"]:
        """Returns a label for each image, see `sample`."""
        classes, names = guidance_models.classes_of(self.config, self.class_names)
        if count is not None:
            check_count("count", count, MOST_SAMPLES)
        if isinstance(labels, str):
            return class_labels.parse_labels(labels, count, classes, names, seed)
        nested = isinstance(labels, np.ndarray) and labels.ndim != 1
        if nested or isinstance(labels, bool) or not isinstance(labels, LABELS_TYPES):
            raise ValueError(f"labels={labels!r} must be a list of names or indices, or a string")
        if isinstance(labels, int | np.integer):
            text = f"{class_labels.INDEX}{labels}"
            return class_labels.parse_labels(text, count, classes, names, seed)
        if not len(labels):
            raise ValueError("No labels were given; give some, or count=")
        if count not in (None, len(labels)):
            raise ValueError(f"count={count} was given with {len(labels)} labels; leave it out")
        if not classes:
            raise ValueError("The model has no classes; give count= in place of labels")
        chosen = [class_labels.parse_one(label, classes, names) for label in labels]
        return np.array(chosen, np.int32)

    def sampler(
        self,
        experiment: Experiment,
        count: int,
        *,
        batch_size: int | None = None,
        frames: int = 0,
        watched: bool = False,
    ) -> Sampler:
        """Returns a sampler with these settings, cached by those that are compiled into it.

        frames, watched: see `Sampler`.
        """
        if experiment.model.image_conditioned:
            raise ValueError("This model enlarges images; use run.edit.enlarge(images)")
        return self._samplers.sampler(
            experiment, count, batch_size=batch_size, frames=frames, watched=watched
        )

    def editing_sampler(
        self, experiment: Experiment, count: int, *, batch_size: int | None = None
    ) -> Sampler:
        """Returns a sampler for edits, cached by all settings."""
        return self._samplers.sampler(experiment, count, batch_size=batch_size, for_edits=True)

    def gallery(self, samples: np.ndarray, experiment: Experiment) -> Gallery:
        """Converts images in [-1, 1] to pixels. Raises ValueError if they are not finite."""
        with self._naming_checkpoint(experiment):
            return Gallery.of(to_uint8(samples))

    @contextmanager
    def _naming_checkpoint(self, experiment: Experiment) -> Iterator[None]:
        """Names checkpoint and guidance in the error of samples that are not finite."""
        try:
            yield
        except NotFinite:
            guidance = experiment.config.sampling.guidance
            raise ValueError(
                f"The samples are not finite (checkpoint {self.step} of {self.workdir}, guidance "
                f"{guidance})"
            ) from None


def progress_bar(batches: Iterable) -> Iterable:
    """Wraps several batches in a progress bar that appears after a few seconds."""
    hidden = jax.process_index() > 0 or (isinstance(batches, Sized) and len(batches) < 2)
    return tqdm(batches, unit="batch", delay=2, disable=hidden)


def call_arguments(experiment: Experiment) -> dict[str, Any]:
    """Returns keyword arguments of `Sampler.__call__`: scales, levels and options of the solver."""
    settings = experiment.sampling
    return {
        "guidance_scale": settings.guidance.scale,
        "classifier_scale": settings.guidance.classifier_scale or 0.0,
        "sampling_schedule": settings.sampling_schedule,
        **settings.options,
    }


def load(workdir: str | Path, *, checkpoint: int | None = None, ema: bool = True) -> Run:
    """Loads the run in a workdir, or a packaged model: load("digits").

    Results of a packaged model, such as evaluations, go to a folder of its name. Compiled programs
    are kept on disk; see `compilation_cache.enable`.

    Args:
        checkpoint: its step; None is the newest.
        ema: the EMA parameters, or else the raw ones.

    Raises:
        FileNotFoundError, ValueError: if there is no such run or checkpoint, or it is unreadable.
    """
    compilation_cache.enable()
    folder = local_path(workdir)
    experiment = Experiment.from_config(load_config(folder), training=False)
    return _load(folder, experiment, checkpoint=checkpoint, ema=ema)


def _load(
    folder: Path, experiment: Experiment, *, checkpoint: int | None = None, ema: bool = True
) -> Run:
    step, params = load_params(folder, experiment, checkpoint=checkpoint, ema=ema)
    return Run(folder, experiment, load_classes(folder), step, params, ema=ema)


def train(
    config: ConfigDict | str | Path,
    workdir: str | Path,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Trains as `scripts.train` does, or resumes from the newest checkpoint; returns the run.

    config: a config, or the name or path of one, see `get_config`. changes: fields of it to set.
    """
    if isinstance(config, str | Path):
        config = get_config(config, changes)
    else:
        config = set_fields(config.copy_and_resolve_references(), changes or {})
    compilation_cache.enable()
    folder = local_path(workdir)
    experiment = resolve_experiment(config)
    train_experiment(experiment, folder)
    return _load(folder, experiment)
