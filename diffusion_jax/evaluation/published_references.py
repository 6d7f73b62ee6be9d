"""Provenance of published references, recognized by file name and array shapes.

No digests of these files were available. A file is recognized if it has a published name and arrays
of the published shapes; arrays alone do not show where they are from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.evaluation import inception_weights

# Features of all these files, by the names in `Extractor.about`.
FEATURES = {
    "features": inception_weights.NETWORK,
    "weights": inception_weights.PUBLISHED,
    "resize": "tensorflow",
}
POOL = {"mu": (2048,), "sigma": (2048, 2048)}
SPATIAL = {"mu_s": (2023,), "sigma_s": (2023, 2023)}


@dataclass(frozen=True)
class Published:
    """Published file of a reference.

    Args:
        author: for messages.
        side: of its images, in pixels.
        crop: of its images, see `data.crops`; None if unknown.
        shapes: of its statistics by name.
    """

    author: str
    side: int
    crop: str | None
    shapes: Mapping[str, tuple[int, ...]]

    def matches(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """True if the arrays have the published shapes; images, if any, the published size."""
        images = arrays.get("arr_0")
        of_side = images is None or images.shape[1:] == (self.side, self.side, 3)
        shapes = {name: array.shape for name, array in arrays.items()}
        return of_side and all(shapes.get(name) == shape for name, shape in self.shapes.items())


def _adm(side: int, crop: str | None) -> Published:
    return Published("ADM's", side, crop, POOL | SPATIAL)


def _edm(side: int, crop: str | None, author: str = "EDM's") -> Published:
    return Published(author, side, crop, POOL)


FILES = {
    "VIRTUAL_imagenet64_labeled.npz": _adm(64, "center-crop-dhariwal"),
    "VIRTUAL_imagenet128_labeled.npz": _adm(128, "center-crop-dhariwal"),
    "VIRTUAL_imagenet256_labeled.npz": _adm(256, "center-crop-dhariwal"),
    "VIRTUAL_imagenet512.npz": _adm(512, "center-crop-dhariwal"),
    "VIRTUAL_lsun_bedroom256.npz": _adm(256, None),
    "VIRTUAL_lsun_cat256.npz": _adm(256, None),
    "VIRTUAL_lsun_horse256.npz": _adm(256, None),
    "imagenet-64x64-baseline.npz": _edm(64, "center-crop-dhariwal", "EDM's, for ADM,"),
    "imagenet-64x64.npz": _edm(64, "center-crop"),
    "cifar10-32x32.npz": _edm(32, None),
    "ffhq-64x64.npz": _edm(64, None),
    "afhqv2-64x64.npz": _edm(64, None),
}


def about(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns `Reference.about` of a published file, or {} for other files."""
    file = FILES.get(path.name)
    if file is None or not file.matches(arrays):
        return {}
    origin = {"crop": file.crop} if file.crop else {}
    return {
        "published": path.name,
        "known_as": f"{file.author} {path.name} by its name",
        "data": {"shape": [file.side, file.side, 3], "origin": origin},
        **FEATURES,
    }
