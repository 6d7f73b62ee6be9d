"""Commands of the documentation with sizes that take seconds."""

import importlib
import os
import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Parts of commands that are not run, and why.
NOT_RUN = {
    "pip install": "the packages are installed",
    "-m venv": "the environment exists",
    "-m pytest": "the tests run by themselves",
    "sbatch": "tests/scripts/test_slurm.py runs the batch files",
    "--coordinator": "it needs two machines; tests/training/test_devices.py starts two processes",
    "scripts.play": "tests/playground opens the playground",
    "scripts.data mnist": "it downloads",
    "scripts.data tfds": "it downloads",
    "tfds.py:cifar10": "the dataset is a download",
    "imagenet64 --tfds": "it needs TensorFlow",
    "scripts.fid check": "it needs published files and the weights of Inception",
    "digits.py:stack": "the library lacks the network of this page",
    "benchmarks.": "a benchmark takes minutes, or a GPU",
}
# Values in place of those given.
REPLACED = {"count": "20", "steps": "3", "seed": "0"}
# Arguments at the end, where they win.
ADDED = {
    "scripts.train": "--config.steps=2 --config.batch_size=4",
    "scripts.fid evaluate": "--count=20",
    "scripts.data imagenet64": "--any_count",
}
# Fields of a new run.
RUN = {
    "optimizer.warmup_steps": 0,
    "data.threads": 1,
    "cpu_devices": 1,
    "sampling.steps": 2,
    "sampling.sections.sections": (2,),
    "sampling.grid_rows": 2,
    "sampling.grid_columns": 2,
    "log_every": 1,
    "sample_every": 1000,
    "checkpoint_every": 2,
}
LEVELS = {"width": 32, "multipliers": "1,2", "blocks": 1, "attention": 8, "head_channels": 16}
MODELS = {
    "unet": {"width": 8, "levels": 1, "blocks": "res", "time_dim": 16, "label_dim": 16},
    "dit": {"width": 8, "depth": 1, "num_heads": 2},
    "adm": LEVELS,
    "noisy_classifier": LEVELS,
    "edm2": LEVELS,
}
RESOLUTION = 16  # at most


def small(module: str, words: Sequence[str]) -> list[str]:
    """Returns the arguments of a script, reduced."""
    given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
    first, rest = [], list(words)
    if module in ("scripts.train", "scripts.convert") and {"config", "from"} & {*given}:
        if "config" in given:
            at = words.index("--config") + 2
            first, rest = rest[:at], rest[at:]
        reduced = small_run(first[-1] if first else "configs/adm64.py")
        # A tuple that is given twice is joined.
        first += [flag for flag in reduced if flag[2:].partition("=")[0] not in given]
        if "--config.data.name=imagenet64" in words:
            first.append("--config.data.resolution=64")  # prepared images have one size
    last = ADDED.get(" ".join([module, *words[: module != "scripts.train"]]), "").split()
    last += [f"--{flag}={value}" for flag, value in REPLACED.items() if flag in given]
    if module == "scripts.fid" and "features" not in given:
        last.append("--features=pixels")
    return [*first, *rest, *last]


def small_run(config: str) -> list[str]:
    """Returns the flags that reduce a config, such as configs/folder.py:small."""
    path, _, argument = config.partition(":")
    module = importlib.import_module(f"configs.{Path(path).stem}")
    made = module.get_config(*filter(None, [argument]))
    if made.model.name not in MODELS:
        raise ValueError(f"{config} has the network {made.model.name}; add a small one to MODELS")
    fields = RUN | {f"model.{name}": value for name, value in MODELS[made.model.name].items()}
    fields["data.resolution"] = min(RESOLUTION, made.data.resolution)
    return [f"--config.{name}={value}" for name, value in fields.items()]


def not_run(words: Sequence[str]) -> str | None:
    """Returns why a command is not run, or None. Checks that the requirements it names exist."""
    line = " ".join(words)
    for part, reason in NOT_RUN.items():
        if part in line:
            for file in re.findall(r"\S*requirements\S*", line):
                assert (ROOT / file).is_file(), f"There is no {file}"
            return f"{part}: {reason}"
    return None


def run_in(words: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
    """Runs a command in a folder, with its output in the file `output`."""
    os.chdir(folder)
    os.environ.update(environment)
    descriptor = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if words[0] == "cp":
        os.execvp("cp", words)
    if Path(words[0]).name in ("python", "python3") and words[1] == "-c":
        exec(words[2], {"__name__": "__main__"})
        return
    if Path(words[0]).name not in ("python", "python3") or words[1] != "-m":
        sys.exit(f"Unknown command: {shlex.join(words)}")
    _, _, module, *rest = words
    sys.argv = [module, *small(module, rest)]
    print("Runs:", shlex.join(sys.argv), flush=True)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
