"""Edits images with a trained model: PNG in, a side-by-side grid out.

python -m scripts.edit image --workdir runs/digits --images a.png --labels 7 --strength 0.6
python -m scripts.edit enlarge --workdir runs/adm_128_512 --images small.png --labels tabby
python -m scripts.edit inpaint --workdir runs/digits --images a.png --mask mask.png --labels 7
python -m scripts.edit interpolate --workdir runs/digits --images a.png,b.png --labels 3,8
python -m scripts.edit vary --workdir runs/digits --labels 1,2,3 --strength 0.5 --count 6
python -m scripts.edit invert --workdir runs/digits --images a.png --labels 7

image: noises images up to a part of the path, and denoises them. enlarge: draws large images for
small ones, with a model of super-resolution. inpaint: draws what the mask shows
white, and keeps the rest. interpolate: between two images, or two noises. vary: draws images, and
variations of them. invert: finds the noises that images come from, and draws them again.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from scripts.cli import app, flag_values, sampling_flags

flags.adopt_module_key_flags(sampling_flags)  # shown by --help

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or the name of a model that comes with the package."
)
_IMAGES = flags.DEFINE_list(
    "images", None, "Image files; other sizes are cut to the central square and resized."
)
_MASK = flags.DEFINE_list(
    "mask", None, "One mask for all images, or one for each: white is drawn anew, black is kept."
)
_STRENGTH = flags.DEFINE_float(
    "strength", 0.6, "Part of the sampling steps that images are noised and denoised by.", 0.0, 1.0
)
_COUNT = flags.DEFINE_integer(
    "count", None, "Results for each image, or from end to end; default: 4, or 8.", 1
)
_LABELS = flags.DEFINE_string(
    "labels",
    "none",
    "none (the null class), or numbers and class names: one for all images, or one for each.",
)
_RESAMPLE = flags.DEFINE_integer(
    "resample", 1, "How often each stretch is drawn; RePaint has 10. More fits the rest better.", 1
)
_JUMP = flags.DEFINE_integer("jump", 10, "Steps of such a stretch.", 1)
_INVERTER = flags.DEFINE_string(
    "inverter", "ddim", "The solver that runs backwards: ddim, heun or dpmpp_2m."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the results; default: WORKDIR/edited/NUMBER.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0, 2**32 - 1)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time, on all devices.", 1)
_UPSCALE = flags.DEFINE_integer("upscale", 1, "How many times larger the grid shows images.", 1, 64)

OF_EDITS = {
    "image": (_IMAGES, _STRENGTH, _COUNT),
    "inpaint": (_IMAGES, _MASK, _COUNT, _RESAMPLE, _JUMP),
    "interpolate": (_IMAGES, _COUNT, _INVERTER),
    "vary": (_STRENGTH, _COUNT),
    "invert": (_IMAGES, _INVERTER),
    "enlarge": (_IMAGES, _COUNT),
}
# An inversion has a solver of its own, and neither guidance nor clipping.
COMMANDS = {
    name: own if name == "invert" else (*own, *sampling_flags.OF_DRAWING)
    for name, own in OF_EDITS.items()
}


def main(command: str) -> int:
    import jax

    from diffusion_jax import parallel
    from diffusion_jax.config import overrides
    from diffusion_jax.generation import edit_files, editing, edits, guidance_models
    from diffusion_jax.generation.pixels import Origin
    from diffusion_jax.workdir.classes import load_classes
    from diffusion_jax.workdir.config import load_config
    from diffusion_jax.workdir.parameters import load_params

    app.check_flags(command, COMMANDS)
    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    workdir = Path(_WORKDIR.value)
    config = load_config(workdir)
    settings = sampling_flags.change(config)
    parallel.count_cpu_as(config.cpu_devices, _BATCH_SIZE.value or 0)
    files = given_files(command)
    size = side_of_images(command, config)
    images = edit_files.read_images(files, config, size=size) if files else None
    class_labels = given_labels(
        command, len(files), *guidance_models.classes_of(config, load_classes(workdir))
    )
    out = flag_values.results_folder(_OUT.value, workdir / "edited")
    count = _COUNT.value or (8 if command == "interpolate" else 4)
    drawn = dict.fromkeys(("image", "enlarge", "inpaint"), len(files) * count)
    drawn |= {"invert": len(files)}
    drawn |= {"interpolate": count, "vary": len(class_labels) * count}
    batch_size = _BATCH_SIZE.value or parallel.round_up(min(drawn[command], 64))
    step, params = load_params(
        workdir, config, checkpoint=_CHECKPOINT.value, ema=_PARAMS.value == "ema"
    )
    editor = editing.make_editor(
        config,
        params,
        batch_size=batch_size,
        inverter=_INVERTER.value,
        progress=partial(app.progress, unit="batch"),
    )
    seed, strength = _SEED.value, _STRENGTH.value
    match command:
        case "image":
            edited = edits.image_to_image(
                editor, images, class_labels, strength=strength, count=count, seed=seed
            )
        case "enlarge":
            edited = edits.enlarge(
                *(editor, images, class_labels),
                resolution=config.data.resolution,
                count=count,
                seed=seed,
            )
        case "inpaint":
            masks = edit_files.read_masks(given_masks(files), files, config)
            edited = edits.inpaint(
                editor,
                images,
                masks,
                class_labels,
                jump=_JUMP.value,
                times=_RESAMPLE.value,
                count=count,
                seed=seed,
            )
        case "interpolate":
            edited = edits.interpolate(editor, images, class_labels, count=count, seed=seed)
        case "vary":
            edited = edits.vary(editor, class_labels, strength=strength, count=count, seed=seed)
        case "invert":
            edited = edits.invert(editor, images, class_labels)
    if jax.process_index() == 0:
        if command == "invert":
            settings = overrides.in_use(editing.inverting(config, _INVERTER.value))
        settings |= {flag.name: flag.value for flag in OF_EDITS[command]} | {"count": count}
        settings |= {"edit": command, "labels": class_labels.tolist(), "checkpoint": step}
        settings |= {"params": _PARAMS.value, "seed": seed}
        write(out, edited, Origin(workdir, step, config.sampling.guidance), settings)
        for row, error in enumerate(edited.arrays.get("error", [])):
            print(f"{files[row]}: root mean square error {error:.4f} of [-1, 1]")
        print(out / "grid.png")
    return 0


def side_of_images(command: str, config) -> int:
    """The side that images are read in. Raises ValueError if the model has another use."""
    side = config.model.get("low_resolution", 0)
    if side and command != "enlarge":
        raise ValueError(
            f"The model of {_WORKDIR.value} enlarges images of {side}x{side}: use `enlarge`, which "
            f"takes --images, instead of `{command}`"
        )
    if not side and command == "enlarge":
        raise ValueError(
            f"{_WORKDIR.value} is no run of super-resolution (model.low_resolution is 0); "
            "`scripts.sample --upscaler` enlarges what any model draws"
        )
    return side or config.data.resolution


def given_files(command: str) -> list[Path]:
    """The image files. Raises ValueError if they are missing, or not two to interpolate between."""
    files = [Path(name) for name in _IMAGES.value or []]
    if not files and command not in ("vary", "interpolate"):
        raise ValueError("--images is missing; for example: --images a.png,b.png")
    if command == "interpolate" and len(files) not in (0, 2):
        raise ValueError(
            f"--images names {len(files)} files; give two to interpolate between, or none for "
            "two noises"
        )
    return files


def given_masks(files: list[Path]) -> list[Path]:
    """A mask file for each image. Raises ValueError if there are not as many, nor just one."""
    masks = [Path(name) for name in _MASK.value or []]
    if not masks:
        raise ValueError("--mask is missing; for example: --mask mask.png")
    if len(masks) not in (1, len(files)):
        raise ValueError(
            f"--mask names {len(masks)} files for {len(files)} images; give one for all, or one "
            "for each, such as --mask mask.png"
        )
    return masks if len(masks) == len(files) else masks * len(files)


def given_labels(command: str, images: int, classes: int, names: list[str]) -> np.ndarray:
    """A label for each row: of an image, or for `vary` as many as --labels has."""
    from diffusion_jax.generation import class_labels

    rows = {"vary": None, "interpolate": 2}.get(command, images)
    if not classes or _LABELS.value == "none":
        return class_labels.parse_labels(_LABELS.value, rows or 4, classes, [], _SEED.value)
    given = class_labels.parse_labels(_LABELS.value, None, classes, names, _SEED.value)
    if rows is None or len(given) == rows:
        return given
    if len(given) != 1:
        raise ValueError(
            f"--labels has {len(given)} labels for {rows} images; give one for all, or one for each"
        )
    return given.repeat(rows)


def write(out: Path, edited, origin, settings: dict) -> None:
    """Writes the grid, the results as PNGs, the settings, and arrays if there are any.

    Raises ValueError, and writes nothing, if the model drew values that are not finite.
    """
    from diffusion_jax import images
    from diffusion_jax.generation.pixels import finite_pixels
    from diffusion_jax.pictures.captions import captioned_grid

    columns = {name: finite_pixels(column, origin) for name, column in edited.columns.items()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    headings = list(edited.columns)
    cells = np.stack(list(columns.values()), axis=1)
    cells = cells.reshape(-1, *cells.shape[2:])
    captions = headings * (len(cells) // len(headings))
    grid = captioned_grid(cells, captions, len(headings), upscale=_UPSCALE.value)
    images.save_png(out / "grid.png", grid)
    for name in edited.results:
        for row, image in enumerate(columns[name]):
            images.save_png(out / f"{row:03d}_{name}.png", image)
    if edited.arrays:
        np.savez(out / "arrays.npz", **edited.arrays)


if __name__ == "__main__":
    app.run(main, COMMANDS)
