"""What generated images are compared with: statistics of real ones, in the files of the field.

An npz has mu and sigma (of pool_3, or of other features), for sFID mu_s and sigma_s, and arr_0,
real images for KID, precision and recall; those of ADM, EDM and pytorch-fid have some or all of
these. Ours say besides what they were made of and how.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# The arrays of each kind of statistics, by the name of the features.
KEYS = {"pool": ("mu", "sigma"), "features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
# Published files, by name, whose images were cut in a way that they do not tell.
CROPS = {
    "VIRTUAL_imagenet64_labeled.npz": "center-crop-dhariwal",  # ADM's
    "imagenet-64x64-baseline.npz": "center-crop-dhariwal",  # EDM's, for ADM
    "imagenet-64x64.npz": "center-crop",  # EDM's own
}


@dataclass(frozen=True)
class Reference:
    """What to compare with.

    statistics: (mean, covariance) by the name of the features. images: uint8 real images, or none.
    about: what `Extractor.about` says, and under "data" what `Description.provenance` says, as far
    as it is known.
    """

    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    images: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, text: str) -> None:
        """Writes an npz, or mean and covariance alone as "mean.npy,covariance.npy".

        Raises ValueError if a file is there already.
        """
        paths = out_paths(text)
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        if len(paths) == 2:
            main = "pool" if "pool" in self.statistics else "features"
            for path, array in zip(paths, self.statistics[main]):
                np.save(path, array)
            return
        (path,) = paths
        arrays = {"about": np.array(json.dumps(self.about))}
        for name, statistics in self.statistics.items():
            arrays.update(zip(KEYS[name], statistics))
        if self.images is not None:
            arrays["arr_0"] = self.images
        partial = path.with_name(path.name + ".tmp")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.rename(path)


def out_paths(text: str) -> list[Path]:
    """Where a reference is written. Raises ValueError if that cannot be, or is there already."""
    paths = [Path(part).expanduser() for part in text.split(",")]
    if [path.suffix for path in paths] not in ([".npz"], [".npy", ".npy"]):
        raise ValueError(f"--out={text} must name an .npz, or mean.npy,covariance.npy")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already; delete it, or choose another --out")
    return paths


def load(text: str, main: str) -> Reference:
    """A reference from an npz, or from the .npy files of mean and covariance: "mean.npy,cov.npy".

    main: the features that mu and sigma are of. Raises FileNotFoundError or ValueError, in which
    the file is named.
    """
    paths = [Path(part).expanduser() for part in text.split(",")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no reference {path} (--reference)")
    if len(paths) == 2 and all(path.suffix == ".npy" for path in paths):
        mean, covariance = (np.squeeze(_read(path)) for path in paths)
        reference = Reference({main: (mean, covariance)})
    elif len(paths) == 1 and paths[0].suffix == ".npz":
        reference = _from_npz(paths[0], main)
    else:
        raise ValueError(f"--reference={text} is no .npz, and no mean.npy,covariance.npy")
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
    """SHA-256 of a reference's files."""
    total = hashlib.sha256()
    for part in text.split(","):
        with Path(part).expanduser().open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _from_npz(path: Path, main: str) -> Reference:
    arrays = _read(path)
    statistics = {}
    for name in (main, "spatial"):
        if set(KEYS[name]) <= set(arrays):
            mean, covariance = (arrays[key] for key in KEYS[name])
            statistics[name] = mean, covariance
    if main not in statistics:
        raise ValueError(f"{path} has no mu and sigma; {_names(arrays)}")
    about = {}
    if "about" in arrays:
        try:
            about = dict(json.loads(str(arrays["about"])))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is damaged: its `about` is no JSON object: {error}") from None
    elif path.name in CROPS:
        about = {"data": {"origin": {"crop": CROPS[path.name]}}}
    images = arrays.get("arr_0")
    if images is not None:
        images = checked_images(images, path)
    return Reference(statistics, images, about)


def _names(arrays: dict[str, np.ndarray]) -> str:
    return f"it has: {', '.join(sorted(arrays)) or 'nothing'}"


def checked_images(images: np.ndarray, path: Path) -> np.ndarray:
    """The images of an npz. Raises ValueError if they are none."""
    usual = images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3)
    if not usual or not len(images):
        raise ValueError(
            f"{path} has arr_0 of type {images.dtype} and shape {images.shape}; uint8 images "
            "(count, height, width, 1 or 3) were expected"
        )
    return images


def _read(path: Path) -> Any:
    """An .npy's array, or an .npz's arrays by name; nothing is unpickled."""
    try:
        found = np.load(path, allow_pickle=False)
        return {name: found[name] for name in found.files} if path.suffix == ".npz" else found
    except Exception as error:  # a damaged zip file raises whatever it likes
        raise ValueError(f"{path} is damaged, or no file of NumPy's: {error}") from None


def read_images(path: Path) -> np.ndarray:
    """arr_0 of an npz of images, as ADM writes it."""
    arrays = _read(path)
    if "arr_0" not in arrays:
        raise ValueError(f"{path} has no arr_0; {_names(arrays)}")
    return checked_images(arrays["arr_0"], path)


def check_same_features(reference: Reference, about: dict[str, str]) -> None:
    """Raises ValueError if the reference is known to be of other features than those in `about`."""
    for name, value in about.items():
        there = reference.about.get(name, value)
        if there != value:
            raise ValueError(
                f"The reference has {name}: {there}; here it is: {value}. Their distance means "
                "nothing; make a reference in the same way (python -m scripts.fid reference)"
            )


def check_same_data(reference: Reference, about: dict[str, Any], whose: str) -> None:
    """Raises ValueError if what is known of the real images contradicts how the others were made.

    about: of the other images, as `Description.provenance` has it.
    """
    ours, theirs = about, reference.about.get("data", {})
    pairs = {
        "crop": (theirs.get("origin", {}).get("crop"), ours.get("origin", {}).get("crop")),
        "resolution": (_side(reference, theirs), _of_shape(ours)),
    }
    for what, (there, here) in pairs.items():
        if there is not None and here is not None and there != here:
            raise ValueError(
                f"The {what} of the reference is {there}, that of {whose} {here}: their distance "
                "says more of the resizing than of the model. Make a reference of the same data "
                "(python -m scripts.fid reference), or accept it with --allow_mismatch"
            )


def _side(reference: Reference, data: dict[str, Any]) -> tuple[int, ...] | None:
    if reference.images is not None:
        return reference.images.shape[1:3]
    return _of_shape(data)


def _of_shape(data: dict[str, Any]) -> tuple[int, ...] | None:
    """Height and width; none if they are not known, or those of images that differ in size."""
    side = tuple(data.get("shape", ())[:2])
    return side if any(side) else None


def channels(reference: Reference) -> int:
    """Of the images that a reference was made of; 3 if that is not known."""
    if reference.images is not None:
        return reference.images.shape[-1]
    return (reference.about.get("data", {}).get("shape") or [0, 0, 3])[2]
