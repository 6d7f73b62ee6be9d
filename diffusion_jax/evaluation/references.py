"""References: statistics of real images, in the file formats that FID implementations share.

An npz holds mu and sigma (of pool_3, or of other features), mu_s and sigma_s for sFID, and arr_0,
real images for KID, precision and recall. The files of ADM, EDM and pytorch-fid have some or all of
these; ours add `about`, a JSON text with the provenance.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.evaluation import features, image_sets, moments, published_references
from diffusion_jax.files import atomic, json_files, npz, write_access

# Names of the arrays that hold mean and covariance, by the name of the features.
KEYS = {"pool": ("mu", "sigma"), "features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}


@dataclass(frozen=True)
class Reference:
    """Statistics of real images, and perhaps some of the images.

    statistics: (mean, covariance) by the name of the features. images: uint8, or None. about: the
    entries of `Extractor.about`, and under "data" those of `Description.provenance`, where known.
    """

    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    images: np.ndarray | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, text: str) -> None:
        """Writes an npz, or only mean and covariance as "mean.npy,covariance.npy".

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


def out_paths(text: str) -> list[Path]:
    """The files that `Reference.save` writes.

    Raises ValueError for other names, for files that exist, and where nothing can be written.

    text: "reference.npz" or "mean.npy,covariance.npy".
    """
    paths = [Path(part).expanduser() for part in text.split(",")]
    if [path.suffix for path in paths] not in ([".npz"], [".npy", ".npy"]):
        raise ValueError(f"--out={text} must name an .npz, or mean.npy,covariance.npy")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} is there already; delete it, or choose another --out")
        write_access.check(path, "--out")
    return paths


def load(text: str, main: str) -> Reference:
    """A reference from an npz, or from two .npy files: "mean.npy,covariance.npy".

    main: the name of the features that mu and sigma are of. Raises FileNotFoundError or ValueError,
    which name the file.
    """
    paths = [Path(part).expanduser() for part in text.split(",")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"The reference {path} does not exist")
    if len(paths) == 2 and all(path.suffix == ".npy" for path in paths):
        mean, covariance = (np.squeeze(npz.read_array(path)) for path in paths)
        reference = Reference({main: (mean, covariance)})
    elif len(paths) == 1 and paths[0].suffix == ".npz":
        reference = _from_npz(paths[0], main)
    else:
        raise ValueError(f"reference={text} is neither an .npz nor mean.npy,covariance.npy")
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
        images = image_sets.checked(images, path)
    return Reference(statistics, images, about)


def check_same_features(reference: Reference, about: dict[str, Any]) -> None:
    """Raises ValueError if the reference is known to be of features other than `about`."""
    for name, value in about.items():
        there = reference.about.get(name, _unsaid(reference, name, value))
        if there != value:
            raise ValueError(
                f"The reference has {name}: {there}; here it is: {value}. Their distance would be "
                "meaningless; make a reference in the same way (python -m scripts.fid reference)"
            )


def _unsaid(reference: Reference, name: str, value: Any) -> Any:
    """What a reference stands for that does not say: ours had no versions before the first."""
    ours = "features" in reference.about
    return 1 if ours and name in (features.VERSION, moments.NAME) else value


def check_same_data(reference: Reference, about: dict[str, Any], whose: str) -> None:
    """Raises ValueError if the real images are known to differ in crop or size from the others.

    about: `Description.provenance` of the others' data. whose: what the message calls the others.
    """
    ours, theirs = about, reference.about.get("data", {})
    known_as = reference.about.get("known_as")
    which = f" ({known_as})" if known_as else ""
    pairs = {
        "crop": (theirs.get("origin", {}).get("crop"), ours.get("origin", {}).get("crop")),
        "resolution": (_side(reference, theirs), _of_shape(ours)),
    }
    for what, (there, here) in pairs.items():
        if there is not None and here is not None and there != here:
            raise ValueError(
                f"The {what} of the reference is {there}{which}, that of {whose} {here}: their "
                "distance would measure the resizing more than the model. Make a reference of the "
                "same data (python -m scripts.fid reference), or accept it with --allow_mismatch"
            )


def unsaid_size(reference: Reference, shape: tuple[int, ...]) -> str:
    """A warning if nothing is known of the size of the real images; "" if it is known.

    shape: of the others. Only features of any size of image, as InceptionV3's, need the warning.
    """
    known = _side(reference, reference.about.get("data", {}))
    if known is not None or "pool" not in reference.statistics:
        return ""
    return (
        "The reference does not say the size and crop of its images: the distance has a meaning "
        f"only if they were {shape[0]}x{shape[1]} and cut as the others; python -m scripts.fid "
        "reference makes one that says so"
    )


def _side(reference: Reference, data: dict[str, Any]) -> tuple[int, ...] | None:
    if reference.images is not None:
        return reference.images.shape[1:3]
    return _of_shape(data)


def _of_shape(data: dict[str, Any]) -> tuple[int, ...] | None:
    """Height and width; None if unknown, or if the images differ in size."""
    side = tuple(data.get("shape", ())[:2])
    return side if any(side) else None


def channels(reference: Reference) -> int:
    """The number of channels of a reference's images; 3 if unknown."""
    if reference.images is not None:
        return reference.images.shape[-1]
    return (reference.about.get("data", {}).get("shape") or [0, 0, 3])[2]
