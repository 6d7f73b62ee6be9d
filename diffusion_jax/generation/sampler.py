"""Sampler: network, guidance and solver as one compiled program."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.overrides import like
from diffusion_jax.diffusion import guidance, keys
from diffusion_jax.diffusion.sampling_schedule import (
    SamplingSchedule,
    on_device,
    with_c_noises,
)
from diffusion_jax.generation.guidance_models import (
    GuidanceModels,
    load_guidance_models,
    log_probability_of,
)
from diffusion_jax.generation.prepared_denoiser import DiffusionModel, PreparedDenoiser
from diffusion_jax.models import Network
from diffusion_jax.sampling import Film
from diffusion_jax.sampling.editing import edit
from diffusion_jax.sampling.loop import starting_noise
from diffusion_jax.sampling.settings import SamplingSettings

HostImages = Float[np.ndarray, "count height width channels"]
Rows = Shaped[Array, "count ..."] | Shaped[np.ndarray, "count ..."]

# Is told (indices of images, number of the frame, their predicted x0), of a device's images.
Watch = Callable[[Int[np.ndarray, "rows"], int, Float[np.ndarray, "rows ..."]], None]

# Settings of guidance that are numbers, which a call can change, and that 0 switches off.
NUMBERS = ("scale", "rescale", "quantile", "classifier_scale")
NO_GUIDES = GuidanceModels()


class Sampler:
    """Samples images on all devices, in batches of one size, with one compilation.

    Changing the guidance scale, a numeric option of the solver (such as eta), the seed, the
    condition or the levels does not compile again. Switching guidance on or off does, and so does
    an option that is not a number, or another number of steps.

    Args:
        model: network, schedule and parameterization.
        settings: solver, levels and guidance; the latter's numbers may be 0 or None for off.
        shape: (height, width, channels) of an image.
        batch_size: images at a time, divisible by the number of devices.
        frames: number of intermediate states to return.
        watched: True if calls report frames while later steps are computed, see `Watch`.
        guides: models that guide this one.
        guide_params: their parameters, by field of `GuidanceModels`; None if each call has them.
    """

    def __init__(
        self,
        model: DiffusionModel,
        settings: SamplingSettings,
        *,
        shape: tuple[int, int, int],
        batch_size: int,
        frames: int = 0,
        watched: bool = False,
        guides: GuidanceModels = NO_GUIDES,
        guide_params: Mapping[str, PyTree] | None = None,
    ):
        parallel.check_batch_size(batch_size)
        self.batch_size = batch_size
        self.settings = settings.guidance
        self.options = dict(settings.options)
        self._path = settings.path
        self._trained, self._guides, self._solver = model, guides, settings.solver
        self._guide_params = guide_params
        self._shape = shape
        self._frames = frames
        self._watched = watched
        self._watch: Watch | None = None
        self._programs: dict[tuple, Callable] = {}

    @classmethod
    def from_experiment(
        cls,
        experiment: Experiment,
        *,
        batch_size: int,
        frames: int = 0,
        watched: bool = False,
        guides: GuidanceModels | None = None,
    ) -> "Sampler":
        """Returns the sampler of an experiment, with at most one frame a step.

        Args:
            guides: whose parameters each call passes; None loads the models that config.sampling
                names, if any.

        Raises:
            FileNotFoundError, ValueError: if these cannot be loaded, or if the experiment's model
                is a classifier.
        """
        if experiment.model.classifies:
            raise ValueError(
                f"A run of model.name={experiment.config.model.name} is a classifier and cannot be "
                "sampled; it guides another run: classifier=ITS_WORKDIR"
            )
        guide_params = None
        if guides is None:
            guides, guide_params = load_guidance_models(experiment)
        return cls(
            DiffusionModel.from_experiment(experiment),
            experiment.sampling,
            shape=experiment.shape,
            batch_size=batch_size,
            frames=min(frames, experiment.sampling.path.num_steps),
            watched=watched,
            guides=guides,
            guide_params=guide_params,
        )

    @property
    def path(self) -> SamplingSchedule:
        """The levels to visit, unless a call says otherwise."""
        return self._path

    @property
    def model(self) -> Network:
        """The network that draws."""
        return self._trained.model

    @property
    def guide_params(self) -> dict[str, PyTree]:
        """The parameters of the guides that the config names."""
        return dict(self._guide_params or {})

    def __call__(
        self,
        params: PyTree,
        condition: PyTree,
        *,
        seed: int,
        start: int = 0,
        guide_params: Mapping[str, PyTree] | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
        watch: Watch | None = None,
        guidance_scale: float | None = None,
        classifier_scale: float | None = None,
        path: SamplingSchedule | None = None,
        inputs: Mapping[str, Rows] | None = None,
        **options: Any,
    ) -> tuple[HostImages, Film]:
        """One image for each row of the condition, and its frames; values about [-1, 1], unclipped.

        Image i depends on seed, i and its own row alone, where i counts from start. condition:
        labels (count,) in 0 .. num_classes (the null class), or any pytree of rows that the model
        takes; a classifier takes labels; without either only their number counts. progress: wraps
        the iteration over batches (tqdm, say). watch: for a generator that is watched.
        guidance_scale, classifier_scale, path, options: in place of the generator's own. inputs:
        rows to start from or to keep, see `editing.edit`. The film's arrays are (count, frames,
        height, width, channels).
        Raises ValueError for an option that the solver does not have.
        """
        settings = self.settings
        if guidance_scale is not None:
            settings = replace(settings, scale=guidance_scale)
        if classifier_scale is not None:
            settings = replace(settings, classifier_scale=classifier_scale)
        options = self._all_options(options)
        guide_params = self.guide_params if guide_params is None else dict(guide_params)
        if guide_params.keys() != self._guides.names():
            wanted = ", ".join(sorted(self._guides.names())) or "nothing"
            raise ValueError(f"guide_params of this generator must be of {wanted}")
        fixed, numbers = self._numbers(settings, options, path or self._path, seed)
        draw = self._program(fixed)
        count = len(jax.tree.leaves(condition)[0])
        rows = {"condition": condition, "inputs": dict(inputs or {})}
        images, films = [], []
        for first in progress(range(0, count, self.batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.arange(first, first + self.batch_size, dtype=np.int32)
            batch = jax.tree.map(lambda row: row[np.minimum(index, count - 1)], rows)  # noqa: B023
            batch["index"] = index + start
            self._watch = watch
            x, film = draw((params, guide_params), numbers, parallel.local_rows(batch))
            if watch is not None:
                jax.effects_barrier()
            images.append(x)
            films.append(film)
        film = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *films)
        return np.concatenate(images)[:count], film

    def starts(self, count: int, *, seed: int) -> HostImages:
        """What images 0 .. count - 1 of this seed start from, unless there are inputs."""
        image_keys = keys.per_example(keys.derive(seed, "sample"), jnp.arange(count))
        start = starting_noise(image_keys, self._shape) * self._path.start_std
        return np.asarray(start)

    def _all_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The solver's options, some of them replaced. Raises ValueError for unknown or bad ones"""
        if unknown := given.keys() - self.options.keys():
            known = ", ".join(self.options) or "none"
            raise ValueError(f"The solver has no option {min(unknown)}; its options: {known}")
        given = {name: like(self.options[name], name, value) for name, value in given.items()}
        options = self.options | given
        self._solver(**options)  # knows its own limits
        return options

    def _numbers(
        self,
        settings: guidance.Guidance,
        options: dict[str, Any],
        path: SamplingSchedule,
        seed: int,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options that are not numbers, and the numbers that a program is given."""
        coefficients = self._solver(**options).prepare(path, self._trained.schedule)
        numbers = {
            "guidance": numbers_of(settings),
            "options": {n: np.float32(v) for n, v in options.items() if isinstance(v, float)},
            "key": keys.derive(seed, "sample"),
            "levels": on_device((path, coefficients)),
        }
        return {n: v for n, v in options.items() if not isinstance(v, float)}, numbers

    def _program(self, fixed: dict[str, Any]) -> Callable:
        """The program with these options that are not numbers, compiled when it first runs.

        JAX compiles anew for another structure of its arguments, such as numbers of guidance.
        """
        key = tuple(sorted(fixed.items()))
        if key not in self._programs:
            self._programs[key] = parallel.spread(partial(self._draw, fixed))
        return self._programs[key]

    def _tell(self, examples: jax.Array, frame: jax.Array, x0: jax.Array) -> None:
        """What a running program calls on the host, once for each device and frame."""
        if self._watch is not None:
            self._watch(np.asarray(examples), int(frame), np.asarray(x0))

    def _draw(
        self, fixed: dict[str, Any], params: PyTree, numbers: PyTree, batch: PyTree
    ) -> tuple[jax.Array, Film]:
        """(images, film) of a device's rows; what runs on the device."""
        examples, condition = batch["index"], batch["condition"]
        solver = self._solver(**numbers["options"], **fixed)
        settings = replace(
            self.settings,
            **dict.fromkeys((*NUMBERS, "interval")) | numbers["guidance"],
            clip_alone=solver.conventions.clip_alone,
            guide_variance=solver.conventions.guide_variance,
        )
        own, of_guides = params
        network = PreparedDenoiser(self._trained, own, examples, self._shape)
        weak, classifier = self._guides.weak, self._guides.classifier
        if weak is not None:
            weak = PreparedDenoiser(weak, of_guides["weak"], examples, self._shape).weak(condition)
        if classifier is not None:
            classifier = log_probability_of(classifier, of_guides["classifier"], condition)
        denoiser = guidance.guide(
            settings,
            network.denoiser,
            network.condition(condition),
            network.condition(self._trained.model.null_condition(condition)),
            weak,
            classifier,
        )
        image_keys = keys.per_example(numbers["key"], examples)
        path, coefficients = with_c_noises(numbers["levels"], network.c_noises)
        x, film = edit(
            solver,
            denoiser,
            path,
            coefficients,
            image_keys,
            self._shape,
            frames=self._frames,
            watch=partial(jax.debug.callback, self._tell, examples) if self._watched else None,
            **batch["inputs"],
        )
        return x, jax.tree.map(lambda frames: jnp.moveaxis(frames, 0, 1), film)


def numbers_of(settings: guidance.Guidance) -> dict[str, Any]:
    """The settings of guidance that are in use and that a compiled program is given."""
    numbers = {name: getattr(settings, name) for name in NUMBERS}
    numbers = {name: np.float32(value) for name, value in numbers.items() if value}
    if "scale" not in numbers:
        numbers.pop("rescale", None)
    elif settings.interval is not None:
        numbers["interval"] = tuple(map(np.float32, settings.interval))
    return numbers
