"""FID and related metrics: how far generated images are from real ones.

python -m scripts.fid reference --config configs/digits.py --features pixels --out digits.npz
python -m scripts.fid evaluate --workdir runs/digits --reference digits.npz --features pixels
python -m scripts.fid evaluate --images samples.npz --reference VIRTUAL_imagenet64_labeled.npz
python -m scripts.fid check --images admnet_imagenet64.npz --reference REFERENCE

reference: writes the statistics of a dataset as an npz: of --config, of a run's --workdir, or of
--data.
evaluate: measures images sampled from a run, which are not saved, or images of a folder or an npz.
The same command resumes after an interruption. Lists (--solver ddim,heun --steps 10,20,50 --seed
0,1,2) make a sweep, with a table and a plot.
check: compares the metrics of ADM's published images, against its published reference
VIRTUAL_imagenet64_labeled.npz, with the published metrics.
"""

import dataclasses
from functools import partial
from typing import Any

from absl import flags

from scripts.cli import app, config_flag, flag_values, path_flags
from scripts.cli.class_flag import CLASSES, print_classes
from scripts.cli.sampling_flags import SamplingFlags


class Steps(flag_values.List):
    """Parser of steps of checkpoints, or all."""

    def parse(self, argument: Any) -> Any:
        return "all" if argument == "all" else super().parse(argument)


SAMPLING = SamplingFlags(lists=True)
_CONFIG = config_flag.define("An experiment, for its training data.")
_DATA = flags.DEFINE_string("data", None, "A dataset as in config.data.name, in its own size.")
_SPLIT = flags.DEFINE_string("split", None, "Of --data; default: train.")
_DATA_DIR = path_flags.define("data_dir", None, "Where --data is.")
_WORKDIR = path_flags.define_several(
    "workdir", "Folder of a run, repeated for several; for a reference, its training data."
)
_IMAGES = path_flags.define("images", None, "A folder of images, or an npz with arr_0.")
_REFERENCE = flags.DEFINE_string("reference", None, "An .npz, or mean.npy,covariance.npy.")
_OUT = flags.DEFINE_string(
    "out", None, "The reference to write, or a folder for results; default: WORKDIR/evaluations."
)
_COUNT = flags.DEFINE_integer("count", None, "Images; default: 50,000 of a run, or all.", 2)
_KEEP = flags.DEFINE_integer(
    "keep_images", 10_000, "Real images to store, for KID, precision and recall.", 0
)

_FEATURES = flags.DEFINE_string(
    "features", "inception", "inception, random, pixels, or MODULE:FUNCTION."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", "published", "Of InceptionV3: published, random, or the path of their file."
)
_RESIZE = flags.DEFINE_string("resize", "tensorflow", "tensorflow, pytorch-fid, or clean.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images at a time, on all devices.", 1, 1024)
_ALLOW = flags.DEFINE_bool(
    "allow_mismatch", False, "Accept a reference of unknown features, or of another crop or size."
)
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 0, "Resamples for the deviation of FID.", 0)

_LABELS = flags.DEFINE_string(
    "labels",
    "random",
    "random, all (the same number of each), none (the null class), data (as frequent as in the "
    "training data), or a list of class names and indices (tench,#4), as many of each.",
)
_CHECKPOINT = flags.DEFINE(
    Steps(flags.IntegerParser(1)), "checkpoint", None, "Steps, or all; default: the newest."
)
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_SEED = flags.DEFINE(
    flag_values.List(flags.IntegerParser(0, 2**32 - 1)),
    "seed",
    [0],
    "Of the images.",
    serializer=flag_values.COMMAS,
)
_QUANTIZER = flags.DEFINE_enum(
    "quantizer", "round", ["round", "truncate"], "To 8 bits: nearest level (EDM), or below (ADM)."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    None,
    ["original"],
    "original: as gmongaras/Diffusion_models_from_scratch samples, 10,000 unconditional images.",
)
_PLOT = path_flags.define("plot", None, "The picture of a sweep; default: METRIC.png in --out.")
_X = flags.DEFINE_string(
    "x", None, "Of the plot, such as evaluations, steps or guidance; default: what varies."
)

OF_FEATURES = (_FEATURES, _WEIGHTS, _RESIZE, _BATCH_SIZE)
OF_REFERENCE = (_OUT, _COUNT, _KEEP, *OF_FEATURES)
OF_EVALUATION = (_REFERENCE, _OUT, _COUNT, _ALLOW, _BOOTSTRAP, *OF_FEATURES)
OF_STEPS = ("steps", "stride", "eta")
OF_PROTOCOL = (
    *(_WORKDIR, _CHECKPOINT, _PARAMS, _SEED, _PROTOCOL, _PLOT, _X),
    *SAMPLING.only(*OF_STEPS),
)
COMMANDS = {
    "reference --config": (_CONFIG, *OF_REFERENCE),
    "reference --workdir": (_WORKDIR, *OF_REFERENCE),
    "reference --data": (_DATA, _SPLIT, _DATA_DIR, *OF_REFERENCE),
    "evaluate --images": (_IMAGES, *OF_EVALUATION),
    "evaluate --workdir": (
        *OF_PROTOCOL,
        *OF_EVALUATION,
        *(_LABELS, CLASSES, _QUANTIZER, *SAMPLING.without(*OF_STEPS)),  # which a protocol decides
    ),
    "evaluate --protocol": (*OF_PROTOCOL, *OF_EVALUATION),
    "check": (_IMAGES, _REFERENCE, _OUT, _WEIGHTS, _BATCH_SIZE),
}


def main(command: str) -> int:
    return {"reference": reference, "evaluate": evaluate, "check": check}[command]()


