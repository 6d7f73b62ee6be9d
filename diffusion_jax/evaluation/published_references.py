"""Provenance of published references, which do not record it: recognized by content or by name.

No digests of these files were available. ADM's file is recognized by the shapes of its arrays.
EDM's files hold a mean and a covariance alone, so only their names distinguish them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Published:
    """Published file of a reference.

    Args:
        author: for messages.
        side: of its images, in pixels.
        crop: of its images, see `data.crops`.
        shapes: of its arrays by name, if these identify the file; None otherwise.
    """

    author: str
    side: int
    crop: str
    shapes: Mapping[str, tuple[int, ...]] | None = None

    def matches(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """True if the arrays have the shapes that identify the file."""
        shapes = {name: array.shape for name, array in arrays.items()}
        return bool(self.shapes) and all(
            shapes.get(name) == shape for name, shape in self.shapes.items()
        )


FILES = {
    "VIRTUAL_imagenet64_labeled.npz": Published(
        "ADM's",
        64,
        "center-crop-dhariwal",
        {
            "mu": (2048,),
            "sigma": (2048, 2048),
            "mu_s": (2023,),
            "sigma_s": (2023, 2023),
            "arr_0": (10_000, 64, 64, 3),
        },
    ),
    "imagenet-64x64-baseline.npz": Published("EDM's, for ADM,", 64, "center-crop-dhariwal"),
    "imagenet-64x64.npz": Published("EDM's", 64, "center-crop"),
}


def about(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns `Reference.about` of a published file, or {} for other files.

    Content takes precedence over the name, because files are renamed.
    """
    for name, file in FILES.items():
        if file.matches(arrays):
            return _about(file, f"{file.author} {name} by its content")
    if path.name in FILES:
        file = FILES[path.name]
        return _about(file, f"{file.author} {path.name} by its name")
    return {}


def _about(file: Published, known_as: str) -> dict[str, Any]:
    data = {"shape": [file.side, file.side, 3], "origin": {"crop": file.crop}}
    return {"known_as": known_as, "data": data}
