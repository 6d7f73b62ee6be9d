"""From parameters to images: a trained network, guidance and a solver as one compiled program."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.diffusion import guidance, keys, paths
from diffusion_jax.diffusion.parametrisations import Parametrisation, denoiser_from_network
from diffusion_jax.diffusion.schedules import Schedule
from diffusion_jax.diffusion.types import ConditionalDenoiser
from diffusion_jax.models import Network
from diffusion_jax.runs import build, run_folder
from diffusion_jax.runs.sampling_settings import like
from diffusion_jax.runs.sections import options_in
from diffusion_jax.sampling import SOLVERS, Solver, sample
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.state import init_params

HostImages = Float[np.ndarray, "count height width channels"]
Film = Float[np.ndarray, "count frames height width channels"]


def load_params(
    workdir: Path, config: ConfigDict, *, checkpoint: int | None = None, ema: bool = True
) -> tuple[int, PyTree]:
    """(step, parameters) of one checkpoint of a run, on every device.

    checkpoint: its step; None is the newest. ema: the averaged parameters, or else the raw ones.
    Raises FileNotFoundError if there is none, ValueError if it is not of the config's model.
    """
    model = build.make_model(config)
    like = jax.eval_shape(lambda: init_params(model, config.seed, config.data.resolution))
    with Checkpoints(workdir / run_folder.CHECKPOINTS) as checkpoints:
        step = checkpoints.newest() if checkpoint is None else checkpoint
        return step, parallel.replicate(checkpoints.restore_params(step, like, ema=ema))


@dataclass(frozen=True)
class Trained:
    """A network, with the schedule and the parametrisation that it was trained with."""

    model: Network
    schedule: Schedule
    parametrisation: Parametrisation

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Trained":
        return cls(
            build.make_model(config),
            build.make_schedule(config),
            build.make_parametrisation(config),
        )

    @property
    def takes_condition(self) -> bool:
        return self.model.example_condition(1) is not None

    def denoiser(self, params: PyTree, examples: Int[Array, "batch"]) -> ConditionalDenoiser:
        """The denoiser with these parameters. examples: each image's number."""
        network = partial(self.model.apply, {"params": params}, examples=examples)
        denoiser = denoiser_from_network(network, self.parametrisation)
        if self.takes_condition:
            return denoiser
        return lambda x, level, condition: denoiser(x, level, None)


