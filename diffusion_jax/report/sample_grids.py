"""The sample grids that a run has saved during training."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_jax.report.embedded_picture import EmbeddedPicture, embed_file


@dataclass(frozen=True)
class SampleGrid:
    """One sample grid. step: of training; None if the file's name does not have it."""

    file_name: str
    step: int | None
    picture: EmbeddedPicture

    @property
    def name(self) -> str:
        """The step if it is known, otherwise the file's name."""
        return self.file_name if self.step is None else f"step {self.step:,}"


@dataclass(frozen=True)
class SampleGrids:
    """The chosen sample grids of a run. available: the number of files. notes: unreadable files."""

    chosen: Sequence[SampleGrid] = ()
    available: int = 0
    notes: Sequence[str] = ()


def read(folder: Path, most: int, most_bytes: int) -> SampleGrids:
    """Reads at most `most` grids, evenly spaced and including the last one.

    most_bytes: of all pictures together.
    """
    paths = sorted(folder.glob("*.png"), key=lambda path: (_step_of(path) or 0, path.name))
    if not paths:
        return SampleGrids()
    indices = np.linspace(len(paths) - 1, 0, min(most, len(paths))).round().astype(int)
    grids, notes = [], []
    for path in (paths[index] for index in sorted(indices)):
        try:
            picture = embed_file(path, most_bytes // len(indices))
        except ValueError as error:
            notes.append(f"{error}.")
            continue
        grids.append(SampleGrid(path.name, _step_of(path), picture))
    return SampleGrids(grids, len(paths), notes)


def _step_of(path: Path) -> int | None:
    found = re.fullmatch(r"step_(\d{1,15})", path.stem)
    return int(found[1]) if found else None
