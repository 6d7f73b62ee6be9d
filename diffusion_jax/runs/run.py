"""A trained model in Python: `load` a run, then sample, edit and evaluate it.

The scripts of the same names do the same with flags; equal settings and seeds give equal images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config import build, overrides
from diffusion_jax.config.schema import options_in
from diffusion_jax.config.validation import validate
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.evaluation.features import make_extractor
from diffusion_jax.generation import class_labels as class_labels
from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.class_labels import Asked
from diffusion_jax.generation.pixels import Origin, finite_pixels
from diffusion_jax.generation.sampler import Generator
from diffusion_jax.pictures.gallery import Gallery
from diffusion_jax.runs import evaluate
from diffusion_jax.runs.run_edits import RunEdits
from diffusion_jax.workdir.classes import load_classes
from diffusion_jax.workdir.config import load_config
from diffusion_jax.workdir.parameters import load_params

LARGEST_BATCH = 64
# What a generator takes at each call; the rest of config.sampling is fixed in it.
AT_EACH_CALL = ("guidance", "classifier_scale", "steps", "stride", "spacing")


class Run:
    """A trained model with its config, on all devices.

    Settings of sampling are those of the config unless a call says otherwise, by the names that
    `config.sampling` and the options of solver and spacing have: solver="heun", steps=20,
    guidance=1.5, eta=0.3. Changing a number compiles nothing anew; another solver does.

    workdir: where it comes from. config: may be changed. class_names: in the order of the labels.
    step: of the checkpoint. ema: whether params are the averaged ones.
    """

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        class_names: list[str],
        step: int,
        params: PyTree,
        *,
        ema: bool = True,
    ):
        self.ema = ema
        self.workdir, self.config, self.step = workdir, config, step
        self.class_names = class_names
        self.params = params
        self._generators: dict[tuple, Generator] = {}

    def __repr__(self) -> str:
        side, model = self.config.data.resolution, self.config.model
        classes = f", {model.num_classes} classes" if model.num_classes else ""
        return f"Run({self.workdir.name!r}: {model.name}, {side}x{side}{classes}, step {self.step})"

    def sample(
        self,
        labels: Asked = "random",
        *,
        count: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        **settings: Any,
    ) -> Gallery:
        """uint8 images (count, height, width, channels), which a notebook shows as a grid.

        labels: a list of class names or numbers, one for each image; or as `scripts.sample` has it:
        "random", "all", "none" or "3,tabby", with count images shared evenly. batch_size: images at
        a time, on all devices; None chooses. settings: see `Run`. Raises ValueError for labels or
        settings that do not fit the run, and if the model draws values that are not finite.
        """
        config = self.configured(settings)
        chosen = self.labels(labels, count, seed=seed)
        generator = self.generator(config, len(chosen), batch_size=batch_size)
        drawn, _ = generator(self.params, chosen, seed=seed, **at_each_call(config))
        return self.pictures(drawn, config)

    def denoising(
        self,
        labels: Asked = "random",
        *,
        count: int | None = None,
        seed: int = 0,
        frames: int = 10,
        of: str = "x",
        **settings: Any,
    ) -> Gallery:
        """The way from noise to the images of `sample`: (count, frames, height, width, channels).

        frames: at most one a step. of: "x", the states, or "x0", what the network takes them for.
        """
        if of not in ("x", "x0"):
            raise ValueError(f"of={of!r} must be 'x', the states, or 'x0', the predicted images")
        config = self.configured(settings)
        chosen = self.labels(labels, count, seed=seed)
        generator = self.generator(config, len(chosen), frames=frames)
        _, film = generator(self.params, chosen, seed=seed, **at_each_call(config))
        shape = getattr(film, of).shape
        return self.pictures(getattr(film, of).reshape(-1, *shape[2:]), config).reshape(shape)

    @property
    def edit(self) -> RunEdits:
        """Image edits, as in run.edit.inpaint(...)."""
        return RunEdits(self)

    def evaluate(
        self,
        reference: str | Path,
        *,
        features: str = "inception",
        count: int = 50_000,
        labels: str = "random",
        seed: int = 0,
        batch_size: int = 64,
        **settings: Any,
    ) -> dict[str, float]:
        """The metrics of `count` images against a reference of `scripts.fid reference`, by name.

        features, labels: see `make_extractor` and `evaluate.choose_labels`. The result is saved in
        the run's evaluations, and the same call returns it again. Raises FileNotFoundError or
        ValueError if the reference cannot be read or does not fit.
        """
        config = self.configured(settings)
        for file in str(reference).split(","):
            if not Path(file).expanduser().is_file():
                raise FileNotFoundError(f"The reference {file} does not exist")
        extract = make_extractor(features, batch_size=batch_size)
        judge = Evaluator.of_file(self.workdir / "evaluations", extract, str(reference))
        drawn = evaluate.of_run(
            self.workdir,
            config,
            count=count,
            checkpoint=self.step,
            ema=self.ema,
            labels=labels,
            seed=seed,
            truncate=False,
            batch_size=batch_size,
        )
        return judge(drawn)["metrics"]

    def configured(self, settings: Mapping[str, Any]) -> ConfigDict:
        """A copy of the config with these settings of sampling.

        Raises ValueError for unknown ones, and for values that do not fit.
        """
        config = self.config.copy_and_resolve_references()
        known = set(config.sampling.keys())
        fields = {name: value for name, value in settings.items() if name in known}
        options = {name: value for name, value in settings.items() if name not in known}
        overrides.change(config, fields, options)
        validate(config)
        return config

    def labels(
        self, labels: Asked, count: int | None = None, *, seed: int = 0
    ) -> Int[np.ndarray, "count"]:
        """A label for each image, see `sample`."""
        classes, names = guidance_models.classes_of(self.config, self.class_names)
        if count is not None and count < 1:
            raise ValueError(f"count={count} must be at least 1")
        if not isinstance(labels, str | int | Sequence | np.ndarray):
            raise ValueError(f"labels={labels!r} must be a list of names or numbers, or a text")
        if isinstance(labels, str | int):
            return class_labels.parse_labels(str(labels), count, classes, names, seed)
        if not len(labels):
            raise ValueError("No labels were given; name some, or say count=")
        if count not in (None, len(labels)):
            raise ValueError(f"count={count} was given with {len(labels)} labels; leave it out")
        if not classes:
            raise ValueError("The model has no classes; give count= in place of labels")
        chosen = [self._label(label, classes, names) for label in labels]
        return np.array(chosen, np.int32)

    def generator(
        self,
        config: ConfigDict,
        count: int,
        *,
        batch_size: int | None = None,
        frames: int = 0,
        watched: bool = False,
    ) -> Generator:
        """What draws with these settings; the same one again for settings of the same kind.

        frames, watched: see `Generator`.
        """
        if build.make_model(config).image_conditioned:
            raise ValueError("This model enlarges images; use run.edit.enlarge(images)")
        frames = min(frames, build.make_sampling_path(config).num_steps)
        fixed = {
            name: value
            for name, value in config.sampling.items()
            if name not in AT_EACH_CALL and not isinstance(value, ConfigDict)
        }
        settings = str(sorted(fixed.items()))
        return self._generator(config, count, batch_size, settings, frames=frames, watched=watched)

    def editing_generator(
        self, config: ConfigDict, count: int, *, batch_size: int | None = None
    ) -> Generator:
        """Returns the sampler with exactly these settings, for edits."""
        return self._generator(config, count, batch_size, config.sampling.to_json())

    def _generator(
        self,
        config: ConfigDict,
        count: int,
        batch_size: int | None,
        settings: str,
        *,
        frames: int = 0,
        watched: bool = False,
    ) -> Generator:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        # A few sizes only, since each is compiled once.
        wanted = batch_size or min(LARGEST_BATCH, 2 ** max(0, count - 1).bit_length())
        batch_size = parallel.round_up(wanted)
        key = (batch_size, frames, watched, settings)
        if key not in self._generators:
            made = Generator.from_config(
                config, batch_size=batch_size, frames=frames, watched=watched
            )
            self._generators[key] = made
        return self._generators[key]

    def _label(self, label: str | int, classes: int, names: Sequence[str]) -> int:
        if label == class_labels.NO_CLASS:
            return classes
        if not isinstance(label, str):
            if isinstance(label, int | np.integer) and 0 <= label <= classes:
                return int(label)
            raise ValueError(
                f"Unknown label {label}; known: 0 to {classes - 1}, and {classes}: none"
            )
        found = class_labels.parse_list(label, classes, names)
        if len(found) != 1:
            raise ValueError(f"{label!r} names {len(found)} classes; give a list of single ones")
        return found[0]

    def pictures(self, drawn: np.ndarray, config: ConfigDict) -> Gallery:
        """Images in [-1, 1] as pixels. Raises ValueError if they are not finite."""
        origin = Origin(self.workdir, self.step, config.sampling.guidance)
        return Gallery.of(finite_pixels(drawn, origin))


def at_each_call(config: ConfigDict) -> dict[str, Any]:
    """What a generator takes at each call: the scales, the path, and the solver's options."""
    sampling = config.sampling
    return {
        "guidance_scale": sampling.guidance,
        "classifier_scale": sampling.classifier_scale if sampling.classifier else 0.0,
        "path": build.make_sampling_path(config),
        **options_in(sampling, sampling.solver),
    }


def load(workdir: str | Path, *, checkpoint: int | None = None, ema: bool = True) -> Run:
    """The run in a workdir, or a model that comes with the package: load("digits").

    Results of the latter, such as evaluations, are kept in a folder of its name. checkpoint: its
    step; None: the newest. ema: the averaged parameters, or the raw ones. Raises FileNotFoundError
    or ValueError if there is no such run or checkpoint, or it cannot be read.
    """
    folder = Path(workdir).expanduser()
    config = load_config(folder)
    validate(config)
    step, params = load_params(folder, config, checkpoint=checkpoint, ema=ema)
    return Run(folder, config, load_classes(folder), step, params, ema=ema)
