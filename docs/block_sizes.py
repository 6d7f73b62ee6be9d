"""By how much the commands of the documentation are reduced when they are run as a check.

A flag that is given stays as it is, unless it has a limit. So a new command runs as it stands, with
a small network and for a few steps.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Numbers that are not exceeded.
LIMITS = {"config.steps": 2, "config.batch_size": 4, "count": 20}
LIMITS |= {"batch": 2, "resample": 2, "num_processes": 1}
# Lists of which the first so many are taken.
FIRST = {"steps": 2, "seed": 1, "solver": 2}
# Values in place of others.
INSTEAD = {
    "configs/tfds.py:cifar10": "configs/tfds.py:emnist/letters",
    "10.0.0.1:1234": "localhost:21234",
    "/shared/res_res": "shared/res_res",
}

# What is added to the commands of a script.
FEATURES = {"features": "docs.block_sizes:quarters"}
ADDED = {
    "scripts.fid evaluate": FEATURES | {"count": "20"},
    "scripts.fid reference": FEATURES,
    "scripts.data imagenet64": {"any_count": None},
    "benchmarks.train_step": {"blocks": "1", "calls": "1"},
    "benchmarks.sample": {"blocks": "1", "calls": "1", "config.sampling.steps": "2"},
    "benchmarks.solver_error": {"evaluations": "5,10"},
}
# To the config of a run.
TRAINING = {
    "config.steps": "2",
    "config.batch_size": "4",
    "config.optimizer.warmup_steps": "0",
    "config.data.threads": "1",
    "config.sampling.steps": "2",
    "config.sampling.sections.sections": "2",
    "config.sampling.grid_rows": "2",
    "config.sampling.grid_columns": "2",
    "config.log_every": "1",
    "config.sample_every": "1000",
    "config.checkpoint_every": "2",
}
# To that of its network.
LEVELS = {"width": "32", "multipliers": "1,2", "blocks": "1", "attention": "8"}
LEVELS |= {"head_channels": "16"}
SMALL = {
    "unet": {"width": "8", "levels": "1", "blocks": "res", "time_dim": "16", "label_dim": "16"},
    "dit": {"width": "8", "depth": "1", "num_heads": "2"},
    "adm": LEVELS,
    "noisy_classifier": LEVELS,
    "edm2": LEVELS,
}
SIDE = 16  # of the images of networks with such levels

Flags = dict[str, str | None]


def parsed(words: Sequence[str]) -> tuple[list[str], Flags]:
    """The words that are no flags, and the flags with their values, if they have any."""
    others, flags, name = [], {}, None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flags[name] = value if equals else None
            name = None if equals else name
        elif name:
            flags[name], name = word, None
        else:
            others.append(word)
    return others, flags


def reduced(module: str, words: Sequence[str]) -> list[str]:
    """The arguments of a script within their limits, and with what is added."""
    others, flags = parsed(words)
    added = dict(ADDED.get(" ".join([module, *others[:1]]), {}))
    config = flags.get("config") or {"openai": "configs/adm64.py"}.get(flags.get("from"))
    if config and module in ("scripts.train", "scripts.convert"):
        added |= TRAINING | small_network(config)
    elif module == "scripts.train":
        added |= continuing(Path(flags["workdir"]))
    elif module == "scripts.convert" and "hyperparameters" in flags:
        added["resolution"] = str(SIDE)
    elif config and module.startswith("benchmarks."):
        added |= small_network(config)
    flags = added | {name: limited(name, value) for name, value in flags.items()}
    written = [f"--{name}" + (f"={value}" if value else "") for name, value in flags.items()]
    # The config comes before its fields.
    return others + sorted(written, key=lambda flag: not flag.startswith("--config="))


def reduced_python(text: str) -> str:
    """Python that draws fewer images."""
    return re.sub(r"\bcount=(\d+)", lambda match: f"count={min(int(match[1]), 10)}", text)


def limited(flag: str, value: str | None) -> str | None:
    if value is None or value in INSTEAD:
        return INSTEAD.get(value)
    if flag in LIMITS and value.isdigit():
        return str(min(int(value), LIMITS[flag]))
    return ",".join(value.split(",")[: FIRST.get(flag)])


def small_network(given: str) -> Flags:
    """The fields that make the network of a config small."""
    path, _, argument = given.partition(":")
    module = importlib.import_module(f"configs.{Path(path).stem}")
    config = module.get_config(argument) if argument else module.get_config()
    fields = SMALL.get(config.model.name, {})
    flags = {f"config.model.{name}": value for name, value in fields.items()}
    if fields is LEVELS and config.data.resolution > SIDE:
        flags["config.data.resolution"] = str(SIDE)
    return flags


def continuing(workdir: Path) -> Flags:
    """The fields with which a run goes on for two steps."""
    done = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    small = ("config.batch_size", "config.data.threads", "config.sample_every")
    return {"config.steps": str(done + 2)} | {name: TRAINING[name] for name in small}


def quarters(images: np.ndarray) -> np.ndarray:
    """Features in place of Inception's: the mean color of each quarter of an image."""
    count, height, width, channels = images.shape
    parts = images.reshape(count, 2, height // 2, 2, width // 2, channels)
    return parts.mean((2, 4)).reshape(count, -1)
