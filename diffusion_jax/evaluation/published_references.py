"""Published references, which do not say what their images were: known by content or by name.

No digests of these files are known to us. ADM's is known by what is in it, whatever its name; those
of EDM hold a mean and a covariance alone, as those of any other images do, and only their names
tell them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Published:
    """A published file. side: of its images, in pixels. crop: how they were cut, see `data.crops`.

    shapes: of the arrays that no other file has, by name; without any, only its name tells it.
    """

    whose: str
    side: int
    crop: str
    shapes: Mapping[str, tuple[int, ...]] | None = None

    def is_in(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether the arrays have all these shapes."""
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
    """What is known of a published file that does not say it, as in `Reference.about`; or {}.

    Its content tells more than its name: it may have been renamed.
    """
    for name, file in FILES.items():
        if file.is_in(arrays):
            return _described(file, f"{file.whose} {name} by its content")
    if path.name in FILES:
        file = FILES[path.name]
        return _described(file, f"{file.whose} {path.name} by its name")
    return {}


def _described(file: Published, known_as: str) -> dict[str, Any]:
    data = {"shape": [file.side, file.side, 3], "origin": {"crop": file.crop}}
    return {"known_as": known_as, "data": data}
