"""Imports checkpoints of other programs, and exports runs.

python -m scripts.convert --from openai --model 64x64_diffusion.pt --workdir runs/adm64
python -m scripts.convert --from original --model model_438e_550000s.pkl \
    --hyperparameters model_params_438e_550000s.json --workdir runs/imported
python -m scripts.convert --to original --workdir runs/imported --out exported
python -m scripts.convert --to safetensors --workdir runs/digits --out exported
python -m scripts.convert --from original --mean real_mean.npy --cov real_cov.npy --out real.npz

"original" is gmongaras/Diffusion_models_from_scratch. --config describes models of the other
programs; the default is the config of a published one.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from scripts.cli import app, config_flag, path_flags

# The programs of `diffusion_jax.importers.programs`, and the config of a published model of each.
CONFIGS = {
    "openai": "adm64",
    "nice-diffusion": "emnist_letters",
    "edm": "edm64",
    "edm2": "edm2_s64",
    "mydiffusion": "landscape64",
    "oasis": "oasis64",
}
SOURCES = ["original", *CONFIGS, "safetensors"]
TARGETS = ["original", "safetensors"]

_FROM = flags.DEFINE_enum("from", None, SOURCES, "Program whose files to read.")
_TO = flags.DEFINE_enum("to", None, TARGETS, "Program whose files to write.")
_WORKDIR = path_flags.define("workdir", None, "The run to write, or with --to, to read.")
_MODEL = path_flags.define("model", None, "Its weights: model...pkl, .pt, .pth, .safetensors.")
_CONFIG = config_flag.define("The config of the model; --config.FIELD=VALUE changes a field.")
_HYPERPARAMETERS = path_flags.define(
    "hyperparameters", None, "Its hyperparameters, model_params...json."
)
_OPTIMIZER = path_flags.define("optimizer", None, "Its optimizer's state, optim...pkl.")
_TIME_EMBEDDING = flags.DEFINE_enum(
    "time_embedding",
    "published",
    ["published", "head", "sin"],
    "published: as the published models were trained, sin in even rows of a batch, cos in odd. "
    "head: as trained since May 2024. sin: like published, but sin in every row.",
)
_RESOLUTION = flags.DEFINE_integer(
    "resolution", 64, "Side of the images, which the files do not contain.", 1
)
_GRAD_ACC_STEPS = flags.DEFINE_integer(
    "grad_acc_steps", 1, "gradAccSteps of the original run, which counted steps that many times.", 1
)
_CHECKPOINT = flags.DEFINE_integer("checkpoint", None, "Its step; default: the newest.")
_PARAMS = flags.DEFINE_enum(
    "params", "ema", ["ema", "raw"], "Averaged parameters, or raw ones and the optimizer's state."
)
_MEAN = path_flags.define("mean", None, "Mean of saved FID statistics, .npy.")
_COV = path_flags.define("cov", None, "Their covariance, .npy.")
_OUT = path_flags.define("out", None, "A folder; with --mean and --cov, an .npz file.")

WAYS = {
    "--from program": (_MODEL, _WORKDIR, _CONFIG),
    "--from original": (
        *(_MODEL, _HYPERPARAMETERS, _OPTIMIZER, _WORKDIR),
        *(_TIME_EMBEDDING, _RESOLUTION, _GRAD_ACC_STEPS),
    ),
    "--from safetensors": (_MODEL, _WORKDIR),
    "--from --mean": (_MEAN, _COV, _OUT),
    "--to": (_WORKDIR, _OUT, _CHECKPOINT, _PARAMS),
}


def main() -> None:
    from scripts.cli import conversions

    if (_FROM.value is None) == (_TO.value is None):
        raise ValueError(
            f"Give one of --from ({', '.join(SOURCES)}) and --to ({', '.join(TARGETS)})"
        )
    if _TO.value:
        app.check_flags("--to", WAYS)
        export = getattr(conversions, f"export_{_TO.value}")
        raw = _PARAMS.value == "raw"
        export(needed(_WORKDIR), needed(_OUT), checkpoint=_CHECKPOINT.value, raw=raw)
    elif _FROM.value == "original" and (_MEAN.value or _COV.value):
        app.check_flags("--from --mean", WAYS)
        conversions.import_statistics(needed(_MEAN), needed(_COV), needed(_OUT))
    elif _FROM.value == "original":
        app.check_flags("--from original", WAYS)
        conversions.import_original(
            needed(_MODEL),
            needed(_HYPERPARAMETERS),
            _OPTIMIZER.value,
            needed(_WORKDIR),
            time_embedding=_TIME_EMBEDDING.value,
            resolution=_RESOLUTION.value,
            grad_acc_steps=_GRAD_ACC_STEPS.value,
        )
    elif _FROM.value == "safetensors":
        app.check_flags("--from safetensors", WAYS)
        conversions.import_safetensors(needed(_MODEL), needed(_WORKDIR))
    elif _FROM.value:
        app.check_flags("--from program", WAYS)
        config = config_flag.value(CONFIGS[_FROM.value])
        given = config_flags.get_override_values(flags.FLAGS["config"])
        conversions.import_program(
            _FROM.value, needed(_MODEL), needed(_WORKDIR), config, dict(given)
        )


def needed(flag: flags.FlagHolder) -> Path:
    """Returns the path of a flag. Raises ValueError if it is missing."""
    if not flag.value:
        raise ValueError(f"--{flag.name} is missing; see --help")
    return flag.value


def with_config_of_program(argv: list[str]) -> list[str]:
    """Adds the config of a program's published model to the arguments if --config is missing."""
    program = config_flag.value_of("from", argv)
    if program not in CONFIGS or config_flag.value_of("config", argv) is not None:
        return argv
    return [argv[0], f"--config={CONFIGS[program]}", *argv[1:]]


if __name__ == "__main__":
    sys.argv = with_config_of_program(sys.argv)
    app.run(main, WAYS)
