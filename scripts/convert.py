"""Takes over checkpoints of other programs, and gives ours back to them.

python -m scripts.convert --from reference --model model_438e_550000s.pkl \
    --params model_params_438e_550000s.json --workdir runs/imported
python -m scripts.convert --to reference --workdir runs/imported --out exported
python -m scripts.convert --from reference --mean real_mean.npy --cov real_cov.npy --out real.npz

"reference" is gmongaras/Diffusion_models_from_scratch.
"""

from pathlib import Path

import numpy as np
from absl import flags

from scripts import cli

PROGRAMS = ["reference"]
_FROM = flags.DEFINE_enum("from", None, PROGRAMS, "Whose files to read.")
_TO = flags.DEFINE_enum("to", None, PROGRAMS, "Whose files to write.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run that --from makes, or that --to reads.")
_MODEL = flags.DEFINE_string("model", None, "The weights, model...pkl.")
_PARAMS = flags.DEFINE_string("params", None, "Their hyper-parameters, model_params...json.")
_OPTIMIZER = flags.DEFINE_string("optimizer", None, "The optimizer's state, optim...pkl.")
_TIME_EMBEDDING = flags.DEFINE_enum(
    "time_embedding",
    "published",
    ["published", "head", "sin"],
    "published: as the published models were trained, sin in even rows of a batch, cos in odd; "
    "head: as trained since May 2024. sin: published, but the same in every row.",
)
_RESOLUTION = flags.DEFINE_integer("resolution", 64, "Side of the images, which no file tells.", 1)
_GRAD_ACC_STEPS = flags.DEFINE_integer(
    "grad_acc_steps", 1, "gradAccSteps of the original run, which counted steps that many times.", 1
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "With --to: its step; default: the newest.")
_WEIGHTS = flags.DEFINE_enum(
    "weights", "ema", ["ema", "raw"], "With --to: averaged parameters, or raw ones and optimizer."
)
_MEAN = flags.DEFINE_string("mean", None, "Mean of saved FID statistics, .npy.")
_COV = flags.DEFINE_string("cov", None, "Their covariance, .npy.")
_OUT = flags.DEFINE_string("out", None, "With --to: a folder. With --mean and --cov: an .npz file.")


def main() -> int:
    if (_FROM.value is None) == (_TO.value is None):
        raise ValueError("Give one of --from=reference and --to=reference")
    if _TO.value:
        return export_run()
    if _MEAN.value or _COV.value:
        return import_statistics()
    return import_checkpoint()


def import_checkpoint() -> int:
    from diffusion_jax.importers import reference, workdir

    model, params, folder = (needed(flag) for flag in (_MODEL, _PARAMS, _WORKDIR))
    workdir.check_free(folder)
    print(f"Reading {model}", flush=True)
    checkpoint = reference.read_checkpoint(model, params, time_embedding=_TIME_EMBEDDING.value)
    moments, optimizer_settings = None, {}
    if _OPTIMIZER.value:
        print(f"Reading {_OPTIMIZER.value}", flush=True)
        adam, optimizer_settings = reference.read_optimizer(Path(_OPTIMIZER.value), checkpoint)
        moments = {"count": adam.count, "mu": adam.mu, "nu": adam.nu}
    step = checkpoint.step // _GRAD_ACC_STEPS.value
    config = imported_config(checkpoint.settings | optimizer_settings, step)
    state = workdir.imported_state(config, checkpoint.params, step, moments)
    origin = {
        "from": "gmongaras/Diffusion_models_from_scratch",
        "model": str(model),
        "optimizer": _OPTIMIZER.value,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "imported_as": step,
    }
    print(f"Writing {folder}", flush=True)
    workdir.write_workdir(folder, config, state, origin)
    print(f"Imported step {step} into {folder}, time_embedding={_TIME_EMBEDDING.value}.")
    if moments and moments["count"] != step:
        print(f"Note: the optimizer has made {moments['count']} updates; see --grad_acc_steps.")
    print(f"Draw images: python -m scripts.sample --workdir {folder}")
    print(f"Train on:    python -m scripts.train --workdir {folder}")
    return 0


def imported_config(settings: dict, step: int):
    """configs/reference.py with what the files say. Raises ValueError if it cannot be run."""
    from configs import reference
    from diffusion_jax.validation import validate

    config = reference.get_config()
    config.update_from_flattened_dict(settings)
    config.data.resolution = _RESOLUTION.value
    config.micro_batches = _GRAD_ACC_STEPS.value
    if step >= config.steps:
        config.steps = step + 100_000
    validate(config)
    return config


def import_statistics() -> int:
    from diffusion_jax.importers import reference
    from diffusion_jax.importers.reference.statistics import FEATURES

    mean, covariance, out = (needed(flag) for flag in (_MEAN, _COV, _OUT))
    if out.suffix != ".npz":
        raise ValueError(f"--out={out} must end in .npz")
    if out.exists():
        raise ValueError(f"--out={out} is there already; choose another, or delete it")
    mu, sigma = reference.read_statistics(mean, covariance)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, mu=mu, sigma=sigma, features=FEATURES)
    print(f"{out}: mu {mu.shape}, sigma {sigma.shape}, of {FEATURES}.")
    return 0


def export_run() -> int:
    from diffusion_jax import configuration
    from diffusion_jax.importers import reference, workdir
    from diffusion_jax.validation import validate

    folder, out = needed(_WORKDIR), needed(_OUT)
    config = configuration.load(folder)
    validate(config)
    reference.check_exportable(config)
    step, params, moments = workdir.read_weights(
        folder, config, checkpoint=_CHECKPOINT.value, raw=_WEIGHTS.value == "raw"
    )
    origin = workdir.origin_of(folder)
    unchanged = origin.get("imported_as") == step
    for path in reference.write_checkpoint(
        out,
        config,
        params,
        epoch=origin.get("epoch", 0),
        step=origin["step"] if unchanged else step,
        adam=None if moments is None else reference.AdamState(**moments),
    ):
        print(path)
    if config.model.time_embedding != "published":
        print("Note: the original computes this model as its code stands since May 2024.")
    else:
        print("Note: the original computes this model as its code stood until May 2024.")
    return 0


def needed(flag: flags.FlagHolder) -> Path:
    if not flag.value:
        raise ValueError(f"--{flag.name} is missing; see --help")
    return Path(flag.value)


if __name__ == "__main__":
    cli.run(main)
