"""Reads from a workdir what a report of the run shows."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffusion_jax.config.schema import model_section
from diffusion_jax.models import MODELS
from diffusion_jax.report import data, evaluations
from diffusion_jax.report.curves import Curve
from diffusion_jax.report.embedded import Embedded, embed_file
from diffusion_jax.training.logging import METRICS_FILE, SAMPLES, read_metrics
from diffusion_jax.workdir import environment
from diffusion_jax.workdir.classes import load_classes
from diffusion_jax.workdir.config import flatten, load_config
from diffusion_jax.workdir.layout import CHECKPOINTS

MOST_SAMPLES = 40
# Of all sample grids, of all plots of evaluations, and of the picture of the data. A file is a
# third larger than the bytes that it embeds.
SAMPLE_BYTES, PLOT_BYTES, DATA_BYTES = 10_000_000, 3_000_000, 1_000_000
MISSING = "—"  # the value of a field that a config does not have

Fields = Mapping[str, str]  # from the dotted name of a field to its value, as it would be typed


@dataclass(frozen=True)
class Start:
    """When and on which host training was started or went on; from the names of event files."""

    time: datetime
    host: str


@dataclass(frozen=True)
class Sample:
    """A grid that was drawn during training, after so many steps."""

    name: str
    step: int | None
    picture: Embedded


@dataclass(frozen=True)
class RunReport:
    """What a report shows of a run.

    changed: (field, its value in the defaults, its value here). skipped: lines of the metrics that
    cannot be read. samples_there: how many grids there are, of which samples are some. parameters:
    as parameters.txt has them, or "". starts, recorded: what event files tell of the starts of
    training, and what environment.json does. last_written: when the metrics were.
    """

    workdir: Path
    name: str
    config: ConfigDict
    fields: Fields
    changed: Sequence[tuple[str, str, str]]
    steps_done: int
    parameters: str
    starts: Sequence[Start]
    recorded: Sequence[environment.Facts]
    last_written: datetime | None
    curves: Sequence[Curve]
    skipped: int
    classes: Sequence[str]
    data: data.DataReport
    samples: Sequence[Sample]
    samples_there: int
    sample_notes: Sequence[str]
    evaluations: evaluations.Evaluations


def gather(
    workdir: Path,
    defaults: ConfigDict,
    *,
    most_samples: int = MOST_SAMPLES,
    draw_data: bool = True,
    share: float = 1.0,
) -> RunReport:
    """Reads a workdir.

    defaults: the config whose values need not be mentioned. most_samples: with 1, the last grid.
    draw_data: open the data for a picture of it. share: of the bytes that a report may have.

    Raises FileNotFoundError or ValueError if there is no run with a config.
    """
    if not workdir.is_dir():
        raise FileNotFoundError(f"--workdir={workdir}: there is no such folder")
    config = load_config(workdir)
    lines = [line for line in read_metrics(workdir) if _is_step(line.get("step"))]
    lines.sort(key=lambda line: line["step"])
    samples, there, notes = _samples(workdir / SAMPLES, most_samples, int(share * SAMPLE_BYTES))
    if draw_data:
        of_data = data.read(workdir, config.copy_and_resolve_references(), DATA_BYTES)
    else:
        of_data = data.DataReport(data.recorded_in(workdir))
    metrics = workdir / METRICS_FILE
    return RunReport(
        workdir=workdir,
        name=workdir.resolve().name,
        config=config,
        fields=fields_of(config),
        changed=_changed(defaults, config),
        steps_done=max([line["step"] for line in lines[-1:]] + _checkpoints(workdir), default=0),
        parameters=_parameters(workdir),
        starts=_starts(workdir),
        recorded=environment.recorded(workdir),
        last_written=_time(metrics.stat().st_mtime) if metrics.is_file() else None,
        curves=_curves(lines),
        skipped=_count_lines(metrics) - len(lines),
        classes=_classes(workdir),
        data=of_data,
        samples=samples,
        samples_there=there,
        sample_notes=notes,
        evaluations=evaluations.read(workdir / evaluations.FOLDER, int(share * PLOT_BYTES)),
    )


def fields_of(config: ConfigDict) -> dict[str, str]:
    """The fields of a config as they would be typed; tuples and lists are the same."""
    flat = flatten(json.loads(json.dumps(config.to_dict())))
    return {name: repr(value) if value == "" else str(value) for name, value in flat.items()}


def differing(configs: Sequence[Fields]) -> list[tuple[str, ...]]:
    """(field, its value in each config), for those fields in which they differ."""
    names = sorted(set().union(*configs))
    rows = [(name, *(config.get(name, MISSING) for config in configs)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _changed(defaults: ConfigDict, config: ConfigDict) -> list[tuple[str, ...]]:
    """Another network is compared with its own defaults: it has none of the default's fields."""
    base, here = fields_of(defaults), fields_of(config)
    network, usual = here.get("model.name", ""), base["model.name"]
    if network != usual and network in MODELS:
        own = fields_of(ConfigDict({"model": model_section(network)}))
        base = {name: value for name, value in base.items() if not name.startswith("model.")}
        base |= own | {"model.name": usual}
    return differing([base, here])


