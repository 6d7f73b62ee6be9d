"""Sweeps: evaluations of all combinations of checkpoints, sampling settings and seeds."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diffusion_jax.config import overrides
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion import checks
from diffusion_jax.evaluation.evaluator import Evaluator
from diffusion_jax.runs.evaluate import samples_of
from diffusion_jax.runs.run import Run, load
from diffusion_jax.sampling import count_evaluations
from diffusion_jax.workdir.parameters import find_steps
from diffusion_jax.workdir.run_files import load_config

# Sampling settings in a table, and all columns that are not metrics. evaluations: of the network
# per image. options: of the solver, if they have no column and are not defaults.
SAMPLING = ("solver", "spacing", "steps", "stride", "eta", "guidance", "classifier_scale")
OPTIONS = ("eta",)  # settings that are options of the solver
SETTINGS = ("workdir", "checkpoint", *SAMPLING, "options", "evaluations", "seed")


@dataclass(frozen=True)
class Point:
    """Row of a sweep. sampling: changes to the run's config, see `overrides.change_sampling`."""

    workdir: Path
    checkpoint: int
    sampling: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Protocol:
    """Settings that the samples of all points share.

    Args:
        count: samples per point.
        labels: see `evaluate.choose_labels`.
        truncate: see `images.to_uint8`.
        ema: averaged parameters, or else raw ones.
        sampling: settings that take precedence over those of the points.
        options: of the solver or spacing.
        note: added to the provenance; "{features}" is replaced by the features in use.
    """

    count: int = 50_000
    labels: str = "random"
    truncate: bool = False
    ema: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        checks.check_bools(truncate=self.truncate, ema=self.ema)
        if self.count < 2:
            raise ValueError(f"count={self.count} must be at least 2")


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
    """Returns all combinations without duplicates, seeds varying fastest.

    Args:
        checkpoints: steps; empty for the newest.
        sampling: values of each setting; empty for the value in the run's config.

    Raises:
        FileNotFoundError, ValueError: if a run or a checkpoint is missing. This is checked before
            hours are spent on the other points.
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
    evaluator: Evaluator, points: Iterable[Point], protocol: Protocol, *, batch_size: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields for each point its `SETTINGS` and the evaluator's result."""
    # All settings are checked before hours are spent on the first of them.
    prepared = [(point, _experiment_of(point, protocol)) for point in points]
    counts: dict[tuple, int] = {}
    run: Run | None = None
    for point, experiment in prepared:
        if run is None or (run.workdir, run.step) != (point.workdir, point.checkpoint):
            run = load(point.workdir, checkpoint=point.checkpoint, ema=protocol.ema)
        samples = samples_of(
            run,
            experiment,
            count=protocol.count,
            labels=protocol.labels,
            seed=point.seed,
            batch_size=batch_size,
            truncate=protocol.truncate,
        )
        if protocol.note:
            features = evaluator.extractor.about["features"]
            samples.about["protocol"] = protocol.note.format(features=features)
        key = (point.workdir, experiment.config.sampling.to_json())
        if key not in counts:  # the same for all checkpoints and seeds
            counts[key] = _evaluations(experiment)
        yield _settings(point, experiment) | {"evaluations": counts[key]}, evaluator(samples)


def _settings(point: Point, experiment: Experiment) -> dict[str, Any]:
    """Returns the `SETTINGS` of a point, except for the number of evaluations."""
    settings = overrides.settings_in_use(experiment)
    values = {name: settings.get(name, "") for name in SAMPLING}
    values["steps" if values["stride"] else "stride"] = ""  # one takes the place of the other
    changed = overrides.changed_options(experiment.config)
    values["options"] = ";".join(
        f"{n}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
        for n, v in changed.items()
        if n not in OPTIONS
    )
    values |= {"workdir": str(point.workdir), "checkpoint": point.checkpoint, "seed": point.seed}
    return {name: values[name] for name in SETTINGS if name in values}


def _evaluations(experiment: Experiment) -> int:
    """Counts network evaluations of an image. Raises ValueError if a step is impossible."""
    settings = experiment.sampling
    solver = settings.solver(**settings.options)
    return count_evaluations(solver, settings.sampling_schedule, experiment.schedule)


def _experiment_of(point: Point, protocol: Protocol) -> Experiment:
    """Returns the run's experiment at a point. Raises ValueError if its settings do not fit."""
    config = load_config(point.workdir)
    settings = {**point.sampling, **protocol.sampling}
    options = {name: settings.pop(name, None) for name in OPTIONS}
    for name, value in protocol.options.items():
        if options.get(name) is not None:
            raise ValueError(f"--{name} and --option {name}={value} were both given; choose one")
        options[name] = value
    overrides.change_sampling(config, settings, options)
    return Experiment.from_config(config, training=False)
