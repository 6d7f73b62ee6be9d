"""Edits of image files, written into a folder with a grid of inputs and results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax import images
from diffusion_jax.config import overrides
from diffusion_jax.generation.edit import for_inversion
from diffusion_jax.generation.upscaling import nearest
from diffusion_jax.images import Uint8Images
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.runs.run_edits import RunEdits, to_float

GRAY = 128  # of pixels that are replaced


@dataclass(frozen=True)
class Comparison:
    """Inputs and results of an edit, side by side.

    Args:
        columns: images by caption, with one row for each input.
        results: captions of the columns that are also written as files.
        arrays: further arrays to write, by name.
    """

    columns: Mapping[str, Uint8Images]
    results: Sequence[str]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def edit_into(
    out: Path,
    edits: RunEdits,
    name: str,
    *,
    files: Sequence[Path] = (),
    masks: Sequence[Path] = (),
    labels: str = "none",
    sampling: Mapping[str, Any],
    options: Mapping[str, Any],
    upscale: int = 1,
) -> dict[Path, str]:
    """Edits image files and writes the results, a grid and the settings.

    Args:
        out: the folder, which is made if it is missing.
        name: the edit: image, inpaint, interpolate, vary, invert or enlarge.
        files: images to edit; none for vary, none or two for interpolate.
        masks: masks to inpaint, one for all images or one for each.
        sampling: sampling settings that differ from the run's.
        options: keyword arguments of the edit.
        upscale: enlargement of the images of the grid.

    Returns:
        A note on each file to report; nothing in all processes but the first.

    Raises:
        ValueError: the inputs do not fit the run, or a result is not finite.
    """
    experiment = edits.run.experiment_with(sampling)
    if name == "invert":
        experiment = for_inversion(experiment, options["inverter"])
    comparison = compare(edits, name, files, masks, labels, sampling, options)
    rows = {"vary": None, "interpolate": 2}.get(name, len(files))
    settings = {
        **overrides.settings_in_use(experiment),
        **options,
        "edit": name,
        "images": [str(file) for file in files],
        "masks": [str(mask) for mask in masks],
        "labels": edits.labels(labels, rows, seed=options.get("seed", 0)).tolist(),
        "checkpoint": edits.run.step,
        "params": "ema" if edits.run.ema else "raw",
    }
    return {} if jax.process_index() else _write(out, comparison, settings, upscale)


def compare(
    edits: RunEdits,
    name: str,
    files: Sequence[Path],
    masks: Sequence[Path],
    labels: str,
    sampling: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Comparison:
    """Returns the inputs and the results of an edit; see `edit_into`."""
    pixels = edits.images(files, enlarging=name == "enlarge") if files else None
    settings = {**sampling, **options}
    if name == "vary":
        results = _columns(edits.vary(labels, **settings), options["count"] + 1)
        captions = ["sample", *map(str, range(1, len(results)))]
        return Comparison(dict(zip(captions, results)), captions)
    before: dict[str, Uint8Images] = {}
    after: dict[str, Uint8Images] = {}
    if pixels is None:  # only an interpolation needs no images
        results = edits.interpolate(labels=labels, **settings)
    elif name == "invert":
        return _inversion(edits, pixels, labels, sampling, **options)
    elif name == "image":
        results = edits.image_to_image(pixels, labels, **settings)
        before = {"image": pixels}
    elif name == "enlarge":
        results = edits.enlarge(pixels, labels, **settings)
        before = {"image": nearest(pixels, factor=results.shape[1] // pixels.shape[1])}
    elif name == "inpaint":
        replaced = edits.masks(masks, files, len(files))
        results = edits.inpaint(pixels, replaced, labels, **settings)
        kept = np.where(replaced[..., None], np.uint8(GRAY), pixels)
        before = {"image": pixels, "kept": kept}
    else:
        results = edits.interpolate(pixels[:1], pixels[1:], labels, **settings)
        before, after = {"first": pixels[:1]}, {"second": pixels[1:]}
    columns = _columns(results, options["count"])
    new = {str(number): column for number, column in enumerate(columns, 1)}
    return Comparison(before | new | after, list(new))


def _inversion(
    edits: RunEdits, pixels: Uint8Images, labels: str, sampling: Mapping[str, Any], *, inverter: str
) -> Comparison:
    """Compares images, their noise, and their reconstructions from it."""
    x0, experiment = to_float(pixels), edits.run.experiment_with(sampling)
    of_images = edits.labels(labels, len(x0))
    editor = edits.editor(len(x0), sampling, inverter=inverter)
    noise = editor.invert(x0, of_images)
    reconstructed = editor.reconstruct(noise, of_images)
    error = np.sqrt(np.mean((reconstructed - x0) ** 2, axis=(1, 2, 3)))
    # Black and white are three standard deviations.
    visible = noise / np.float32(3 * editor.sampler.sampling_schedule.init_noise_std)
    columns = {
        "image": pixels,
        "noise": edits.run.gallery(visible, experiment),
        "reconstructed": edits.run.gallery(reconstructed, experiment),
    }
    return Comparison(columns, ["reconstructed"], {"noise": noise, "error": error})


def _columns(results: Uint8Images, count: int) -> list[Uint8Images]:
    """Splits results of `count` for each row into columns."""
    grouped = np.asarray(results).reshape(-1, count, *results.shape[1:])
    return list(np.moveaxis(grouped, 1, 0))


def _write(
    out: Path, comparison: Comparison, settings: Mapping[str, Any], upscale: int
) -> dict[Path, str]:
    columns = comparison.columns
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    cells = np.concatenate(np.stack(list(columns.values()), axis=1))
    captions = list(columns) * (len(cells) // len(columns))
    images.save_png(
        out / "grid.png", captioned_grid(cells, captions, len(columns), upscale=upscale)
    )
    notes = {}
    for name in comparison.results:
        for row, image in enumerate(columns[name]):
            images.save_png(out / f"{row:03d}_{name}.png", image)
    if comparison.arrays:
        arrays: dict[str, Any] = dict(comparison.arrays)
        np.savez(out / "arrays.npz", **arrays)
    for row, error in enumerate(comparison.arrays.get("error", [])):
        notes[out / f"{row:03d}_reconstructed.png"] = f"root mean square error {error:.4f}"
    return notes | {out / "grid.png": ""}
