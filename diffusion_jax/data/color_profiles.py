"""Conversion to sRGB from embedded ICC profiles, and from the gamma of PNG files."""

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

SRGB_GAMMA = 1 / 2.2
# Differences that are rounding, or other versions of sRGB: in levels, and of the gamma.
SAME_LEVELS, SAME_GAMMA = 3, 0.02
PROBE = np.stack(np.meshgrid(*[np.linspace(0, 255, 6)] * 3), -1).reshape(1, -1, 3).astype(np.uint8)
# Modes of images by the color space of a profile, in the spelling of ICC.
MODES = {"GRAY": ("L",), "RGB": ("RGB", "L"), "CMYK": ("CMYK",), "Lab": ("LAB",)}

Conversion = Callable[[Image.Image], Image.Image]


def conversion_to_srgb(mode: str, info: Mapping[str, Any]) -> Conversion | None:
    """Returns the conversion of an image's colors to sRGB; None if they are sRGB, or unspecified.

    Args:
        mode: of the image, such as L, RGB, CMYK or LAB.
        info: of the image file, as Pillow has it.

    Raises:
        ValueError: for an unreadable profile, and for one of another color space.
    """
    profile = info.get("icc_profile")
    if profile:
        return _of_profile(profile, mode)
    gamma = info.get("gamma")
    if "srgb" in info or not gamma or mode not in ("L", "RGB"):
        return None
    return _of_gamma(float(gamma))


@lru_cache(maxsize=16)
def _of_profile(profile: bytes, mode: str) -> Conversion | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = cast(Any, source.profile).xcolor_space.strip()
        if mode not in MODES.get(space, ()):
            raise ValueError(f"its color profile is for {space} and the image for {mode}")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            "RGB" if space == "RGB" else mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, TypeError) as error:
        raise ValueError(f"its color profile is unreadable: {error}") from None

    def convert(image: Image.Image) -> Image.Image:
        image = image.convert("RGB") if space == "RGB" else image
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # as it is only for a change in place
        return converted

    return convert if mode not in ("L", "RGB") or _changes(convert, mode) else None


@lru_cache(maxsize=16)
def _of_gamma(gamma: float) -> Conversion | None:
    """Returns the conversion from levels that are the light to the power of gamma."""
    if not 0.01 < gamma < 10 or abs(gamma - SRGB_GAMMA) < SAME_GAMMA:
        return None
    light = np.linspace(0, 1, 256) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels = np.rint(255 * encoded).astype(int).tolist()
    return lambda image: image.point(levels * len(image.getbands()))


def _changes(convert: Conversion, mode: str) -> bool:
    probe = Image.fromarray(PROBE).convert(mode)
    before, after = (np.asarray(i.convert("RGB"), int) for i in (probe, convert(probe)))
    return bool(np.abs(after - before).max() > SAME_LEVELS)
