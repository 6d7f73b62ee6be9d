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

# Called with (indices of a device's images, number of the frame, their predicted x0).
Watch = Callable[[Int[np.ndarray, "rows"], int, Float[np.ndarray, "rows ..."]], None]

# Numbers of `Guidance` that a call can change; 0 is off.
NUMBERS = ("scale", "rescale", "quantile", "classifier_scale")
NO_GUIDANCE_MODELS = GuidanceModels()


class Sampler:
    """Samples images on all devices, in batches of one size, with one compilation.

    A change of the guidance scale, a numeric option of the solver (such as eta), the seed, the
    condition or the levels does not recompile. Switching guidance on or off does, as does an option
    that is not a number, or another number of steps.

    Args:
        model: network, schedule and parameterization.
        settings: solver, levels and guidance, whose numbers may be 0 or None for off.
        shape: (height, width, channels) of an image.
        batch_size: images at a time, divisible by the number of devices.
        frames: number of intermediate states to return.
        watched: True to call a `Watch` with each frame while later steps are computed.
        guides: the guidance models.
        guide_params: their parameters, by field of `GuidanceModels`; None if each call passes them.
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
        guides: GuidanceModels = NO_GUIDANCE_MODELS,
        guide_params: Mapping[str, PyTree] | None = None,
    ):
        parallel.check_batch_size(batch_size)
        self.batch_size = batch_size
        self.settings = settings.guidance
        self.options = dict(settings.options)
        self._sampling_schedule = settings.sampling_schedule
        self._diffusion_model, self._guides, self._solver = model, guides, settings.solver
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
            guides: guidance models whose parameters are passed in each call; None loads the models
                named in config.sampling, if any.

        Raises:
            FileNotFoundError, ValueError: if a guidance model cannot be loaded, or if the
                experiment's model is a classifier.
        """
        if experiment.model.classifies:
            raise ValueError(
                f"A run of model.name={experiment.config.model.name} is a classifier and cannot be "
                "sampled; it can guide another run: classifier=ITS_WORKDIR"
            )
        guide_params = None
        if guides is None:
            guides, guide_params = load_guidance_models(experiment)
        return cls(
            DiffusionModel.from_experiment(experiment),
            experiment.sampling,
            shape=experiment.shape,
            batch_size=batch_size,
            frames=min(frames, experiment.sampling.sampling_schedule.num_steps),
            watched=watched,
            guides=guides,
            guide_params=guide_params,
        )

    @property
    def sampling_schedule(self) -> SamplingSchedule:
        """The default sampling schedule."""
        return self._sampling_schedule

    @property
    def model(self) -> Network:
        """The network."""
        return self._diffusion_model.model

    @property
    def guide_params(self) -> dict[str, PyTree]:
        """The parameters of the loaded guidance models."""
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
        sampling_schedule: SamplingSchedule | None = None,
        inputs: Mapping[str, Rows] | None = None,
        **options: Any,
    ) -> tuple[HostImages, Film]:
        """Returns (images, film), with an image for each row of the condition.

        Values lie roughly in [-1, 1] and are not clipped. Image i depends on the
        seed, i + start and its own row alone.

        Args:
            condition: labels (count,) in 0 .. num_classes (the null class), or another pytree of
                rows, as the model takes it; a classifier takes labels. If neither network uses
                labels, only the number of rows matters.
            seed: of the noise.
            start: number of the first image.
            guide_params: parameters of the guidance models, in place of the loaded ones.
            progress: wrapper of the iteration over batches, such as tqdm.
            watch: called with each frame, if the sampler is watched.
            guidance_scale, classifier_scale, sampling_schedule, options: replacements of the
                sampler's settings.
            inputs: rows to start from or to keep, see `editing.edit`.

        Returns:
            Images (count, height, width, channels), and a film of arrays (count, frames, height,
            width, channels).

        Raises:
            ValueError: for an option that the solver does not have.
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
            raise ValueError(f"guide_params of this sampler must be of {wanted}")
        schedule = sampling_schedule or self._sampling_schedule
        fixed, numbers = self._numbers(settings, options, schedule, seed)
        sample = self._program(fixed)
        count = len(jax.tree.leaves(condition)[0])
        rows = {"condition": condition, "inputs": dict(inputs or {})}
        images, films = [], []
        for first in progress(range(0, count, self.batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.arange(first, first + self.batch_size, dtype=np.int32)
            batch = jax.tree.map(lambda row: row[np.minimum(index, count - 1)], rows)  # noqa: B023
            batch["index"] = index + start
            self._watch = watch
            x, film = sample((params, guide_params), numbers, parallel.local_rows(batch))
            if watch is not None:
                jax.effects_barrier()
            images.append(x)
            films.append(film)
        film = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *films)
        return np.concatenate(images)[:count], film

    def initial_noise(self, count: int, *, seed: int) -> HostImages:
        """Returns the initial noise of images 0 .. count - 1 of this seed."""
        image_keys = keys.per_example(keys.derive(seed, "sample"), jnp.arange(count))
        start = starting_noise(image_keys, self._shape) * self._sampling_schedule.start_std
        return np.asarray(start)

    def _all_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the solver's options with replacements. Raises ValueError for invalid options."""
        if unknown := given.keys() - self.options.keys():
            known = ", ".join(self.options) or "none"
            raise ValueError(f"The solver has no option {min(unknown)}; its options: {known}")
        given = {name: like(self.options[name], name, value) for name, value in given.items()}
        options = self.options | given
        self._solver(**options)  # checks them
        return options

    def _numbers(
        self,
        settings: guidance.Guidance,
        options: dict[str, Any],
        sampling_schedule: SamplingSchedule,
        seed: int,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (options that are not numbers, numeric arguments of the compiled program)."""
        coefficients = self._solver(**options).prepare(
            sampling_schedule, self._diffusion_model.schedule
        )
        numbers = {
            "guidance": numbers_of(settings),
            "options": {n: np.float32(v) for n, v in options.items() if isinstance(v, float)},
            "key": keys.derive(seed, "sample"),
            "levels": on_device((sampling_schedule, coefficients)),
        }
        return {n: v for n, v in options.items() if not isinstance(v, float)}, numbers

    def _program(self, fixed: dict[str, Any]) -> Callable:
        """Returns the program with these options that are not numbers, compiled at its first call.

        JAX recompiles it for another structure of the arguments, such as other kinds of guidance.
        """
        key = tuple(sorted(fixed.items()))
        if key not in self._programs:
            self._programs[key] = parallel.map_batch(partial(self._sample, fixed))
        return self._programs[key]

    def _call_watch(self, examples: jax.Array, frame: jax.Array, x0: jax.Array) -> None:
        """Runs on the host, called by the running program once for each device and frame."""
        if self._watch is not None:
            self._watch(np.asarray(examples), int(frame), np.asarray(x0))

    def _sample(
        self, fixed: dict[str, Any], params: PyTree, numbers: PyTree, batch: PyTree
    ) -> tuple[jax.Array, Film]:
        """Returns (images, film) of the rows of a device; compiled."""
        examples, condition = batch["index"], batch["condition"]
        solver = self._solver(**numbers["options"], **fixed)
        settings = replace(
            self.settings,
            **dict.fromkeys((*NUMBERS, "interval")) | numbers["guidance"],
            shift_mean=solver.conventions.shift_mean,
            clip_alone=solver.conventions.clip_alone,
            guide_variance=solver.conventions.guide_variance,
        )
        own, guide_params = params
        network = PreparedDenoiser(self._diffusion_model, own, examples, self._shape)
        weak, classifier = self._guides.weak, self._guides.classifier
        if weak is not None:
            weak = PreparedDenoiser(weak, guide_params["weak"], examples, self._shape)
            weak = weak.weak(condition)
        if classifier is not None:
            classifier = log_probability_of(classifier, guide_params["classifier"], condition)
        denoiser = guidance.guide(
            settings,
            network.denoiser,
            network.condition(condition),
            network.condition(self._diffusion_model.model.null_condition(condition)),
            weak,
            classifier,
        )
        image_keys = keys.per_example(numbers["key"], examples)
        sampling_schedule, coefficients = with_c_noises(numbers["levels"], network.c_noises)
        watch = partial(jax.debug.callback, self._call_watch, examples)
        x, film = edit(
            solver,
            denoiser,
            sampling_schedule,
            coefficients,
            image_keys,
            self._shape,
            frames=self._frames,
            watch=watch if self._watched else None,
            **batch["inputs"],
        )
        return x, jax.tree.map(lambda frames: jnp.moveaxis(frames, 0, 1), film)


def numbers_of(settings: guidance.Guidance) -> dict[str, Any]:
    """Returns the numbers of guidance that are in use, as arguments of a compiled program."""
    numbers = {name: getattr(settings, name) for name in NUMBERS}
    numbers: dict[str, Any] = {n: np.float32(value) for n, value in numbers.items() if value}
    if "scale" not in numbers:
        numbers.pop("rescale", None)
    elif settings.interval is not None:
        numbers["interval"] = tuple(map(np.float32, settings.interval))
    return numbers
