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
from diffusion_jax.config.overrides import convert_option
from diffusion_jax.diffusion import guidance, keys
from diffusion_jax.diffusion.sampling_schedule import (
    SamplingSchedule,
    map_c_noises,
    to_float32,
)
from diffusion_jax.generation.guidance_models import (
    GuidanceModels,
    load_guidance_models,
    log_probability_of,
)
from diffusion_jax.generation.prepared_denoiser import DiffusionModel, PreparedDenoiser
from diffusion_jax.images import Uint8Images, to_uint8
from diffusion_jax.models import Network
from diffusion_jax.sampling import Trajectory
from diffusion_jax.sampling.editing import sample_with_inputs
from diffusion_jax.sampling.loop import starting_noise
from diffusion_jax.sampling.settings import SamplingSettings

HostImages = Float[np.ndarray, "count height width channels"]
Rows = Shaped[Array, "count ..."] | Shaped[np.ndarray, "count ..."]

# Called with (indices of a device's images, number of the frame, their predicted x0).
Watch = Callable[[Int[np.ndarray, "rows"], int, Float[np.ndarray, "rows ..."]], None]

# Fields of `Guidance` that are traced; 0 is off.
TRACED = ("scale", "rescale", "dynamic_threshold", "classifier_scale")
NO_GUIDANCE_MODELS = GuidanceModels()


