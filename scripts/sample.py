"""Samples images from a trained model.

python -m scripts.sample --workdir runs/digits --labels all --count 100 --columns 10 --upscale 4
python -m scripts.sample --workdir runs/digits --count 50000 --save npz --out samples
"""

from functools import partial

from absl import flags

from scripts.cli import app, path_flags
from scripts.cli.class_flag import CLASSES, print_classes
from scripts.cli.sampling_flags import SamplingFlags

SAMPLING = SamplingFlags()
_WORKDIR = path_flags.define(
    "workdir", None, "Folder of the run, or the name of a model that comes with the package."
)
_OUT = path_flags.define(
    "out",
    None,
    "Folder for the results; default: WORKDIR/generated/NUMBER. The same command resumes there "
    "after an interruption.",
)
_LABELS = flags.DEFINE_string(
    "labels",
    "random",
    "random, all, none (the null class), or a list of class names and indices: #3,tench,#4. A name "
    "may have commas of its own. Without #, 3 is an index, too, unless names are numbers.",
)
_COUNT = flags.DEFINE_integer(
    "count", None, "Images, divided evenly among the labels; default: 64, or one of each label.", 1
)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same images.", 0, 2**32 - 1)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time, on all devices.", 1)
_COLUMNS = flags.DEFINE_integer("columns", None, "Of the grid; default: a square.", 1)
_UPSCALE = flags.DEFINE_integer(
    "upscale",
    1,
    "Factor by which all pictures are enlarged; the npz keeps the model's resolution.",
    1,
    64,
)
_UPSCALER = flags.DEFINE_string(
    "upscaler",
    "nearest",
    "How pictures are enlarged: nearest (each pixel becomes a square), lanczos, or a network that "
    "enlarges 4 times: the path of RealESRGAN_x4plus.pth or of a file like it.",
)
_CAPTIONS = flags.DEFINE_enum(
    "captions", "auto", ["auto", "none"], "auto: the names of the classes, if there are any."
)
_SAVE = flags.DEFINE_list(
    "save", "grid", "Kinds of files to write: grid, png, npz, gif, webp, strip."
)
_FILM_OF = flags.DEFINE_list(
    "film_of", "x", "Content of gif, webp and strip: x (the states), x0 (the predictions), or x,x0."
)
_FRAMES = flags.DEFINE_integer(
    "frames",
    None,
    "Frames of a gif or webp, columns of a strip, at most one per step; default: 50, or 10.",
    1,
)


def main() -> int:
    from diffusion_jax import parallel
    from diffusion_jax.generation.outputs import FILMED, OutputOptions
    from diffusion_jax.generation.upscaling import make_upscaler
    from diffusion_jax.importers import real_esrgan
    from diffusion_jax.runs.run import load
    from diffusion_jax.runs.sample_folder import sample_into
    from diffusion_jax.workdir.run_files import load_config

    if _WORKDIR.value is None:
        raise ValueError("--workdir is missing; for example: --workdir runs/digits")
    if (_FILM_OF.present or _FRAMES.present) and not set(FILMED) & set(_SAVE.value):
        raise ValueError("--film_of and --frames are of films; add gif, webp or strip to --save")
    workdir = _WORKDIR.value
    if CLASSES.value:
        return print_classes(workdir)
    config = load_config(workdir)
    parallel.split_cpu(config.cpu_devices, _BATCH_SIZE.value or 0)
    upscale = make_upscaler(
        _UPSCALER.value,
        _UPSCALE.value,
        read_network=real_esrgan.read,
        progress=partial(app.progress, unit="enlarged batch"),
    )
    run = load(workdir, checkpoint=_CHECKPOINT.value, ema=_PARAMS.value == "ema")
    written = sample_into(
        run,
        run.experiment_with(SAMPLING.settings()),
        _OUT.value,
        OutputOptions(
            kinds=_SAVE.value,
            film_of=_FILM_OF.value,
            frames=_FRAMES.value,
            columns=_COLUMNS.value,
            upscale=upscale,
            captions=_CAPTIONS.value == "auto",
        ),
        labels=_LABELS.value,
        count=_COUNT.value,
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        progress=app.image_bar,
    )
    for path, note in written.items():
        print(f"{path} ({note})" if note else path)
    return 0


if __name__ == "__main__":
    app.run(main)
