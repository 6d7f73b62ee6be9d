"""Feature extractors: from uint8 images to the feature vectors of metrics, on all devices."""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import PyTree

from diffusion_jax import parallel
from diffusion_jax.evaluation import inception_weights
from diffusion_jax.evaluation.inception import InceptionV3
from diffusion_jax.evaluation.resize import ON_DEVICE, RESIZES, clean
from diffusion_jax.images import Uint8Images

# (batch, size) arrays by name: pool, spatial and logits from InceptionV3, otherwise "features".
Features = dict[str, np.ndarray]
LARGEST = 8192  # features; their covariance takes 0.5 GB
# Versions of the features, increased with every change to the numbers, which includes changes in
# `inception`, `inception_weights` and `resize`. MODULE:FUNCTION has a digest of its code instead.
VERSIONS = {"inception": 1, "pixels": 1}
VERSION = "features_version"  # key in `Extractor.about`


@dataclass(frozen=True)
class Extractor:
    """Feature extractor with checks of its output.

    Args:
        function: from uint8 images to features.
        about: provenance.
        is_fid: True if the Frechet distance of the main features is the FID.
        main: name of the features for the Frechet distance, KID, precision and recall.
    """

    function: Callable[[Uint8Images], Features]
    about: dict[str, Any]
    is_fid: bool
    main: str

    def __call__(self, images: Uint8Images) -> Features:
        """Computes features. Raises ValueError if they are not finite or have another shape."""
        features = {
            name: rows if rows.dtype == np.float64 else np.asarray(rows, np.float32)
            for name, rows in self.function(images).items()
        }
        for name, rows in features.items():
            if rows.shape[0] != len(images) or rows.ndim != 2 or rows.shape[1] > LARGEST:
                raise ValueError(
                    f"{len(images)} images gave {name} of shape {rows.shape}; ({len(images)}, up "
                    f"to {LARGEST}) is expected. Reduce them in a function for "
                    "features=MODULE:FUNCTION"
                )
            if not np.isfinite(rows).all():
                raise ValueError(f"The {name} of some images are not finite")
        return features


def make_extractor(
    kind: str, *, weights: str = "published", resize: str = "tensorflow", batch_size: int = 64
) -> Extractor:
    """Returns the extractor named `kind`.

    Args:
        kind: "inception"; "random", which is inception with random weights; "pixels", in [-1, 1];
            or "MODULE:FUNCTION", a function from uint8 images (batch, height, width, channels) to
            (batch, size).
        weights: of InceptionV3, see `inception_weights.load`.
        resize: a key of `RESIZES`, for InceptionV3.
        batch_size: on all devices, rounded up to a multiple of their number.

    Raises:
        ValueError: for an unknown kind or resize, or a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if kind in ("inception", "random"):
        weights = "random" if kind == "random" else weights
        return _inception(weights, resize, parallel.round_up(batch_size))
    if kind == "pixels":
        about = {"features": "pixels", VERSION: VERSIONS[kind]}
        return Extractor(_pixels, about, is_fid=False, main="features")
    if ":" in kind:
        return _from_module(kind, batch_size)
    raise ValueError(
        f"Unknown features {kind!r}; known: inception, random, pixels, MODULE:FUNCTION"
    )


def _inception(weights: str, resize: str, batch_size: int) -> Extractor:
    if resize not in RESIZES:
        raise ValueError(f"Unknown resize {resize!r}; known: {', '.join(RESIZES)}")
    params, about = inception_weights.load(weights)
    params = parallel.replicate(params)
    on_device = ON_DEVICE.get(resize, lambda resized: resized)

    def network(params: PyTree, numbers: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        outputs = InceptionV3().apply({"params": params}, on_device(batch["images"]))
        return cast(Any, outputs)._asdict()

    run = parallel.map_batch(network)

    def extract(images: Uint8Images) -> Features:
        if images.shape[-1] not in (1, 3):
            raise ValueError(f"Images of {images.shape[-1]} channels; 1 (gray) or 3 are expected")
        rows = []
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            part = np.repeat(part, 3, axis=-1) if part.shape[-1] == 1 else part
            prepared = clean(part) if resize == "clean" else part
            # The last batch is padded to the same shape, to avoid a second compilation.
            missing = [(0, batch_size - len(part))] + [(0, 0)] * 3
            batch = parallel.local_rows({"images": np.pad(prepared, missing)})
            features = run(params, {}, batch)
            rows.append({name: array[: len(part)] for name, array in features.items()})
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    known: dict[str, Any] = {
        "features": inception_weights.NETWORK,
        "weights": about,
        "resize": resize,
    }
    known[VERSION] = VERSIONS["inception"]
    return Extractor(extract, known, is_fid=weights != "random", main="pool")


def _pixels(images: Uint8Images) -> Features:
    return {"features": images.reshape(len(images), -1) / np.float32(127.5) - 1}


def _from_module(kind: str, batch_size: int) -> Extractor:
    module, _, name = kind.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"features={kind} must name a function, MODULE:FUNCTION: {error}"
        ) from None

    def extract(images: Uint8Images) -> Features:
        parts = range(0, len(images), batch_size)
        rows = [np.asarray(function(images[first : first + batch_size])) for first in parts]
        return {"features": np.concatenate(rows)}

    about = {"features": kind}
    try:
        source = inspect.getsourcefile(function)
    except TypeError:
        raise ValueError(
            f"features={kind} must name a function or class in Python; this one is not"
        ) from None
    if source:
        about["code_sha256"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return Extractor(extract, about, is_fid=False, main="features")
