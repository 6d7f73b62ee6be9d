"""Imports checkpoints of other programs, and exports ours to them.

python -m scripts.convert --from original --model model_438e_550000s.pkl \
    --hyperparameters model_params_438e_550000s.json --workdir runs/imported
python -m scripts.convert --to original --workdir runs/imported --out exported
python -m scripts.convert --from original --mean real_mean.npy --cov real_cov.npy --out real.npz

"original" is gmongaras/Diffusion_models_from_scratch.
"""

from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

PROGRAMS = ["original"]
_FROM = flags.DEFINE_enum("from", None, PROGRAMS, "Whose files to read.")
_TO = flags.DEFINE_enum("to", None, PROGRAMS, "Whose files to write.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run to write, or with --to, to read.")
_MODEL = flags.DEFINE_string("model", None, "Its weights, model...pkl.")
_HYPERPARAMETERS = flags.DEFINE_string(
    "hyperparameters", None, "Its hyper-parameters, model_params...json."
)
_OPTIMIZER = flags.DEFINE_string("optimizer", None, "Its optimizer's state, optim...pkl.")
_TIME_EMBEDDING = flags.DEFINE_enum(
    "time_embedding",
    "published",
    ["published", "head", "sin"],
    "published: as the published models were trained, sin in even rows of a batch, cos in odd. "
    "head: as trained since May 2024. sin: like published, but sin in every row.",
)
_RESOLUTION = flags.DEFINE_integer("resolution", 64, "Side of the images, which no file holds.", 1)
_GRAD_ACC_STEPS = flags.DEFINE_integer(
    "grad_acc_steps", 1, "gradAccSteps of the original run, which counted steps that many times.", 1
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_PARAMS = flags.DEFINE_enum(
    "params", "ema", ["ema", "raw"], "Averaged parameters, or raw ones and the optimizer's state."
)
_MEAN = flags.DEFINE_string("mean", None, "Mean of saved FID statistics, .npy.")
_COV = flags.DEFINE_string("cov", None, "Their covariance, .npy.")
_OUT = flags.DEFINE_string("out", None, "A folder; with --mean and --cov, an .npz file.")

WAYS = {
    "--from --model": (
        *(_MODEL, _HYPERPARAMETERS, _OPTIMIZER, _WORKDIR),
        *(_TIME_EMBEDDING, _RESOLUTION, _GRAD_ACC_STEPS),
    ),
    "--from --mean": (_MEAN, _COV, _OUT),
    "--to": (_WORKDIR, _OUT, _CHECKPOINT, _PARAMS),
}


def main() -> int:
    if (_FROM.value is None) == (_TO.value is None):
        raise ValueError("Give one of --from=original and --to=original")
    way, convert = "--from --model", import_checkpoint
    if _TO.value:
        way, convert = "--to", export_run
    elif _MEAN.value or _COV.value:
        way, convert = "--from --mean", import_statistics
    cli.check_flags(way, WAYS)
    return convert()


def import_checkpoint() -> int:
    from diffusion_jax.data import imagenet
    from diffusion_jax.importers import imported_run, original

    model, hyperparameters, folder = map(needed, (_MODEL, _HYPERPARAMETERS, _WORKDIR))
    imported_run.check_free(folder)
    print(f"Reading {model}", flush=True)
    checkpoint = original.read_checkpoint(
        model, hyperparameters, time_embedding=_TIME_EMBEDDING.value
    )
    adam, optimizer_settings = None, {}
    if _OPTIMIZER.value:
        print(f"Reading {_OPTIMIZER.value}", flush=True)
        adam, optimizer_settings = original.read_optimizer(Path(_OPTIMIZER.value), checkpoint)
    step = checkpoint.step // _GRAD_ACC_STEPS.value
    config = imported_config(checkpoint.settings | optimizer_settings, step)
    state = imported_run.imported_state(config, checkpoint.params, step, adam)
    origin = {
        "from": "gmongaras/Diffusion_models_from_scratch",
        "model": str(model),
        "optimizer": _OPTIMIZER.value,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "imported_as": step,
    }
    print(f"Writing {folder}", flush=True)
    # The original's models of 1,000 classes are those of ImageNet 64x64.
    classes = imagenet.class_names() if config.model.num_classes == 1000 else []
    imported_run.write_workdir(folder, config, state, origin, classes)
    print(f"Imported step {step} into {folder}, time_embedding={_TIME_EMBEDDING.value}.")
    for contradiction in checkpoint.contradictions:
        files = f"{model.name} and {hyperparameters.name}"
        print(f"Note: {files} disagree: {contradiction}; the latter was used.")
    if adam is not None and adam.count != step:
        print(f"Note: the optimizer has made {adam.count} updates; see --grad_acc_steps.")
    print(f"Draw images: python -m scripts.sample --workdir {folder}")
    print(f"Train on:    python -m scripts.train --workdir {folder}")
    return 0


def imported_config(settings: dict, step: int):
    """configs/original.py with the settings of the files. Raises ValueError if it is invalid."""
    from configs import original
    from diffusion_jax.runs.validation import validate

    config = original.get_config()
    config.update_from_flattened_dict(settings)
    config.data.resolution = _RESOLUTION.value
    config.sampling.stride = min(config.sampling.stride, config.schedule.num_steps)
    config.micro_batches = _GRAD_ACC_STEPS.value
    config.batch_size -= config.batch_size % config.micro_batches
    if step >= config.steps:
        config.steps = step + 100_000
    validate(config)
    return config


def import_statistics() -> int:
    from diffusion_jax.files import npz
    from diffusion_jax.importers import original
    from diffusion_jax.importers.original.statistics import FEATURES

    mean, covariance, out = map(needed, (_MEAN, _COV, _OUT))
    if out.suffix != ".npz":
        raise ValueError(f"--out={out} must end in .npz")
    if out.exists():
        raise ValueError(f"--out={out} exists already; choose another, or delete it")
    mu, sigma = original.read_statistics(mean, covariance)
    out.parent.mkdir(parents=True, exist_ok=True)
    npz.write(out, {"mu": mu, "sigma": sigma, "features": np.array(FEATURES)})
    print(f"{out}: mu {mu.shape}, sigma {sigma.shape}, of {FEATURES}.")
    return 0


def export_run() -> int:
    from diffusion_jax.importers import imported_run, original
    from diffusion_jax.runs import run_folder
    from diffusion_jax.runs.validation import validate

    folder, out = needed(_WORKDIR), needed(_OUT)
    config = run_folder.load(folder)
    validate(config)
    original.check_exportable(config)
    step, params, adam = imported_run.read_weights(
        folder, config, checkpoint=_CHECKPOINT.value, raw=_PARAMS.value == "raw"
    )
    origin = imported_run.origin_of(folder)
    # The original counts micro-batches, and resumes at the start of an epoch.
    since = (step - origin.get("imported_as", 0)) * config.micro_batches
    paths = original.write_checkpoint(
        out,
        config,
        params,
        epoch=0 if since else origin.get("epoch", 0),
        step=origin.get("step", 0) + since,
        adam=adam,
    )
    for path in paths:
        print(path)
    since_may = config.model.time_embedding in ("auto", "head")
    stood = "stands since 17 May 2024" if since_may else "stood before 17 May 2024"
    print(f"Note: only the original's code as it {stood} computes this model.")
    if config.schedule.name == "linear":
        print("Note: the original's linear schedule has a bug, and differs from this run's.")
    return 0


def needed(flag: flags.FlagHolder) -> Path:
    if not flag.value:
        raise ValueError(f"--{flag.name} is missing; see --help")
    return Path(flag.value)


if __name__ == "__main__":
    cli.run(main, WAYS)
