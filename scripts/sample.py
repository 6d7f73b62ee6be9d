"""Draws images from a trained model.

python -m scripts.sample --workdir runs/digits --labels all --count 100 --columns 10 --upscale 4
"""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUT = flags.DEFINE_string(
    "out", None, "Folder for the results; default: WORKDIR/generated/NUMBER."
)
_LABELS = flags.DEFINE_string(
    "labels", "random", "random, all, none (the null class), or a list of numbers or names: 3,1,4"
)
_COUNT = flags.DEFINE_integer(
    "count", None, "Images, shared evenly by the labels; default: 64, or one for each of them.", 1
)
_GUIDANCE = flags.DEFINE_float("guidance", None, "w in (1+w) conditional - w unconditional.", 0.0)
_STEPS = flags.DEFINE_integer("steps", None, "Sampling steps, evenly spaced.", 1)
_STRIDE = flags.DEFINE_integer("stride", None, "In place of --steps: every stride-th step.", 1)
_SOLVER = flags.DEFINE_string(
    "solver",
    None,
    "Such as ddim, heun or dpmpp_2m; a wrong name is answered with the list. original samples "
    "exactly as gmongaras/Diffusion_models_from_scratch, which does not clip unless told to.",
)
_SPACING = flags.DEFINE_string(
    "spacing", None, "Of the steps, such as ends or karras; a wrong name is answered with the list."
)
_ETA = flags.DEFINE_float("eta", None, "Of ddim and original. 0: DDIM; 1: DDPM.", 0.0)
_DDIM_SCALE = flags.DEFINE_float(
    "ddim_scale", None, "Instead of --eta: its square, the original's DDIM_scale.", 0.0
)
_OPTION = flags.DEFINE_multi_string(
    "option", [], "Any option of the solver or the spacing, as NAME=VALUE; can be repeated."
)
_CLIP = flags.DEFINE_bool(
    "clip",
    None,
    "Clip the predicted x0 to [-1, 1]; without, first steps may blow up. The original's "
    "clipping is what the original calls corrected.",
)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0, 2**32 - 1)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time, on all devices.", 1)
_COLUMNS = flags.DEFINE_integer("columns", None, "Of the grid; default: a square.", 1)
_UPSCALE = flags.DEFINE_integer("upscale", 1, "Show each pixel as upscale x upscale pixels.", 1)
_SAVE = flags.DEFINE_list("save", "grid", "What to write, a list of: grid, png, npz, gif.")
_FRAMES = flags.DEFINE_integer("frames", 50, "Pictures in the GIF (at most one a step).", 1)

KINDS = ("grid", "png", "npz", "gif")
LARGEST_GIF = 256  # images; all their frames are held in memory


def main() -> int:
    import jax

    from diffusion_jax import parallel
    from diffusion_jax.runs import run_folder
    from diffusion_jax.runs.generator import Generator, load_params

    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    workdir = Path(_WORKDIR.value)
    config = run_folder.load(workdir)
    settings = changed_settings(config)
    if not _SAVE.value:
        raise ValueError(f"--save is empty; known: {', '.join(KINDS)}")
    if unknown := set(_SAVE.value) - set(KINDS):
        raise ValueError(f"Unknown --save {min(unknown)!r}; known: {', '.join(KINDS)}")
    names = run_folder.class_names(workdir)
    labels = parse_labels(_LABELS.value, _COUNT.value, config.model.num_classes, names, _SEED.value)
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
        for path in write(out, images, film, labels, settings):
            print(path)
    return 0


def changed_settings(config) -> dict:
    """The sampling settings in use, after the flags have changed what they name in the config.

    Raises ValueError if the config is not valid.
    """
    from diffusion_jax.runs import sampling_settings
    from diffusion_jax.runs.validation import validate

    eta = _ETA.value
    if _DDIM_SCALE.value is not None:
        if eta is not None:
            raise ValueError("--eta and --ddim_scale were both given; choose one")
        eta = math.sqrt(_DDIM_SCALE.value)
    given = {
        "solver": _SOLVER.value,
        "steps": _STEPS.value,
        "stride": _STRIDE.value,
        "spacing": _SPACING.value,
        "guidance": _GUIDANCE.value,
        "clip": _CLIP.value,
    }
    sampling_settings.change(config, given, cli.sampling_options(_OPTION.value, eta=eta))
    validate(config)
    return sampling_settings.in_use(config)


def parse_labels(
    text: str, count: int | None, num_classes: int, names: list[str], seed: int
) -> np.ndarray:
    """One label for each image. Raises ValueError for a label that the model does not have."""
    if not num_classes:
        if text not in ("random", "none"):
            raise ValueError(f"--labels {text} was given, but the model has no classes")
        return np.zeros(count or 64, np.int32)
    if text == "random":
        generator = np.random.default_rng(seed)
        return generator.integers(num_classes, size=count or 64, dtype=np.int32)
    if text == "none":
        return np.full(count or 64, num_classes, np.int32)
    if text == "all":
        chosen = list(range(num_classes))
    else:
        chosen = [parse_label(part.strip(), num_classes, names) for part in text.split(",")]
    count = count or len(chosen)
    if count < len(chosen):
        raise ValueError(f"--count={count} is less than the {len(chosen)} labels asked for")
    return np.array(chosen, np.int32)[np.arange(count) * len(chosen) // count]


def parse_label(text: str, num_classes: int, names: list[str]) -> int:
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < num_classes:
        return int(text)
    raise ValueError(
        f"Unknown label {text!r}; known: 0 to {num_classes - 1}"
        + (f", or names such as {names[0]}, {names[-1]}" if names else "")
    )


def write(out: Path, drawn: np.ndarray, film, labels: np.ndarray, settings: dict) -> list[Path]:
    """Writes what --save asks for, and returns the paths."""
    from diffusion_jax import images

    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    pixels = images.to_uint8(drawn)
    columns = _COLUMNS.value or int(np.ceil(np.sqrt(len(pixels))))
    upscale = _UPSCALE.value
    paths = {"grid": out / "grid.png", "png": out / "png", "npz": out / "samples.npz"}
    paths["gif"] = out / "denoising.gif"
    if "grid" in _SAVE.value:
        images.save_png(paths["grid"], images.grid(pixels, columns, upscale=upscale))
    if "png" in _SAVE.value:
        paths["png"].mkdir(exist_ok=True)
        for index, (image, label) in enumerate(zip(pixels, labels)):
            image = images.grid(image[None], 1, padding=0, upscale=upscale)
            images.save_png(paths["png"] / f"{index:06d}_label{label}.png", image)
    if "npz" in _SAVE.value:
        np.savez(paths["npz"], arr_0=pixels, arr_1=labels)
    if "gif" in _SAVE.value:
        frames = images.to_uint8(film.x).swapaxes(0, 1)
        grids = [images.grid(frame, columns, upscale=upscale) for frame in frames]
        images.save_gif(paths["gif"], grids)
    return [paths[kind] for kind in KINDS if kind in _SAVE.value]


def next_folder(parent: Path) -> Path:
    """parent/0001, 0002, ...: the first number above all there are."""
    taken = [int(path.name) for path in parent.glob("[0-9]*") if path.name.isdecimal()]
    return parent / f"{max(taken, default=0) + 1:04d}"


if __name__ == "__main__":
    cli.run(main)
