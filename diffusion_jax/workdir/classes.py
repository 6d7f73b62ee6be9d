"""Class names of a run, in the order of their labels: classes.txt, one name per line."""

from collections.abc import Sequence
from pathlib import Path

from diffusion_jax.files import atomic, limits
from diffusion_jax.workdir.layout import CLASSES_FILE, resolve_workdir


def save_classes(class_names: Sequence[str], workdir: Path) -> None:
    """Writes classes.txt, unless there are no classes."""
    if class_names:
        atomic.write_text(workdir / CLASSES_FILE, "\n".join(class_names) + "\n")


def load_classes(workdir: Path) -> list[str]:
    """Reads the class names of a run; an unconditional run has none.

    Raises ValueError if the file is not text, or far too long for names.
    """
    path = resolve_workdir(workdir) / CLASSES_FILE
    if not path.exists():
        return []
    try:
        return limits.read_bytes(path).decode().split("\n")[:-1]
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold the names of classes: {error}; restore it from a copy"
        ) from None
