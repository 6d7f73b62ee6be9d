"""The commands that go on with a run, draw from it and evaluate it."""

import shlex
from pathlib import Path

from diffusion_jax.report.gather import RunReport


def of_run(report: RunReport) -> dict[str, list[str]]:
    """From what they do to the commands themselves, to be typed in the folder of the program."""
    fields, folder = report.fields, shlex.quote(str(report.workdir))
    said = _resume(report, f"python -m scripts.train --workdir {folder}")
    if fields.get("loss.kind") == "cross_entropy":  # a classifier, which draws nothing
        guided = f"python -m scripts.sample --workdir ANOTHER_RUN --classifier {folder}"
        return said | {"Guide another run when it draws:": [guided]}
    if fields.get("model.low_resolution", "0") != "0":  # which enlarges given images
        enlarge = f"python -m scripts.edit enlarge --workdir {folder} --images SMALL.png"
        return said | {"Enlarge images:": [enlarge]}
    classes = _whole(fields.get("model.num_classes", ""))
    labels = f" --labels all --count {8 * classes} --columns 8" if 1 < classes <= 20 else ""
    said["Draw images:"] = [f"python -m scripts.sample --workdir {folder}{labels}"]
    features, reference = _judged_by(report)
    judged = f"--reference {reference} --features {features}"
    said["Measure its images against its training data:"] = [
        f"python -m scripts.fid reference --workdir {folder} --features {features} "
        f"--out {reference}",
        f"python -m scripts.fid evaluate --workdir {folder} {judged}",
    ]
    return said


def _resume(report: RunReport, train: str) -> dict[str, list[str]]:
    steps = _whole(report.fields.get("steps", ""))
    if not steps or report.steps_done < steps:
        return {"Resume, with the config in the workdir:": [train]}
    more = f"{train} --config.steps={2 * steps}"
    if report.fields.get("optimizer.decay_steps") == str(
        steps
    ):  # where the learning rate reaches 0
        more += f" --config.optimizer.decay_steps={2 * steps}"
    return {"Resume: this run is complete, and goes on with more steps:": [more]}


def _judged_by(report: RunReport) -> tuple[str, str]:
    """The features and the reference of the last result, or usual ones: Inception sees colors."""
    for result in reversed(report.evaluations.results):
        features, file = (result.settings.get(name, "") for name in ("features", "reference"))
        if features and file:
            return shlex.quote(str(features)), shlex.quote(str(file))
    colors = report.fields.get("model.channels") == "3"
    features = "inception" if colors else "pixels"
    return features, shlex.quote(str(Path(report.workdir) / f"reference_{features}.npz"))


def _whole(text: str) -> int:
    """The number in a field; 0 if there is none."""
    return int(text) if text.isdecimal() else 0