def _samples(folder: Path, most: int, most_bytes: int) -> tuple[list[Sample], int, list[str]]:
    """At most so many grids, evenly chosen, the last among them; how many there are; notes."""
    paths = sorted(folder.glob("*.png"), key=lambda path: (_step_of(path) or 0, path.name))
    if not paths:
        return [], 0, []
    chosen = np.linspace(len(paths) - 1, 0, min(most, len(paths))).round().astype(int)
    samples, notes = [], []
    for path in (paths[place] for place in sorted(chosen)):
        try:
            picture = embed_file(path, most_bytes // len(chosen))
        except ValueError as error:
            notes.append(f"{error}.")
            continue
        samples.append(Sample(path.name, _step_of(path), picture))
    return samples, len(paths), notes


def _step_of(path: Path) -> int | None:
    found = re.fullmatch(r"step_(\d{1,15})", path.stem)
    return int(found[1]) if found else None


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for each name that has a number somewhere."""
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    steps = np.array([line["step"] for line in lines], float)
    curves = []
    for name in names:
        values = np.array([_number(line.get(name)) for line in lines], float)
        there = np.array([_is_number(line.get(name)) for line in lines])
        if there.any():
            curves.append(Curve(name, steps[there], values[there]))
    return curves


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    """As a float; nan for what is no number, or one that no plot could show."""
    return float(value) if _is_number(value) and abs(value) < 1e100 else np.nan


def _count_lines(path: Path) -> int:
    text = path.read_text(errors="replace") if path.is_file() else ""
    return sum(bool(line.strip()) for line in text.splitlines())


def _checkpoints(workdir: Path) -> list[int]:
    """The steps of which there are complete checkpoints; the others have longer names."""
    folder = workdir / CHECKPOINTS
    return [int(path.name) for path in folder.glob("*") if re.fullmatch(r"\d{1,15}", path.name)]


def _parameters(workdir: Path) -> str:
    path = workdir / "parameters.txt"
    table = path.read_text(errors="replace") if path.is_file() else ""
    found = re.search(r"^Total: ([\d,]+)", table, re.MULTILINE)
    return found[1] if found else ""


def _classes(workdir: Path) -> list[str]:
    try:
        return load_classes(workdir)
    except ValueError:  # not UTF-8
        return []


def _starts(workdir: Path) -> list[Start]:
    names = (path.name for path in (workdir / "tensorboard").glob("events.out.tfevents.*"))
    found = [re.fullmatch(r"events\.out\.tfevents\.(\d{9,10})\.(.+)", name) for name in names]
    starts = [Start(_time(float(match[1])), match[2]) for match in found if match]
    return sorted(starts, key=lambda start: start.time)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
