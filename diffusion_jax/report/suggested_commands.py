"""Commands that resume, sample and evaluate a run."""

import shlex
from pathlib import Path

from diffusion_jax.report.run_report import RunReport


def commands_of(report: RunReport) -> dict[str, list[str]]:
    """Returns the commands by purpose, to be typed in the folder of the program."""
    fields, folder = report.fields, shlex.quote(str(report.workdir))
    commands = _resume(report, f"python -m scripts.train --workdir {folder}")
    if fields.get("loss.kind") == "cross_entropy":  # a classifier
        guided = f"python -m scripts.sample --workdir ANOTHER_RUN --classifier {folder}"
        return commands | {"Guide another run:": [guided]}
    if fields.get("model.low_resolution", "None") != "None":  # super-resolution
        enlarge = f"python -m scripts.edit enlarge --workdir {folder} --images SMALL.png"
        return commands | {"Enlarge images:": [enlarge]}
    classes = _whole(fields.get("model.num_classes", ""))
    labels = f" --labels all --count {8 * classes} --columns 8" if 1 < classes <= 20 else ""
    commands["Sample images:"] = [f"python -m scripts.sample --workdir {folder}{labels}"]
    features, reference = _features_and_reference(report)
    evaluated = f"--reference {reference} --features {features}"
    commands["Evaluate samples against the training data:"] = [
        f"python -m scripts.fid reference --workdir {folder} --features {features} "
        f"--out {reference}",
        f"python -m scripts.fid evaluate --workdir {folder} {evaluated}",
    ]
    return commands


def _resume(report: RunReport, train: str) -> dict[str, list[str]]:
    steps = _whole(report.fields.get("steps", ""))
    if not steps or report.steps_done < steps:
        return {"Resume, with the config in the workdir:": [train]}
    more = f"{train} --config.steps={2 * steps}"
    if report.fields.get("optimizer.decay_steps") == str(steps):  # the learning rate has reached 0
        more += f" --config.optimizer.decay_steps={2 * steps}"
    return {"Resume this complete run with more steps:": [more]}


def _features_and_reference(report: RunReport) -> tuple[str, str]:
    """Returns features and reference of the last result.

    Default: Inception for color, pixels for gray.
    """
    for result in reversed(report.evaluations.results):
        features, file = (result.settings.get(name, "") for name in ("features", "reference"))
        if features and file:
            return shlex.quote(str(features)), shlex.quote(str(file))
    color = report.fields.get("model.channels") == "3"
    features = "inception" if color else "pixels"
    return features, shlex.quote(str(Path(report.workdir) / f"reference_{features}.npz"))


def _whole(text: str) -> int:
    """Returns the number in a field; 0 if it has none."""
    return int(text) if text.isdecimal() else 0
