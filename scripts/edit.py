"""Edits images with a trained model: PNG in, a side-by-side grid out.

python -m scripts.edit image --workdir runs/digits --images a.png --labels 7 --strength 0.6
python -m scripts.edit inpaint --workdir runs/digits --images a.png --mask mask.png --labels 7
python -m scripts.edit interpolate --workdir runs/digits --images a.png --images b.png --labels 3,8
python -m scripts.edit vary --workdir runs/digits --labels 1,2,3 --strength 0.5 --count 6
python -m scripts.edit invert --workdir runs/digits --images a.png --labels 7
python -m scripts.edit enlarge --workdir runs/adm_128_512 --images small.png --labels tabby

image: adds noise to images and denoises them. inpaint: replaces the white pixels of a mask.
interpolate: samples images between two images, or between two noises. vary: samples images and
variations of them. invert: finds the noise of images, and samples them from it again. enlarge:
samples large images for small ones, with a super-resolution model.
"""

from functools import partial
from pathlib import Path

from absl import flags

from scripts.cli import app, flag_values, path_flags
from scripts.cli.class_flag import CLASSES, print_classes
from scripts.cli.sampling_flags import SamplingFlags

SAMPLING = SamplingFlags()
_WORKDIR = path_flags.define(
    "workdir", None, "Folder of the run, or the name of a model that comes with the package."
)
_IMAGES = path_flags.define_several(
    "images",
    "Image file, repeated for several; other sizes are cropped to the central square and resized.",
)
_MASK = path_flags.define_several(
    "mask",
    "One mask for all images, or repeated for each: white is replaced, black is kept. Or with "
    "transparency: white strokes, or the image itself, whose erased pixels are replaced.",
)
_STRENGTH = flags.DEFINE_float(
    "strength", 0.6, "Fraction of the sampling steps for which images are noised.", 0.0, 1.0
)
_COUNT = flags.DEFINE_integer(
    "count", None, "Results for each image, or from end to end; default: 4, or 8.", 1
)
_LABELS = flags.DEFINE_string(
    "labels",
    "none",
    "none (the null class), or class names and indices (tabby,#4): one for all images, or one for "
    "each.",
)
_RESAMPLE = flags.DEFINE_integer(
    "resample", 1, "Passes over each --jump steps; more fit the kept pixels better. RePaint: 10.", 1
)
_JUMP = flags.DEFINE_integer("jump", 10, "Steps that --resample repeats at a time.", 1)
_INVERTER = flags.DEFINE_string(
    "inverter", "ddim", "The solver of the inversion: ddim, heun or dpmpp_2m."
)
_OUT = path_flags.define("out", None, "Folder for the results; default: WORKDIR/edited/NUMBER.")
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0, 2**32 - 1)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time, on all devices.", 1)
_UPSCALE = flags.DEFINE_integer("upscale", 1, "Enlargement of the images in the grid.", 1, 64)

# The keyword arguments of each edit in Python.
OPTIONS = {
    "image": (_STRENGTH, _COUNT, _SEED),
    "inpaint": (_RESAMPLE, _JUMP, _COUNT, _SEED),
    "interpolate": (_INVERTER, _COUNT, _SEED),
    "vary": (_STRENGTH, _COUNT, _SEED),
    "invert": (_INVERTER,),
    "enlarge": (_COUNT, _SEED),
}
FILES = dict.fromkeys(OPTIONS, (_IMAGES,)) | {"inpaint": (_IMAGES, _MASK), "vary": ()}
OF_SAMPLING = SAMPLING.without("steps", "stride", "spacing", "option")
# An inversion has its own solver, and neither guidance nor clipping.
COMMANDS = {
    name: (*FILES[name], CLASSES, *options, *(() if name == "invert" else OF_SAMPLING))
    for name, options in OPTIONS.items()
}


def main(command: str) -> int:
    from diffusion_jax import parallel
    from diffusion_jax.runs.edit_folder import edit_into
    from diffusion_jax.runs.run import load
    from diffusion_jax.runs.run_edits import RunEdits
    from diffusion_jax.workdir.run_files import load_config

    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    workdir = _WORKDIR.value
    if CLASSES.value:
        return print_classes(workdir)
    files = image_files(command)
    if command == "inpaint" and not _MASK.value:
        raise ValueError("--mask is missing; for example: --mask mask.png")
    options = {flag.name: flag.value for flag in OPTIONS[command]}
    if options.get("count", 0) is None:
        options["count"] = 8 if command == "interpolate" else 4
    config = load_config(workdir)
    parallel.split_cpu(config.cpu_devices, _BATCH_SIZE.value or 0)
    run = load(workdir, checkpoint=_CHECKPOINT.value, ema=_PARAMS.value == "ema")
    progress = partial(app.progress, unit="batch")
    written = edit_into(
        flag_values.results_folder(_OUT.value, workdir / "edited"),
        RunEdits(run, batch_size=_BATCH_SIZE.value, progress=progress),
        command,
        files=files,
        masks=_MASK.value or [],
        labels=_LABELS.value,
        sampling=SAMPLING.settings(),
        options=options,
        upscale=_UPSCALE.value,
    )
    for path, note in written.items():
        print(f"{path} ({note})" if note else path)
    return 0


def image_files(command: str) -> list[Path]:
    """Returns the image files. Raises ValueError if their number does not fit the command."""
    files = _IMAGES.value or []
    if not files and command not in ("vary", "interpolate"):
        raise ValueError("--images is missing; for example: --images a.png --images b.png")
    if command == "interpolate" and len(files) not in (0, 2):
        raise ValueError(
            f"--images names {len(files)} files; give two to interpolate between, or none for "
            "two noises"
        )
    return files


if __name__ == "__main__":
    app.run(main, COMMANDS)
