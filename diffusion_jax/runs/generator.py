"""From parameters to images: a trained network, guidance and a solver as one compiled program."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.diffusion import guidance, keys, paths
from diffusion_jax.models import Network
from diffusion_jax.runs import build
from diffusion_jax.runs.ready import Ready
from diffusion_jax.runs.sampling_settings import like
from diffusion_jax.runs.sections import options_in
from diffusion_jax.runs.trained import Trained, load_weak
from diffusion_jax.sampling import SOLVERS, Film, Solver
from diffusion_jax.sampling.editing import edit
from diffusion_jax.sampling.loop import starting_noise

HostImages = Float[np.ndarray, "count height width channels"]
Rows = Shaped[Array, "count ..."] | Shaped[np.ndarray, "count ..."]

# Settings of guidance that are numbers, which a call can change, and that 0 switches off.
NUMBERS = ("scale", "rescale", "quantile")


class Generator:
    """Draws images on all devices, in batches of one size, with one compilation.

    Changing the guidance scale, a number among the solver's options (such as eta), the seed, the
    condition or the levels of the path does not compile again. Switching guidance on or off does,
    and so does another kind of option (a name, a count), or another number of steps.

    path: the levels to visit, in float64. solver: one of `SOLVERS`, with `options` of its own.
    batch_size: global, divisible by the number of devices. settings: of guidance; its scale and the
    other `NUMBERS` may be 0 for off, or None. frames: how many states on the way to return. weak: a
    weaker model to guide with in place of the null condition; its schedule and parametrisation may
    differ. weak_params: its parameters; None if each call brings them.
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
        settings: guidance.Guidance,
        frames: int = 0,
        weak: Trained | None = None,
        weak_params: PyTree = None,
    ):
        parallel.check_batch_size(batch_size)
        self.batch_size = batch_size
        self.settings = settings
        self.options = dict(options or {})
        self._path = path
        self._trained, self._weak, self._solver = trained, weak, solver
        self._weak_params = weak_params
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

        weak: the config of the run to guide with, whose parameters each call brings; None is the
        one that the config names, if any, which is loaded.
        Raises FileNotFoundError or ValueError if that cannot be loaded.
        """
        sampling = config.sampling
        path = build.make_sampling_path(config)
        weak_params = None
        if weak is None and sampling.autoguidance:
            weak, weak_params = load_weak(config)
        return cls(
            Trained.from_config(config),
            path,
            solver=SOLVERS[sampling.solver],
            options=options_in(sampling, sampling.solver),
            resolution=config.data.resolution,
            batch_size=batch_size,
            settings=build.make_guidance(config),
            frames=min(frames, path.num_steps),
            weak=None if weak is None else Trained.from_config(weak),
            weak_params=weak_params,
        )

    @property
    def path(self) -> paths.Path:
        """The levels to visit, unless a call says otherwise."""
        return self._path

    @property
    def model(self) -> Network:
        """The network that draws."""
        return self._trained.model

    @property
    def weak_params(self) -> PyTree:
        """The parameters of the weak model that the config names, or None."""
        return self._weak_params

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
        path: paths.Path | None = None,
        inputs: Mapping[str, Rows] | None = None,
        **options: Any,
    ) -> tuple[HostImages, Film]:
        """One image for each row of the condition, and its frames; values about [-1, 1], unclipped.

        Image i depends on seed, i and its own row alone, where i counts from start. condition:
        labels (count,) in 0 .. num_classes (the null class), or any pytree of rows that the model
        takes; only their number counts in a model without a condition. progress: wraps the
        iteration over batches (tqdm, say). guidance_scale, path, options: in place of the
        generator's own. inputs: rows to start from or to keep, see `editing.edit`. The film's
        arrays are (count, frames, height, width, channels).
        Raises ValueError for an option that the solver does not have.
        """
        settings = self.settings
        if guidance_scale is not None:
            settings = replace(settings, scale=guidance_scale)
        options = self._all_options(options)
        weak_params = self._weak_params if weak_params is None else weak_params
        if (self._weak is None) != (weak_params is None):
            raise ValueError("weak_params belong to a generator with a weak model, and to no other")
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
            x, film = draw((params, weak_params), numbers, parallel.local_rows(batch))
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
        self, settings: guidance.Guidance, options: dict[str, Any], path: paths.Path, seed: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options that are not numbers, and the numbers that a program is given."""
        path = self._solver(**options).prepare(path, self._trained.schedule)
        numbers = {
            "guidance": numbers_of(settings),
            "options": {n: np.float32(v) for n, v in options.items() if isinstance(v, float)},
            "key": keys.derive(seed, "sample"),
            "path": paths.on_device(path),
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
        own, weak_params = params
        network = Ready(self._trained, own, examples, self._shape)
        weak = None
        if self._weak is not None:
            weak = Ready(self._weak, weak_params, examples, self._shape).weak(condition)
        denoiser = guidance.guide(
            settings,
            network.denoiser,
            network.condition(condition),
            network.condition(self._trained.model.null_condition(condition)),
            weak,
        )
        image_keys = keys.per_example(numbers["key"], examples)
        path = numbers["path"].with_clocks(network.clocks)
        x, film = edit(
            solver,
            denoiser,
            path,
            image_keys,
            self._shape,
            frames=self._frames,
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
