"""Draws images from a trained model.

python -m scripts.sample --workdir runs/digits --labels all --count 100 --columns 10 --upscale 4
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli, sampling_flags

flags.adopt_module_key_flags(sampling_flags)  # shown by --help

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUT = flags.DEFINE_string(
    "out", None, "Folder for the results; default: WORKDIR/generated/NUMBER."
)
_LABELS = flags.DEFINE_string(
    "labels",
    "random",
    "random, all, none (the null class), or a list of numbers and class names: 3,tench,4. A name "
    "may have commas of its own.",
)
_COUNT = flags.DEFINE_integer(
    "count", None, "Images, shared evenly by the labels; default: 64, or one for each of them.", 1
)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0, 2**32 - 1)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time, on all devices.", 1)
_COLUMNS = flags.DEFINE_integer("columns", None, "Of the grid; default: a square.", 1)
_UPSCALE = flags.DEFINE_integer("upscale", 1, "Show each pixel as upscale x upscale pixels.", 1)
_CAPTIONS = flags.DEFINE_enum(
    "captions", "auto", ["auto", "none"], "auto: the names of the classes, if there are any."
)
_SAVE = flags.DEFINE_list("save", "grid", "What to write, a list of: grid, png, npz, gif.")
_FRAMES = flags.DEFINE_integer("frames", 50, "Pictures in the GIF (at most one a step).", 1)

KINDS = ("grid", "png", "npz", "gif")
LARGEST_GIF = 256  # images; all their frames are held in memory


def main() -> int:
    import jax

    from diffusion_jax import parallel
    from diffusion_jax.runs import labels as class_labels
    from diffusion_jax.runs import run_folder
    from diffusion_jax.runs.generator import Generator, load_params

    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    workdir = Path(_WORKDIR.value)
    config = run_folder.load(workdir)
    settings = sampling_flags.change(config)
    if not _SAVE.value:
        raise ValueError(f"--save is empty; known: {', '.join(KINDS)}")
    if unknown := set(_SAVE.value) - set(KINDS):
        raise ValueError(f"Unknown --save {min(unknown)!r}; known: {', '.join(KINDS)}")
    names = run_folder.class_names(workdir)
    classes = config.model.num_classes
    labels = class_labels.parse_labels(_LABELS.value, _COUNT.value, classes, names, _SEED.value)
    gif = "gif" in _SAVE.value
    if gif and len(labels) > LARGEST_GIF:
        raise ValueError(f"A GIF of {len(labels)} images; choose --count up to {LARGEST_GIF}")

    out = Path(_OUT.value) if _OUT.value else next_folder(workdir / "generated")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ValueError(f"--out={out} is there already; choose another folder, or delete it")
    generator = Generator.from_config(
        config,
        batch_size=_BATCH_SIZE.value or parallel.round_up(min(len(labels), 64)),
        frames=_FRAMES.value if gif else 0,
    )
    step, params = load_params(
        workdir, config, checkpoint=_CHECKPOINT.value, ema=_PARAMS.value == "ema"
    )
    images, film = generator(
        params,
        labels,
        seed=_SEED.value,
        progress=partial(cli.progress, unit="batch"),
    )
    if jax.process_index() == 0:
        settings |= {"checkpoint": step, "params": _PARAMS.value, "seed": _SEED.value}
        settings |= class_labels.described(labels, classes, names)
        captions = class_labels.captions(labels, classes, names)
        for path in write(out, images, film, labels, settings, captions):
            print(path)
    return 0


def write(
    out: Path,
    drawn: np.ndarray,
    film,
    labels: np.ndarray,
    settings: dict,
    names: list[str],
) -> list[Path]:
    """Writes what --save asks for, and returns the paths."""
    from diffusion_jax import images
    from diffusion_jax.pictures.captions import captioned_grid
    from diffusion_jax.runs.labels import file_name

    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    pixels = images.to_uint8(drawn)
    columns = _COLUMNS.value or int(np.ceil(np.sqrt(len(pixels))))
    upscale = _UPSCALE.value
    captions = names if _CAPTIONS.value == "auto" else []
    paths = {"grid": out / "grid.png", "png": out / "png", "npz": out / "samples.npz"}
    paths["gif"] = out / "denoising.gif"
    if "grid" in _SAVE.value:
        images.save_png(paths["grid"], captioned_grid(pixels, captions, columns, upscale=upscale))
    if "png" in _SAVE.value:
        paths["png"].mkdir(exist_ok=True)
        for index, (image, label) in enumerate(zip(pixels, labels)):
            image = images.grid(image[None], 1, padding=0, upscale=upscale)
            name = file_name(index, label, names[index] if names else "")
            images.save_png(paths["png"] / name, image)
    if "npz" in _SAVE.value:
        np.savez(paths["npz"], arr_0=pixels, arr_1=labels)
    if "gif" in _SAVE.value:
        frames = images.to_uint8(film.x).swapaxes(0, 1)
        grids = [captioned_grid(frame, captions, columns, upscale=upscale) for frame in frames]
        images.save_gif(paths["gif"], grids)
    return [paths[kind] for kind in KINDS if kind in _SAVE.value]


def next_folder(parent: Path) -> Path:
    """parent/0001, 0002, ...: the first number above all there are."""
    taken = [int(path.name) for path in parent.glob("[0-9]*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:04d}"


if __name__ == "__main__":
    cli.run(main)
