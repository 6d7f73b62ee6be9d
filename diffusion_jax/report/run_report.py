"""The contents of a workdir for its report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.report import evaluations, metric_curves, sample_grids, training_data
from diffusion_jax.report.config_fields import Fields, changed_from, fields_of
from diffusion_jax.training.logging import SAMPLES
from diffusion_jax.workdir import environment
from diffusion_jax.workdir.run_files import CHECKPOINTS, load_classes, load_config

MOST_SAMPLES = 40
# Limits of all sample grids, of all plots of evaluations, and of the picture of the data. Base64
# makes the page a third larger.
SAMPLE_BYTES, PLOT_BYTES, DATA_BYTES = 10_000_000, 3_000_000, 1_000_000


@dataclass(frozen=True)
class Start:
    """One start of the training, from the name of its TensorBoard file."""

    time: datetime
    host: str


@dataclass(frozen=True)
class RunReport:
    """The contents of a run's report.

    changed: (field, default, value) for each field that differs from the defaults. steps_done: of
    the metrics or the newest checkpoint. parameters: their number as text, "" if not recorded.
    starts: from TensorBoard files. recorded: from environment.json, for each start.
    """

    workdir: Path
    name: str
    config: ConfigDict
    fields: Fields
    changed: Sequence[tuple[str, ...]]
    steps_done: int
    parameters: str
    starts: Sequence[Start]
    recorded: Sequence[environment.Facts]
    metrics: metric_curves.Metrics
    classes: Sequence[str]
    data: training_data.TrainingData
    samples: sample_grids.SampleGrids
    evaluations: evaluations.Evaluations


def read_run(
    workdir: Path,
    defaults: ConfigDict,
    *,
    most_samples: int = MOST_SAMPLES,
    show_data: bool = True,
    share: float = 1.0,
) -> RunReport:
    """Reads a workdir.

    Args:
        workdir: the folder of the run.
        defaults: the config that the run's config is compared with.
        most_samples: the number of sample grids; 1 is the last one.
        show_data: open the training data for a picture of it.
        share: the fraction of the page's size limits that this run may use.

    Raises FileNotFoundError or ValueError if the folder has no readable config.
    """
    if not workdir.is_dir():
        raise FileNotFoundError(f"--workdir={workdir}: there is no such folder")
    config = load_config(workdir)
    metrics = metric_curves.read(workdir)
    if show_data:
        data = training_data.read(workdir, config.copy_and_resolve_references(), DATA_BYTES)
    else:
        data = training_data.TrainingData(training_data.read_record(workdir))
    return RunReport(
        workdir=workdir,
        name=workdir.resolve().name,
        config=config,
        fields=fields_of(config),
        changed=changed_from(defaults, config),
        steps_done=max([metrics.last_step, *_checkpoints(workdir)]),
        parameters=_parameters(workdir),
        starts=_starts(workdir),
        recorded=environment.recorded(workdir),
        metrics=metrics,
        classes=_classes(workdir),
        data=data,
        samples=sample_grids.read(workdir / SAMPLES, most_samples, int(share * SAMPLE_BYTES)),
        evaluations=evaluations.read(workdir / evaluations.FOLDER, int(share * PLOT_BYTES)),
    )


def _checkpoints(workdir: Path) -> list[int]:
    """Returns the steps of complete checkpoints; incomplete ones have longer names."""
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
    starts = [Start(datetime.fromtimestamp(float(m[1]), UTC), m[2]) for m in found if m]
    return sorted(starts, key=lambda start: start.time)
