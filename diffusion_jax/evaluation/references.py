"""References: statistics of real images, in the file formats that FID implementations share.

An npz holds mu and sigma (of pool_3, or of other features), mu_s and sigma_s for sFID, and arr_0,
real images for KID, precision and recall. The files of ADM, EDM and pytorch-fid have some or all of
these. A reference written here also has `about`, a JSON text with the provenance.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.evaluation import image_sets, published_references
from diffusion_jax.files import atomic, json_files, npz, write_access
from diffusion_jax.files.paths import local_path

# Names of the arrays that hold mean and covariance, by the name of the features.
KEYS = {"pool": ("mu", "sigma"), "features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


@dataclass(frozen=True)
class Reference:
    """Statistics of real images, with some of the images if any were kept.

    Args:
        statistics: (mean, covariance) by the name of the features.
        images: uint8, or None.
        about: `Extractor.about`, and `Description.provenance` under "data", where known.
    """

    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    images: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def has_known_features(self) -> bool:
        """True if the features of the statistics are recorded."""
        return "features" in self.about

    @property
    def channels(self) -> int:
        """Channels of the images; 3 if unknown."""
        if self.images is not None:
            return self.images.shape[-1]
        return (self.about.get("data", {}).get("shape") or [0, 0, 3])[2]

    def save(self, text: str) -> None:
        """Writes an npz, or mean and covariance alone as "mean.npy,covariance.npy".

        Raises ValueError if a file exists already.
        """
        paths = out_paths(text)
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        if len(paths) == 2:
            main = "pool" if "pool" in self.statistics else "features"
            for path, array in zip(paths, self.statistics[main]):
                with atomic.replacing(path) as partial, partial.open("wb") as file:
                    np.save(file, array)
            return
        (path,) = paths
        arrays = {"about": np.array(json.dumps(self.about))}
        for name, statistics in self.statistics.items():
            arrays.update(zip(KEYS[name], statistics))
        if self.images is not None:
            arrays["arr_0"] = self.images
        npz.write(path, arrays)


def paths_of(text: str) -> list[Path]:
    """Returns the .npz file, or both of "mean.npy,covariance.npy"; names may contain commas."""
    return [local_path(part) for part in re.split(r"(?<=\.npy),", text)]


def out_paths(text: str) -> list[Path]:
    """Returns the files that `Reference.save` writes.

    text: "reference.npz" or "mean.npy,covariance.npy". Raises ValueError for other names, for files
    that exist, and where nothing can be written.
    """
    paths = paths_of(text)
    if [path.suffix for path in paths] not in ([".npz"], [".npy", ".npy"]):
        raise ValueError(f"--out={text} must name an .npz, or mean.npy,covariance.npy")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} already exists; delete it, or choose another --out")
        write_access.check(path, "--out")
    return paths


def load(text: str, main: str) -> Reference:
    """Reads a reference from an npz, or from two .npy files: "mean.npy,covariance.npy".

    main: the name of the features behind mu and sigma. Raises FileNotFoundError or ValueError,
    which name the file.
    """
    paths = paths_of(text)
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"The reference {path} does not exist")
    if len(paths) == 2 and all(path.suffix == ".npy" for path in paths):
        mean, covariance = (np.squeeze(npz.read_array(path)) for path in paths)
        reference = Reference({main: (mean, covariance)})
    elif len(paths) == 1 and paths[0].suffix == ".npz":
        reference = _from_npz(paths[0], main)
    else:
        raise ValueError(
            f"reference={text} is neither an .npz nor mean.npy,covariance.npy; give one of these"
        )
    for mean, covariance in reference.statistics.values():
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
            raise ValueError(
                f"{text} has a mean of shape {mean.shape} and a covariance of shape "
                f"{covariance.shape}"
            )
        if mean.dtype.kind not in "fiu" or covariance.dtype.kind not in "fiu":
            raise ValueError(f"{text} has statistics of types {mean.dtype} and {covariance.dtype}")
        if not np.allclose(covariance, covariance.T, rtol=1e-4, equal_nan=True):
            raise ValueError(f"{text} has a covariance that is not symmetric")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(f"{text} has statistics that are not all finite")
    return reference


def digest(text: str) -> str:
    """Returns the SHA-256 of a reference's files."""
    total = hashlib.sha256()
    for path in paths_of(text):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _from_npz(path: Path, main: str) -> Reference:
    arrays = npz.read(path)
    statistics = {}
    for name in (main, "spatial"):
        if set(KEYS[name]) <= set(arrays):
            mean, covariance = (arrays[key] for key in KEYS[name])
            statistics[name] = mean, covariance
    if main not in statistics:
        names = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} has no mu and sigma; it has: {names}")
    about = {}
    if "about" in arrays:
        try:
            about = dict(json_files.parse(str(arrays["about"])))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged: its `about` is not a JSON object: {error}"
            ) from None
    else:
        about = published_references.about(path, arrays)
    images = arrays.get("arr_0")
    if images is not None:
        images = image_sets.check_images(images, path)
    return Reference(statistics, images, about)
