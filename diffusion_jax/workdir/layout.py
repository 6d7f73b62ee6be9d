"""Names of the files in a workdir, and the folders of the models that come with the package."""

from pathlib import Path

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.txt"
CHECKPOINTS = "checkpoints"
# One folder for each model: config.json, classes.txt and the parameters.
PRETRAINED = Path(__file__).parent.parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def resolve_workdir(workdir: Path) -> Path:
    """Returns the workdir, or the package's folder if it is the name of one of its models."""
    if not (workdir / CONFIG_FILE).is_file() and str(workdir) in pretrained_names():
        return PRETRAINED / workdir
    return workdir


def next_folder(parent: Path) -> Path:
    """Returns the next free one of parent/0001, 0002, ..."""
    taken = [int(path.name) for path in parent.glob("[0-9]*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:04d}"
