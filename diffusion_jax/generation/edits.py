"""The edits that `scripts.edit` has, each with what it shows side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from diffusion_jax.generation.editing import Editor, Labels, Masks, SmallImages
from diffusion_jax.generation.sampler import HostImages

UNKNOWN = 0.0  # the gray, of [-1, 1], that stands for pixels to be drawn


@dataclass(frozen=True)
class Edited:
    """What is shown side by side, and what of it is new.

    columns: images (rows, height, width, channels) by heading, with a row for each edited image.
    results: the headings of what is new. arrays: to be saved besides.
    """

    columns: Mapping[str, HostImages]
    results: list[str]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def image_to_image(
    editor: Editor, images: HostImages, labels: Labels, *, strength: float, count: int, seed: int
) -> Edited:
    """`count` new images from each, see `Editor.image_to_image`."""
    drawn = editor.image_to_image(
        images.repeat(count, axis=0), labels.repeat(count), strength=strength, seed=seed
    )
    results = _numbered(drawn, count)
    return Edited({"image": images} | results, list(results))


def enlarge(
    editor: Editor, images: SmallImages, labels: Labels, *, resolution: int, count: int, seed: int
) -> Edited:
    """`count` large images for each small one, see `Editor.enlarge`. resolution: their side."""
    drawn = editor.enlarge(images.repeat(count, axis=0), labels.repeat(count), seed=seed)
    results = _numbered(drawn, count)
    factor = resolution // images.shape[1]
    shown = images.repeat(factor, axis=1).repeat(factor, axis=2)
    return Edited({"image": shown} | results, list(results))


def inpaint(
    editor: Editor,
    images: HostImages,
    masks: Masks,
    labels: Labels,
    *,
    jump: int,
    times: int,
    count: int,
    seed: int,
) -> Edited:
    """`count` completions of each image, see `Editor.inpaint`."""
    drawn = editor.inpaint(
        images.repeat(count, axis=0),
        masks.repeat(count, axis=0),
        labels.repeat(count),
        jump=jump,
        times=times,
        seed=seed,
    )
    results = _numbered(drawn, count)
    kept = np.where(masks > 0, images, np.float32(UNKNOWN))
    return Edited({"image": images, "kept": kept} | results, list(results))


def interpolate(
    editor: Editor, images: HostImages | None, labels: Labels, *, count: int, seed: int
) -> Edited:
    """`count` images drawn from noises between two ends, which stand beside them.

    The ends are two images, whose noises are found by inversion, or without images two noises of
    the seed. labels: of the ends; each drawn image has that of the nearer one.
    """
    noises = editor.noises(2, seed=seed) if images is None else editor.invert(images, labels)
    nearer = labels[np.arange(count) * 2 // count]
    drawn = editor.interpolate(
        noises[:1], noises[1:], nearer, seed=seed, inverted=images is not None
    )
    columns = _numbered(drawn, count)
    results = list(columns)
    if images is not None:
        columns = {"first": images[:1]} | columns | {"second": images[1:]}
    return Edited(columns, results)


def vary(editor: Editor, labels: Labels, *, strength: float, count: int, seed: int) -> Edited:
    """An image for each label and `count` variations of it, see `Editor.vary`."""
    drawn, varied = editor.vary(labels, strength=strength, count=count, seed=seed)
    results = _numbered(varied, count)
    return Edited({"drawn": drawn} | results, ["drawn", *results])


def invert(editor: Editor, images: HostImages, labels: Labels) -> Edited:
    """The noise that each image comes from, and the image that it leads back to."""
    noises = editor.invert(images, labels)
    again = editor.again(noises, labels)
    # Shown with three standard deviations as black and white.
    shown = noises / np.float32(3 * editor.generator.path.start_std)
    columns = {"image": images, "noise": shown, "again": again}
    error = np.sqrt(np.mean((again - images) ** 2, axis=(1, 2, 3)))
    return Edited(columns, ["again"], {"noise": noises, "error": error})


def _numbered(
    drawn: HostImages, count: int
) -> dict[str, Float[np.ndarray, "rows height width channels"]]:
    """Columns "1" .. "count" of images that vary fastest over the columns."""
    rows = drawn.reshape(-1, count, *drawn.shape[1:])
    return {str(column + 1): rows[:, column] for column in range(count)}