class Generator:
    """Draws images on all devices, in batches of one size, with one compilation.

    Changing the guidance scale, a number among the solver's options (such as eta), the seed or the
    condition does not compile again. Switching guidance on or off does, and so does another kind of
    option (a name, a count).

    path: the levels to visit. solver: one of `SOLVERS`, with `options` of its own. batch_size:
    global, divisible by the number of devices. clip: whether the predicted x0 is clipped to [-1, 1]
    at every step. guidance_scale: see `guidance.guide`. learned_variance: whether fresh noise has
    the variance that the model has learned. frames: how many states on the way to return. weak: a
    weaker model to guide with in place of the null condition; its schedule and parametrisation may
    differ.
    """

    def __init__(
        self,
        trained: Trained,
        path: paths.Path,
        *,
        solver: Callable[..., Solver],
        resolution: int,
        batch_size: int,
        options: dict[str, Any] | None = None,
        guidance_scale: float = 0.0,
        clip: bool = True,
        learned_variance: bool = True,
        frames: int = 0,
        weak: Trained | None = None,
    ):
        parallel.check_batch_size(batch_size)
        self.batch_size = batch_size
        self.guidance_scale = guidance_scale
        self.options = dict(options or {})
        self._path = paths.on_device(path)
        self._trained, self._weak, self._solver = trained, weak, solver
        self._clip, self._learned_variance = clip, learned_variance
        self._shape = (resolution, resolution, trained.model.channels)
        self._frames = frames
        self._programs: dict[tuple, Callable] = {}

    @classmethod
    def from_config(
        cls,
        config: ConfigDict,
        *,
        batch_size: int,
        frames: int = 0,
        weak: ConfigDict | None = None,
    ) -> "Generator":
        """With a config's model and sampling settings; at most one frame a step.

        weak: the config of the run to guide with.
        """
        sampling = config.sampling
        path = build.make_sampling_path(config)
        return cls(
            Trained.from_config(config),
            path,
            solver=SOLVERS[sampling.solver],
            options=options_in(sampling, sampling.solver),
            resolution=config.data.resolution,
            batch_size=batch_size,
            guidance_scale=sampling.guidance,
            clip=sampling.clip,
            learned_variance=build.make_loss(config).needs_bound,
            frames=min(frames, path.num_steps),
            weak=None if weak is None else Trained.from_config(weak),
        )

    def __call__(
        self,
        params: PyTree,
        condition: PyTree,
        *,
        seed: int,
        start: int = 0,
        weak_params: PyTree = None,
        progress: Callable[[Iterable], Iterable] = iter,
        guidance_scale: float | None = None,
        **options: Any,
    ) -> tuple[HostImages, Film]:
        """One image for each row of the condition, and its frames; values about [-1, 1], unclipped.

        Image i depends on seed, i and its own row alone, where i counts from start. condition:
        labels (count,) in 0 .. num_classes (the null class), or any pytree of rows that the model
        takes; only their number counts in a model without a condition. progress: wraps the
        iteration over batches (tqdm, say). guidance_scale, options: in place of the generator's
        own. Raises ValueError for an option that the solver does not have.
        """
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        if unknown := options.keys() - self.options.keys():
            known = ", ".join(self.options) or "none"
            raise ValueError(f"The solver has no option {min(unknown)}; its options: {known}")
        given = {name: like(self.options[name], name, value) for name, value in options.items()}
        options = self.options | given
        self._solver(**options)  # knows its own limits
        if (self._weak is None) != (weak_params is None):
            raise ValueError("weak_params belong to a generator with a weak model, and to no other")
        numbers = {
            "guidance": np.float32(scale),
            "options": {n: np.float32(v) for n, v in options.items() if isinstance(v, float)},
            "key": keys.derive(seed, "sample"),
            "path": self._path,
        }
        fixed = {n: v for n, v in options.items() if not isinstance(v, float)}
        draw = self._program(scale != 0, fixed)
        count = len(jax.tree.leaves(condition)[0])
        images, films = [], []
        for first in progress(range(0, count, self.batch_size)):
            # The last batch is filled up with repeats, so that all have one shape.
            index = np.arange(first, first + self.batch_size, dtype=np.int32)
            rows = jax.tree.map(lambda row: row[np.minimum(index, count - 1)], condition)  # noqa: B023
            batch = {"index": index + start, "condition": rows}
            x, film = draw((params, weak_params), numbers, parallel.local_rows(batch))
            images.append(x)
            films.append(film)
        return np.concatenate(images)[:count], np.concatenate(films)[:count]

    def _program(self, guided: bool, fixed: dict[str, Any]) -> Callable:
        """The program with these options that are not numbers, compiled when it first runs."""
        key = guided, *sorted(fixed.items())
        if key not in self._programs:
            self._programs[key] = parallel.spread(partial(self._draw, guided, fixed))
        return self._programs[key]

    def _draw(
        self, guided: bool, fixed: dict[str, Any], params: PyTree, numbers: PyTree, batch: PyTree
    ) -> tuple[jax.Array, jax.Array]:
        """(images, frames) of a device's rows; what runs on the device."""
        model, examples = self._trained.model, batch["index"]
        condition = batch["condition"]
        solver = self._solver(**numbers["options"], **fixed)
        settings = guidance.Guidance(
            scale=numbers["guidance"] if guided else None,
            clip=self._clip,
            learned_variance=self._learned_variance,
            clip_alone=solver.conventions.clip_alone,
            guide_variance=solver.conventions.guide_variance,
        )
        own, weak_params = params
        weak = None
        if self._weak is not None:
            weak = guidance.at_levels_of(
                self._weak.denoiser(weak_params, examples),
                partial(self._weak.schedule.at_sigma, xp=jnp),
            )
        denoiser = guidance.guide(
            settings,
            self._trained.denoiser(own, examples),
            condition,
            model.null_condition(condition) if self._trained.takes_condition else None,
            weak,
        )
        image_keys = keys.per_example(numbers["key"], examples)
        path = numbers["path"]
        x, film = sample(solver, denoiser, path, image_keys, self._shape, frames=self._frames)
        return x, jnp.moveaxis(film, 0, 1)
