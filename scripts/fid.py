"""FID and its family: how far generated images are from real ones.

python -m scripts.fid reference --config configs/digits.py --features pixels --out digits.npz
python -m scripts.fid evaluate --workdir runs/digits --reference digits.npz --features pixels
python -m scripts.fid evaluate --images samples.npz --reference VIRTUAL_imagenet64_labeled.npz
python -m scripts.fid check --images admnet_imagenet64.npz --reference VIRTUAL.npz

reference: the statistics of a dataset, as an npz: of --config, of a run's --workdir, or of --data.
evaluate: of a run's images, which are not written, or of a folder or npz of images from anywhere.
The same command goes on where it was stopped. Lists (--checkpoint 50000,100000 --eta 0,1 --seed
0,1,2) are a sweep, with a table and a plot.
check: whether ADM's published images give the published numbers, with the published weights.
"""

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from scripts import cli

config_flags.DEFINE_config_file("config", None, "reference: an experiment, whose data is taken.")
_DATA = flags.DEFINE_string(
    "data",
    None,
    "reference: in place of --config, a dataset as in config.data.name, in its own size.",
)
_SPLIT = flags.DEFINE_string("split", None, "reference: of --data; default: train.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "reference: where --data is.")
_WORKDIR = flags.DEFINE_list(
    "workdir", None, "evaluate: folder of a run, or a list of such. reference: whose data is taken."
)
flags.DEFINE_alias("workdirs", "workdir")
_IMAGES = flags.DEFINE_string("images", None, "evaluate: a folder of images, or an npz with arr_0.")
_REFERENCE = flags.DEFINE_string("reference", None, "An .npz, or mean.npy,covariance.npy.")
_OUT = flags.DEFINE_string(
    "out", None, "reference: the npz to write. evaluate: folder; default: WORKDIR/evaluations."
)
_NUM = flags.DEFINE_integer("num_samples", None, "Images; default 50,000, or all there are.", 2)
_KEEP = flags.DEFINE_integer(
    "keep_images", 10_000, "reference: real images to keep, for KID, precision and recall.", 0
)

_FEATURES = flags.DEFINE_string(
    "features", "inception", "inception, random, pixels, or MODULE:FUNCTION."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", "published", "Of inception: published, random, or the path of their file."
)
_RESIZE = flags.DEFINE_string("resize", "tensorflow", "tensorflow, pytorch-fid, or clean.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images at a time, on all devices.", 1, 1024)
_ALLOW = flags.DEFINE_bool("allow_mismatch", False, "Compare with a reference of another crop.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 0, "Resamples for the deviation of FID.", 0)

_LABELS = flags.DEFINE_enum(
    "labels",
    "uniform",
    ["uniform", "balanced", "data", "none"],
    "Drawn evenly, the same number of each, as often as in the training data, or the null class.",
)
_CHECKPOINT = flags.DEFINE_list(
    "checkpoint", None, "Steps of checkpoints, or all; default: newest."
)
flags.DEFINE_alias("checkpoints", "checkpoint")
_PARAMS = flags.DEFINE_enum("params", "ema", ["ema", "raw"], "Averaged or raw parameters.")
_SEED = flags.DEFINE_list("seed", ["0"], "Of the images.")
_STEPS = flags.DEFINE_list("steps", None, "Sampling steps, evenly spaced.")
_STRIDE = flags.DEFINE_list("stride", None, "In place of --steps: every stride-th step.")
_ETA = flags.DEFINE_list("eta", None, "0: DDIM; 1: DDPM.")
_GUIDANCE = flags.DEFINE_list("guidance", None, "w in (1+w) conditional - w unconditional.")
_SAMPLER = flags.DEFINE_string("sampler", None, "ddim or reference.")
_CLIP = flags.DEFINE_bool("clip", None, "Clip the predicted x0 to [-1, 1].")
_QUANTIZER = flags.DEFINE_enum(
    "quantizer", "round", ["round", "truncate"], "To 8 bits: nearest level (EDM), or below (ADM)."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    None,
    ["original"],
    "original: as gmongaras/Diffusion_models_from_scratch samples, 10,000 unconditional images.",
)

COMMANDS = ("reference", "evaluate", "check")
# What ADM's paper and repository report for admnet_imagenet64.npz.
PUBLISHED = {"FID": (2.07, 0.02), "sFID": (4.29, 0.03)}
# What --protocol decides.
DECIDED = (_LABELS, _QUANTIZER, _SAMPLER, _CLIP, _GUIDANCE)
PUBLISHED |= {"precision": (0.74, 0.01), "recall": (0.63, 0.01)}
SETTINGS = ("workdir", "checkpoint", "steps", "stride", "eta", "guidance", "seed")


def main(command: str) -> int:
    return {"reference": reference, "evaluate": evaluate, "check": check}[command]()


def reference() -> int:
    import jax

    from diffusion_jax.data import make_source
    from diffusion_jax.evaluation import measurement, references
    from diffusion_jax.runs import configuration
    from diffusion_jax.runs.validation import validate

    out = references.out_paths(_OUT.value or "")[0]
    config = None if _DATA.value else config_of_data()
    if config is None:
        if _DATA.value.startswith("folder:"):
            raise ValueError(
                "A folder needs a size: --config configs/folder.py "
                f"--config.data.name={_DATA.value} --config.data.resolution=64, say, for --data"
            )
        split = _SPLIT.value or ("all" if _DATA.value == "digits" else "train")
        source = make_source(_DATA.value, split=split, data_dir=_DATA_DIR.value)
    else:
        validate(config)
        source = configuration.open_source(config)
    extract = extractor()
    count = min(_NUM.value or len(source), len(source))
    if count < 2:
        raise ValueError(f"{len(source)} images have no covariance; at least 2 are needed")
    data = source.description.provenance()
    if not source.description.shape[0]:  # cut at random, see read_squares
        side = config.data.resolution
        data["shape"] = [side, side, config.model.channels]
        data["origin"] |= {"smallest_crop": config.data.smallest_crop, "seed": config.seed}
    about = {**extract.about, "data": data, "count": count}
    # An even part of the data, so that a smaller number still has all classes.
    chosen = np.linspace(0, len(source) - 1, count).astype(int)

    def squares(indices: np.ndarray) -> np.ndarray:
        if config is None:
            return source.read(indices)["image"]
        return configuration.read_squares(config, source, indices)

    def images_of(first: int, number: int) -> np.ndarray:
        return squares(chosen[first : first + number])

    folder, first = measurement.shard_folder(out.parent, about), jax.process_index() == 0
    statistics = measurement.accumulate(
        folder,
        count,
        images_of,
        extract,
        progress=lambda parts: cli.progress(parts, "shard", show=first),
        write=first,
    )
    if not first:
        return 0
    kept = chosen[np.unique(np.linspace(0, count - 1, min(_KEEP.value, count)).astype(int))]
    images = squares(kept) if _KEEP.value else None
    references.Reference(statistics, images, about).save(_OUT.value)
    shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{out}: {count:,} images of {source.description.name}, fingerprint "
        f"{source.description.fingerprint[:16]}"
    )
    return 0


def config_of_data():
    """The config whose data is taken: that of --config, or of the run in --workdir."""
    from diffusion_jax.runs import configuration

    if flags.FLAGS["config"].value is None and _WORKDIR.value is not None:
        return configuration.load(Path(_WORKDIR.value[0]))
    return cli.config_of("config", "configs/digits.py")


def evaluate() -> int:
    import jax

    from diffusion_jax.evaluation import tables

    rows = evaluations()
    if jax.process_index() > 0:
        return 0
    metrics = [name for name in rows[-1] if name not in SETTINGS]
    if len(rows) == 1:
        for name in metrics:
            print(f"{name:>20}  {rows[0][name]:.6g}")
        return 0
    for path in tables.write(out_folder(), rows, SETTINGS, metrics[0]):
        print(path)
    print((out_folder() / "table.md").read_text())
    return 0


def check() -> int:
    from diffusion_jax.evaluation import references

    if _IMAGES.value is None or _REFERENCE.value is None or _FEATURES.value != "inception":
        raise ValueError("check takes --images, --reference and the features of InceptionV3")
    known = references.load(_REFERENCE.value, "pool")
    if "spatial" not in known.statistics or known.images is None:
        raise ValueError(f"{_REFERENCE.value} has no mu_s, sigma_s and arr_0; it is not ADM's")
    (row,) = evaluations()
    print(f"{'IS':>10}: {row['IS']:.2f}")
    wrong = 0
    for name, (expected, tolerance) in PUBLISHED.items():
        right = abs(row[name] - expected) <= tolerance
        wrong += not right
        verdict = "as published" if right else "NOT as published"
        print(f"{name:>10}: {row[name]:.4f}, {verdict} ({expected})")
    return 1 if wrong else 0


def evaluations() -> list[dict[str, Any]]:
    """Settings and metrics of everything that the flags ask for."""
    import jax

    from diffusion_jax.evaluation import references
    from diffusion_jax.runs import evaluate as library

    if (_IMAGES.value is None) == (_WORKDIR.value is None):
        raise ValueError("Give either --workdir, for a run, or --images")
    if _REFERENCE.value is None:
        raise ValueError("--reference is missing; for example: --reference digits.npz")
    if _BOOTSTRAP.value == 1:
        raise ValueError("--bootstrap=1 has no deviation; choose 2 or more, or 0")
    if _PROTOCOL.value and (
        given := [flag.name for flag in DECIDED if flag.value != flags.FLAGS[flag.name].default]
    ):
        raise ValueError(f"--protocol={_PROTOCOL.value} decides --{given[0]} itself; drop one")
    judge = library.Judge(
        out_folder(),
        extractor(),
        references.load(_REFERENCE.value, "pool" if is_inception() else "features"),
        _REFERENCE.value,
        progress=lambda parts: cli.progress(parts, "shard", show=jax.process_index() == 0),
        allow_mismatch=_ALLOW.value,
        bootstrap=_BOOTSTRAP.value,
    )
    references.check_same_features(judge.reference, judge.extract.about)
    if _IMAGES.value is not None:
        channels = references.channels(judge.reference)
        drawn = library.of_files(Path(_IMAGES.value).expanduser(), _NUM.value, channels)
        return [metrics_of(judge(drawn))]
    rows = []
    for setting in sweep():
        drawn = images_of(setting)
        setting["checkpoint"] = drawn.about["checkpoint"]
        rows.append({**setting, **metrics_of(judge(drawn))})
    return rows


def metrics_of(result: dict[str, Any]) -> dict[str, Any]:
    if "note" in result:
        print(f"Note: {result['note']}")
    return result["metrics"]


def sweep() -> list[dict[str, Any]]:
    """All combinations of the lists that the flags give."""
    from diffusion_jax.runs import configuration
    from diffusion_jax.training.checkpoints import Checkpoints

    lists = {
        "steps": numbers(_STEPS, int),
        "stride": numbers(_STRIDE, int),
        "eta": numbers(_ETA, float),
        "guidance": numbers(_GUIDANCE, float),
        "seed": numbers(_SEED, int),
    }
    if any(seed is None or not 0 <= seed < 2**32 for seed in lists["seed"]):
        raise ValueError(f"--seed={','.join(_SEED.value)} must be in [0, 2^32)")
    if not any(_WORKDIR.value):
        raise ValueError("--workdir is empty; for example: --workdir runs/digits")
    settings = []
    for workdir in _WORKDIR.value:
        # What is missing is said before hours are spent on what is there.
        configuration.load(Path(workdir))
        with Checkpoints(Path(workdir) / configuration.CHECKPOINTS) as there:
            newest, steps = there.newest(), there.steps()
        every = _CHECKPOINT.value == ["all"]
        checkpoints = steps if every else numbers(_CHECKPOINT, int)
        checkpoints = [newest if step is None else step for step in checkpoints]
        if missing := set(checkpoints) - set(steps):
            known = ", ".join(map(str, steps))
            raise FileNotFoundError(
                f"No checkpoint of step {min(missing)} in {workdir}; there: {known}"
            )
        for values in itertools.product(checkpoints, *lists.values()):
            settings.append(dict(zip(SETTINGS, (workdir, *values))))
    return settings


def images_of(setting: dict[str, Any]):
    """The images of one point of the sweep; fills in the settings that are the config's own."""
    from diffusion_jax.runs import configuration
    from diffusion_jax.runs import evaluate as library
    from diffusion_jax.runs.validation import validate

    workdir = Path(setting["workdir"])
    config = configuration.load(workdir)
    given = {name: setting[name] for name in ("steps", "stride", "eta", "guidance")}
    given |= {"sampler": _SAMPLER.value, "clip": _CLIP.value}
    if _PROTOCOL.value == "original":
        given |= {"guidance": 0.0, "sampler": "reference", "clip": True}
    configuration.set_sampling(config, given)
    validate(config)
    setting.update({name: config.sampling[name] for name in ("steps", "stride", "eta", "guidance")})
    if setting["stride"]:
        setting["steps"] = ""  # stride takes its place
    original = _PROTOCOL.value == "original"
    drawn = library.of_run(
        workdir,
        config,
        count=_NUM.value or (10_000 if original else 50_000),
        checkpoint=setting["checkpoint"],
        ema=_PARAMS.value == "ema",
        labels="none" if original else _LABELS.value,
        seed=setting["seed"],
        truncate=original or _QUANTIZER.value == "truncate",
        batch_size=_BATCH_SIZE.value,
    )
    if original:
        drawn.about["protocol"] = (
            "as the original: unconditional, truncated; its features were torchvision's, these are "
            f"{_FEATURES.value}"
        )
    return drawn


def numbers(flag: flags.FlagHolder, kind: type) -> list:
    """The numbers of a list; one None where the flag is missing."""
    try:
        given = dict.fromkeys(kind(text) for text in flag.value) if flag.value else {None: None}
        if any(number is not None and not math.isfinite(number) for number in given):
            raise ValueError("not finite")
        return list(given)
    except ValueError:
        text = ",".join(flag.value)
        raise ValueError(f"--{flag.name}={text} is no list of numbers, such as 0,1") from None


def out_folder() -> Path:
    if _OUT.value is not None:
        return Path(_OUT.value)
    if _WORKDIR.value is None:
        raise ValueError("--out is missing, the folder for the results; for example: --out results")
    return Path(_WORKDIR.value[0]) / "evaluations"


def is_inception() -> bool:
    return _FEATURES.value in ("inception", "random")


def extractor():
    from diffusion_jax.evaluation.features import make_extractor

    return make_extractor(
        _FEATURES.value, weights=_WEIGHTS.value, way=_RESIZE.value, batch_size=_BATCH_SIZE.value
    )


if __name__ == "__main__":
    cli.run(main, COMMANDS)