class Sampler:
    """Sampler on all devices, in batches of one size, with one compilation.

    A change of the guidance scale, a numeric option of the solver (such as eta), the seed, the
    condition or the levels does not recompile. Switching guidance on or off does, as does an option
    that is not a number, or another number of steps.

    Args:
        model: network, schedule and parameterization.
        settings: solver, sampling schedule and guidance; a scale of 0 or None is off.
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
        self.guidance = settings.guidance
        self.options = dict(settings.options)
        self.sampling_schedule = settings.sampling_schedule
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
    ) -> tuple[HostImages, Trajectory]:
        """Samples (images, trajectory), one image for each row of the condition.

        Image i depends on the seed, i + start and its own row alone.

        Args:
            condition: labels (count,) in 0 .. num_classes (the null class), or another pytree of
                rows, as the model takes it; a classifier takes labels. If neither network uses
                labels, only the number of rows matters.
            seed: of the noise.
            start: number of the first image.
            guide_params: parameters of the guidance models, in place of the loaded ones.
            progress: wrapper of the iteration over batches, such as tqdm.
            watch: called with each frame, if the sampler is watched.
            guidance_scale, classifier_scale, sampling_schedule, options: replace the
                settings of the sampler.
            inputs: images or noise to start from, or images and masks to keep; see
                `editing.sample_with_inputs`.

        Returns:
            Images (count, height, width, channels), roughly in [-1, 1] and not clipped, and a
            trajectory of arrays (count, frames, height, width, channels).

        Raises:
            ValueError: for an option that the solver does not have.
        """
        settings = self.guidance
        if guidance_scale is not None:
            settings = replace(settings, scale=guidance_scale)
        if classifier_scale is not None:
            settings = replace(settings, classifier_scale=classifier_scale)
        options = self._all_options(options)
        guide_params = self.guide_params if guide_params is None else dict(guide_params)
        if guide_params.keys() != self._guides.names():
            wanted = ", ".join(sorted(self._guides.names())) or "nothing"
            raise ValueError(f"guide_params of this sampler must be of {wanted}")
        schedule = sampling_schedule or self.sampling_schedule
        static, traced = self._split_arguments(settings, options, schedule, seed)
        sample = self._program(static)
        count = len(jax.tree.leaves(condition)[0])
        rows = {"condition": condition, "inputs": dict(inputs or {})}
        images, trajectories = [], []
        for first in progress(range(0, count, self.batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.arange(first, first + self.batch_size, dtype=np.int32)
            batch = jax.tree.map(lambda row: row[np.minimum(index, count - 1)], rows)  # noqa: B023
            batch["index"] = index + start
            self._watch = watch
            x, trajectory = sample((params, guide_params), traced, parallel.local_rows(batch))
            if watch is not None:
                jax.effects_barrier()
            images.append(x)
            trajectories.append(trajectory)
        trajectory = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *trajectories)
        return np.concatenate(images)[:count], trajectory

    def pixels(
        self, params: PyTree, condition: PyTree, *, truncate: bool = False, **arguments: Any
    ) -> tuple[Uint8Images, Trajectory]:
        """Samples uint8 images: (images, trajectory).

        A run in Python, the scripts, the evaluation and the grids during training use this method.

        truncate: see `images.to_uint8`. arguments: of `__call__`. Raises NotFinite.
        """
        samples, trajectory = self(params, condition, **arguments)
        return to_uint8(samples, truncate=truncate), trajectory

    def initial_noise(self, count: int, *, seed: int) -> HostImages:
        """Returns the initial noise of images 0 .. count - 1 of this seed."""
        image_keys = keys.per_example(keys.derive(seed, "sample"), jnp.arange(count))
        start = starting_noise(image_keys, self._shape) * self.sampling_schedule.init_noise_std
        return np.asarray(start)

    def _all_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the solver's options with replacements. Raises ValueError for invalid options."""
        if unknown := given.keys() - self.options.keys():
            known = ", ".join(self.options) or "none"
            raise ValueError(f"The solver has no option {min(unknown)}; its options: {known}")
        given = {
            name: convert_option(self.options[name], name, value) for name, value in given.items()
        }
        options = self.options | given
        self._solver(**options)  # checks them
        return options

    def _split_arguments(
        self,
        settings: guidance.Guidance,
        options: dict[str, Any],
        sampling_schedule: SamplingSchedule,
        seed: int,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (static options of the solver, traced arguments of the compiled program)."""
        coefficients = self._solver(**options).prepare(
            sampling_schedule, self._diffusion_model.schedule
        )
        traced = {
            "guidance": traced_guidance(settings),
            "options": {n: np.float32(v) for n, v in options.items() if isinstance(v, float)},
            "key": keys.derive(seed, "sample"),
            "levels": to_float32((sampling_schedule, coefficients)),
        }
        return {n: v for n, v in options.items() if not isinstance(v, float)}, traced

    def _program(self, static: dict[str, Any]) -> Callable:
        """Returns the program with these static options, compiled at its first call.

        JAX recompiles it if the structure of the traced arguments changes, as with guidance off.
        """
        key = tuple(sorted(static.items()))
        if key not in self._programs:
            self._programs[key] = parallel.map_batch(partial(self._sample, static))
        return self._programs[key]

    def _call_watch(self, examples: jax.Array, frame: jax.Array, x0: jax.Array) -> None:
        """Runs on the host, called by the running program once for each device and frame."""
        if self._watch is not None:
            self._watch(np.asarray(examples), int(frame), np.asarray(x0))

    def _sample(
        self, static: dict[str, Any], params: PyTree, traced: PyTree, batch: PyTree
    ) -> tuple[jax.Array, Trajectory]:
        """Returns (images, trajectory) of a device's rows, (rows, ...); compiled."""
        examples, condition = batch["index"], batch["condition"]
        solver = self._solver(**traced["options"], **static)
        settings = replace(
            self.guidance,
            **dict.fromkeys((*TRACED, "interval")) | traced["guidance"],
            shift_mean=solver.conventions.shift_mean,
            clip_x0_only=solver.conventions.clip_x0_only,
            guide_variance=solver.conventions.guide_variance,
        )
        own, guide_params = params
        network = PreparedDenoiser(self._diffusion_model, own, examples, self._shape)
        weak, classifier = self._guides.weak, self._guides.classifier
        if weak is not None:
            weak = PreparedDenoiser(weak, guide_params["weak"], examples, self._shape)
            weak = weak.as_weak(condition)
        if classifier is not None:
            classifier = log_probability_of(classifier, guide_params["classifier"], condition)
        denoiser = guidance.guide(
            settings,
            network.denoiser,
            network.prepare_condition(condition),
            network.prepare_condition(self._diffusion_model.model.null_condition(condition)),
            weak,
            classifier,
        )
        image_keys = keys.per_example(traced["key"], examples)
        sampling_schedule, coefficients = map_c_noises(traced["levels"], network.prepare_c_noises)
        watch = partial(jax.debug.callback, self._call_watch, examples)
        x, trajectory = sample_with_inputs(
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
        return x, jax.tree.map(lambda frames: jnp.moveaxis(frames, 0, 1), trajectory)


def traced_guidance(settings: guidance.Guidance) -> dict[str, Any]:
    """Returns the fields of guidance in use, as float32 arguments of the compiled program."""
    fields = {name: getattr(settings, name) for name in TRACED}
    traced: dict[str, Any] = {name: np.float32(value) for name, value in fields.items() if value}
    if "scale" not in traced:
        traced.pop("rescale", None)
    elif settings.interval is not None:
        traced["interval"] = tuple(map(np.float32, settings.interval))
    return traced
