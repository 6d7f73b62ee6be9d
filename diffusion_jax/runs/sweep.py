"""Sweeps: runs evaluated at each combination of checkpoints, sampling settings and seeds."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from diffusion_jax.config import build, overrides
from diffusion_jax.config.validation import validate
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.runs.evaluate import of_run
from diffusion_jax.sampling import count_evaluations
from diffusion_jax.workdir.config import load_config
from diffusion_jax.workdir.parameters import find_steps

# The sampling settings that a table shows, and its columns beside the metrics. evaluations: of the
# network for an image. options: those of the solver without a column that are not its defaults.
SAMPLING = ("solver", "spacing", "steps", "stride", "eta", "guidance", "classifier_scale")
OPTIONS = ("eta",)  # of these, what is the solver's own
SETTINGS = ("workdir", "checkpoint", *SAMPLING, "options", "evaluations", "seed")


@dataclass(frozen=True)
class Point:
    """One row of a sweep. sampling: changes to the run's config, see `sampling_settings.change`."""

    workdir: Path
    checkpoint: int
    sampling: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Protocol:
    """What the images of all points have in common.

    labels: see `evaluate.choose_labels`. truncate: see `images.to_uint8`. ema: averaged parameters,
    or raw ones. sampling: settings that take precedence over those of the points. options: of the
    solver or spacing. note: added to the provenance; "{features}" stands for the features in use.
    """

    count: int = 50_000
    labels: str = "random"
    truncate: bool = False
    ema: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


# As gmongaras/Diffusion_models_from_scratch samples for its FIDs.
ORIGINAL = Protocol(
    count=10_000,
    labels="none",
    truncate=True,
    sampling={"guidance": 0.0, "solver": "original", "clip": True},
    note="as the original: unconditional, truncated; its features were torchvision's, these are "
    "{features}",
)


def points(
    workdirs: Sequence[Path],
    checkpoints: Sequence[int] | Literal["all"],
    sampling: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
) -> list[Point]:
    """All combinations, seeds varying fastest.

    checkpoints: steps; none is the newest. sampling: the values of each setting; none keeps that of
    the run's config. A value that is given twice counts once. Raises FileNotFoundError or
    ValueError if a run or a checkpoint is missing, so that a mistake is found before hours are
    spent on the other points.
    """
    if not seeds or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"--seed={','.join(map(str, seeds))} must be in [0, 2^32)")
    if not workdirs:
        raise ValueError("--workdir is empty; for example: --workdir runs/digits")
    lists = [list(dict.fromkeys(values)) or [None] for values in sampling.values()]
    found = []
    for workdir in dict.fromkeys(workdirs):
        load_config(workdir)
        wanted = find_steps(workdir, checkpoints)
        for step, *values, seed in itertools.product(wanted, *lists, dict.fromkeys(seeds)):
            found.append(Point(workdir, step, dict(zip(sampling, values)), seed))
    return found


def evaluate(
    judge: Evaluator, points: Iterable[Point], protocol: Protocol, *, batch_size: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields for each point its `SETTINGS` and the judge's result."""
    # All settings are checked before hours are spent on the first of them.
    prepared = [(point, _config_of(point, protocol)) for point in points]
    counts = {}
    for point, config in prepared:
        drawn = of_run(
            point.workdir,
            config,
            count=protocol.count,
            checkpoint=point.checkpoint,
            ema=protocol.ema,
            labels=protocol.labels,
            seed=point.seed,
            truncate=protocol.truncate,
            batch_size=batch_size,
        )
        if protocol.note:
            features = judge.extract.about["features"]
            drawn.about["protocol"] = protocol.note.format(features=features)
        way = (point.workdir, config.sampling.to_json())
        if way not in counts:  # which are the same for all checkpoints and seeds
            counts[way] = _evaluations(config)
        yield _settings(point, config) | {"evaluations": counts[way]}, judge(drawn)


def _settings(point: Point, config: ConfigDict) -> dict[str, Any]:
    """The `SETTINGS` of a point, except for the evaluations, which are counted elsewhere."""
    in_use = overrides.in_use(config)
    values = {name: in_use.get(name, "") for name in SAMPLING}
    values["steps" if values["stride"] else "stride"] = ""  # one takes the place of the other
    changed = overrides.changed_options(config)
    values["options"] = ";".join(f"{n}={v}" for n, v in changed.items() if n not in OPTIONS)
    values |= {"workdir": str(point.workdir), "checkpoint": point.checkpoint, "seed": point.seed}
    return {name: values[name] for name in SETTINGS if name in values}


def _evaluations(config: ConfigDict) -> int:
    """Of the network, for an image. Raises ValueError if path and solver do not fit together."""
    solver, path = build.make_solver(config), build.make_sampling_path(config)
    return count_evaluations(solver, path, build.make_schedule(config))


def _config_of(point: Point, protocol: Protocol) -> ConfigDict:
    """The run's config with the settings of the point. Raises ValueError if they do not fit."""
    config = load_config(point.workdir)
    settings = {**point.sampling, **protocol.sampling}
    options = {name: settings.pop(name, None) for name in OPTIONS}
    for name, value in protocol.options.items():
        if options.get(name) is not None:
            raise ValueError(f"--{name} and --option {name}={value} were both given; choose one")
        options[name] = value
    overrides.change(config, settings, options)
    validate(config)
    return config