def reference() -> int:
    import jax

    from diffusion_jax.evaluation import references
    from diffusion_jax.runs import datasets
    from diffusion_jax.runs.reference import make_reference
    from diffusion_jax.workdir.run_files import load_config

    way = "data" if _DATA.value else "config"
    if way == "config" and _WORKDIR.value and not _CONFIG.present:
        way = "workdir"
    app.check_flags(f"reference --{way}", COMMANDS)
    out = references.out_paths(_OUT.value or "")[0]
    if _DATA.value:
        dataset = datasets.from_name(_DATA.value, split=_SPLIT.value, data_dir=_DATA_DIR.value)
    elif way == "workdir" and _WORKDIR.value:
        if len(_WORKDIR.value) > 1:
            raise ValueError("--workdir was given several times, and a reference takes only one")
        dataset = datasets.from_config(load_config(_WORKDIR.value[0]))
    else:
        dataset = datasets.from_config(config_flag.value("digits"))
    count = make_reference(
        dataset,
        extractor(),
        _OUT.value or "",
        count=_COUNT.value,
        keep_images=_KEEP.value,
        progress=partial(app.progress, unit="shard"),
    )
    if jax.process_index() == 0:
        about = dataset.source.description
        of_all = f"{count:,} of {len(dataset.source):,} images of {about.name}"
        print(f"{out}: {of_all}, fingerprint {about.fingerprint[:16]}")
    return 0


def evaluate() -> int:
    import jax

    from diffusion_jax import parallel
    from diffusion_jax.evaluation import provenance, sweep_plot, sweep_table
    from diffusion_jax.evaluation.image_sets import from_files
    from diffusion_jax.runs import sweep
    from diffusion_jax.workdir.run_files import load_config

    if (_IMAGES.value is None) == (_WORKDIR.value is None):
        raise ValueError("Give either --workdir, for a run, or --images")
    way = "workdir" if _PROTOCOL.value is None else "protocol"
    app.check_flags(f"evaluate --{way if _IMAGES.value is None else 'images'}", COMMANDS)
    picture = _PLOT.value
    sweep_plot.check(_X.value, picture)
    if _WORKDIR.value:
        if CLASSES.value:
            return print_classes(_WORKDIR.value[0])
        config = load_config(_WORKDIR.value[0])
        parallel.split_cpu(config.cpu_devices)
    evaluator = make_evaluator(allow_mismatch=_ALLOW.value, bootstrap=_BOOTSTRAP.value)
    if _IMAGES.value is None:
        points = sweep.points(
            _WORKDIR.value or [],
            _CHECKPOINT.value or [],
            SAMPLING.lists(),
            _SEED.value,
        )
        if len(points) == 1 and (_PLOT.value or _X.value):
            raise ValueError("--plot and --x are of a sweep; for example: --steps 10,20,50")
        evaluated = sweep.evaluate(evaluator, points, protocol(), batch_size=_BATCH_SIZE.value)
    else:
        channels = evaluator.reference.channels
        images = from_files(_IMAGES.value, _COUNT.value, channels)
        provenance.log(f"{_IMAGES.value}: {images.count:,} of {images.about['found']:,} images")
        evaluated = iter([({}, evaluator(images))])
    rows, noted = [], set()
    for settings, result in evaluated:
        note = result.get("note", "")
        if note and note not in noted:
            print(f"Note: {note}")
        noted.add(note)
        rows.append({**settings, **result["metrics"]})
    if jax.process_index() > 0:
        return 0
    metrics = list(result["metrics"])
    if len(rows) == 1:
        for name in metrics:
            print(f"{name:>20}  {rows[0][name]:.6g}")
        return 0
    settings = {"picture": picture, "x": _X.value}
    for path in sweep_table.write(evaluator.folder, rows, sweep.SETTINGS, metrics[0], **settings):
        print(path)
    print((evaluator.folder / "table.md").read_text())
    return 0


def check() -> int:
    from diffusion_jax.evaluation import adm_check

    if _IMAGES.value is None:
        raise ValueError("--images is missing; for example: --images admnet_imagenet64.npz")
    compared = adm_check.compare(make_evaluator(allow_mismatch=True), _IMAGES.value)
    lines, code = adm_check.report(compared)
    for line in lines:
        print(line)
    return code


def protocol():
    """Returns the sampling protocol of a sweep: of --protocol, or of the flags it replaces."""
    from diffusion_jax.runs import sweep

    if _PROTOCOL.value == "original":
        chosen = sweep.ORIGINAL
    else:
        chosen = sweep.Protocol(labels=_LABELS.value, truncate=_QUANTIZER.value == "truncate")
    count = _COUNT.value or chosen.count
    options = SAMPLING.options()
    return dataclasses.replace(chosen, count=count, ema=_PARAMS.value == "ema", options=options)


def make_evaluator(**options: Any):
    """Returns the evaluator of the flags --reference and --out."""
    from diffusion_jax.evaluation.evaluator import Evaluator
    from diffusion_jax.files.paths import local_path

    if _REFERENCE.value is None:
        raise ValueError("--reference is missing; for example: --reference digits.npz")
    if _OUT.value:
        folder = local_path(_OUT.value)
    elif _WORKDIR.value:
        folder = _WORKDIR.value[0] / "evaluations"
    else:
        raise ValueError("--out is missing, the folder for the results; for example: --out results")
    progress = partial(app.progress, unit="shard")
    return Evaluator.from_file(folder, extractor(), _REFERENCE.value, progress=progress, **options)


def extractor():
    from diffusion_jax.evaluation.features import make_extractor

    return make_extractor(
        _FEATURES.value, weights=_WEIGHTS.value, resize=_RESIZE.value, batch_size=_BATCH_SIZE.value
    )


if __name__ == "__main__":
    app.run(main, COMMANDS)
