"""Options of folders of image files."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from diffusion_jax.diffusion import checks

LABELS = ("auto", "folders", "parents", "none", "prefix", "file", "file:COLUMN")

# Patterns such as "*.png" or "*seg*" for the path relative to the folder; `*` also matches slashes.
# A text has them separated by commas.
Patterns = str | Sequence[str] | None


@dataclass(frozen=True)
class FolderOptions:
    """Selection, labels and decoding of the images of a folder; the fields of `config.data`.

    Raises ValueError for values that are not allowed.

    Attributes:
        include, exclude: patterns of files; None includes all and excludes none. Texts become
            tuples of patterns.
        labels: "folders" labels files by the top-level sub-folder, "parents" by the folder that
            directly contains them, "prefix" by their names up to the first underscore, as
            guided-diffusion does, "file" by a file with labels, see `label_files`, and
            "file:COLUMN" by that column of it; "none" has no labels. "auto" is "file" if there is
            such a file, otherwise "folders" if all files are in sub-folders, otherwise "none". It
            refuses sub-folders that may not be classes.
        holdout: the files of the split "heldout", which "train" lacks: a fraction between 0 and 1,
            also as text, or patterns; None holds nothing out.
        convert, upright, srgb, bits: see `decoder.Decoder`.
        skip_broken: leave out files that cannot be read; otherwise the first is an error.
    """

    include: Patterns = None
    exclude: Patterns = None
    labels: str = "auto"
    holdout: float | Patterns = None
    convert: bool = False
    upright: bool = False
    srgb: bool = False
    bits: int = 16
    skip_broken: bool = False

    def __post_init__(self) -> None:
        checks.check_bools(
            **{name: getattr(self, name) for name in ("convert", "upright", "srgb", "skip_broken")}
        )
        column = isinstance(self.labels, str) and self.labels.startswith("file:")
        if self.labels not in LABELS and not (column and self.labels != "file:"):
            raise ValueError(f"data.labels={self.labels!r} must be one of {', '.join(LABELS)}")
        if not 1 <= self.bits <= 16:
            raise ValueError(f"data.bits={self.bits} must be in 1 ... 16")
        object.__setattr__(self, "include", parse_patterns(self.include))
        object.__setattr__(self, "exclude", parse_patterns(self.exclude))
        object.__setattr__(self, "holdout", _parse_holdout(self.holdout))

    def changed(self) -> list[str]:
        """Returns the names of the fields that differ from their defaults."""
        names = [field.name for field in fields(self)]
        return [name for name in names if getattr(self, name) != getattr(DEFAULT_OPTIONS, name)]


def parse_patterns(patterns: Patterns) -> tuple[str, ...]:
    """Returns the patterns as a tuple, which is empty for None and for an empty text."""
    if isinstance(patterns, str):
        patterns = [pattern.strip() for pattern in patterns.split(",")]
    return tuple(pattern for pattern in patterns or () if pattern)


def _parse_holdout(holdout: float | Patterns) -> float | tuple[str, ...]:
    """Returns a fraction or patterns."""
    if not isinstance(holdout, str | float | int):
        return parse_patterns(holdout)
    try:
        fraction = float(holdout)
    except ValueError:
        return parse_patterns(str(holdout))
    if not 0 < fraction < 1:
        raise ValueError(
            f"data.holdout={holdout} must be a fraction between 0 and 1, or patterns of paths"
        )
    return fraction


DEFAULT_OPTIONS = FolderOptions()
