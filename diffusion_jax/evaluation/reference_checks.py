"""Checks that a reference and the evaluated images are comparable."""

from typing import Any

from diffusion_jax.evaluation.metrics import ENOUGH
from diffusion_jax.evaluation.references import Reference


def check_same_features(
    reference: Reference, about: dict[str, Any], *, allow_unknown: bool = False
) -> None:
    """Raises ValueError if the reference has features other than `about`, or unknown ones.

    allow_unknown: accept a reference that does not record its features.
    """
    if not reference.has_known_features and not allow_unknown:
        raise ValueError(
            f"The reference does not record its features, and its name is of no published file. "
            f"Its distance to {about['features']} may be meaningless. Make a reference of the real "
            "images (python -m scripts.fid reference), give a published file its own name, or "
            "accept it with --allow_mismatch (allow_mismatch=True in Python)"
        )
    for name, value in about.items():
        other = reference.about.get(name, value)
        if other != value:
            raise ValueError(
                f"The reference has {name}: {other}; here it is: {value}. Their distance would be "
                "meaningless; make a reference in the same way (python -m scripts.fid reference)"
            )


def check_same_data(reference: Reference, data: dict[str, Any], whose: str) -> None:
    """Raises ValueError if the real images are known to differ in crop or size from the others.

    Args:
        data: `Description.provenance` of the other images.
        whose: the name of the others in the message.
    """
    for mismatch in _mismatches(reference, data, whose):
        raise ValueError(
            f"{mismatch}: their distance would measure the resizing more than the model. Make a "
            "reference of the same data (python -m scripts.fid reference), or accept it with "
            "--allow_mismatch (allow_mismatch=True in Python)"
        )


def _mismatches(reference: Reference, data: dict[str, Any], whose: str) -> list[str]:
    """Returns a sentence on crop and on resolution, where both sides are known and differ."""
    real = reference.about.get("data", {})
    known_as = reference.about.get("known_as")
    source = f" ({known_as})" if known_as else ""
    pairs = {
        "crop": (real.get("origin", {}).get("crop"), data.get("origin", {}).get("crop")),
        "resolution": (_sides_of_reference(reference), _sides(data)),
    }
    return [
        f"The {what} of the reference is {there}{source}, and the {what} of {whose} is {here}"
        for what, (there, here) in pairs.items()
        if there is not None and here is not None and there != here
    ]


def warnings(
    reference: Reference, about: dict[str, Any], data: dict[str, Any], shape: tuple[int, ...]
) -> list[str]:
    """Returns sentences on what makes a distance to the reference less meaningful.

    Args:
        about: `Extractor.about` of the evaluated images.
        data: `Description.provenance` of the data that they stand for.
        shape: of the evaluated images.
    """
    return [
        *_warnings_of_unknown_features(reference, about),
        *_warnings_of_unknown_size(reference, shape),
        *_mismatches(reference, data, "the images"),
        *_warnings_of_few_images(reference),
        *_warnings_of_other_data(reference, data),
    ]


def _warnings_of_few_images(reference: Reference) -> list[str]:
    """Returns a sentence if the statistics are of few images; published files do not say."""
    count = reference.about.get("count")
    size = max(len(mean) for mean, _ in reference.statistics.values())
    if not isinstance(count, int) or count >= ENOUGH * size:
        return []
    return [
        f"The reference is of only {count:,} images for {size:,} features, so the distance is "
        "biased upward"
    ]


def _warnings_of_other_data(reference: Reference, data: dict[str, Any]) -> list[str]:
    """Returns a sentence if the reference is known to be of other images than the training data."""
    real = reference.about.get("data", {})
    there, here = (of.get("fingerprint") for of in (real, data))
    if not there or not here or there == here:
        return []
    of_reference, of_model = (
        f"{of.get('name')}, {of.get('split')}, fingerprint {of['fingerprint'][:16]}"
        for of in (real, data)
    )
    return [f"The reference is of other data ({of_reference}) than the model's ({of_model})"]


def _warnings_of_unknown_features(reference: Reference, about: dict[str, Any]) -> list[str]:
    """Returns a sentence if the reference does not record its features."""
    if reference.has_known_features:
        return []
    return [
        f"The reference does not record its features. The distance is meaningful only if they are "
        f"{about['features']}, and is named FD, not FID"
    ]


def _warnings_of_unknown_size(reference: Reference, shape: tuple[int, ...]) -> list[str]:
    """Returns a sentence if the size of the real images is unknown.

    Features that exist for one size of image alone need none.
    """
    if _sides_of_reference(reference) is not None or "pool" not in reference.statistics:
        return []
    return [
        "The reference does not record the size and crop of its images. The distance is "
        f"meaningful only if they were {shape[0]}x{shape[1]}, cropped as the others; python -m "
        "scripts.fid reference records both"
    ]


def _sides_of_reference(reference: Reference) -> tuple[int, ...] | None:
    if reference.images is not None:
        return reference.images.shape[1:3]
    return _sides(reference.about.get("data", {}))


def _sides(data: dict[str, Any]) -> tuple[int, ...] | None:
    """Returns height and width; None if unknown, or if the images differ in size."""
    sides = tuple(data.get("shape", ())[:2])
    return sides if any(sides) else None
