"""The commands that go on with a run, draw from it and evaluate it."""

import shlex
from pathlib import Path

from diffusion_jax.models import MODELS
from diffusion_jax.runs.report.gather import RunReport


def of_run(report: RunReport) -> dict[str, list[str]]:
    """From what they do to the commands themselves, to be typed in the folder of the program."""
    fields, workdir = report.fields, f"--workdir {shlex.quote(str(report.workdir))}"
    train = f"python -m scripts.train {workdir}"
    said = {"Resume, with the config in the workdir:": [train]}
    steps = fields.get("steps", "")
    if steps.isdecimal() and report.steps_done >= int(steps):
        longer = {
            "This run is complete. Train longer:": [f"{train} --config.steps={2 * int(steps)}"]
        }
        said = longer
    network = MODELS.get(fields.get("model.name", ""))
    if network is None or network.classifies:  # which draws nothing
        return said
    classes = fields.get("model.num_classes", "0") != "0"
    labels = " --labels all" if classes and len(report.classes) <= 100 else ""
    said["Draw images:"] = [f"python -m scripts.sample {workdir}{labels}"]
    features, reference = _judged_by(report)
    said["Measure its images against its training data:"] = [
        f"python -m scripts.fid reference {workdir} --features {features} --out {reference}",
        f"python -m scripts.fid evaluate {workdir} --reference {reference} --features {features}",
    ]
    return said


def _judged_by(report: RunReport) -> tuple[str, str]:
    """The features and the reference of the last result, or usual ones: Inception sees colours."""
    for result in reversed(report.evaluations.results):
        features, file = (result.settings.get(name, "") for name in ("features", "reference"))
        if features and file:
            return shlex.quote(str(features)), shlex.quote(str(file))
    colours = report.fields.get("model.channels") == "3"
    features = "inception" if colours else "pixels"
    return features, shlex.quote(str(Path(report.workdir) / f"reference_{features}.npz"))
