"""Compatibility of a resumed run with its earlier config, classes and data."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.data import Source
from diffusion_jax.workdir.run_files import (
    CHECKPOINTS,
    CONFIG_FILE,
    differences,
    load_classes,
    load_config,
)

# Fields that are fixed once a run has parameters.
FIXED = ("original_quirks", "model.", "schedule.", "data.resolution", "parameterization")
FREE = ("model.dtype", "model.dropout", "model.remat")
# Of these, the fields that decide what the network's input and output mean.
NOISE = ("original_quirks", "schedule.", "parameterization")
# Fields of the EDM schedule that only sampling reads.
FREE += ("schedule.edm.sigma_min", "schedule.edm.sigma_max", "schedule.edm.rho")


def changes_since(config: ConfigDict, workdir: Path) -> list[str]:
    """Lists the fields that differ from the config the run in `workdir` was last started with.

    Raises ValueError if a field of the network or the schedule differs, or the seed.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"The workdir {workdir} is a file; choose another --workdir")
    if not (workdir / CONFIG_FILE).exists():
        return []
    changes = differences(load_config(workdir), config)
    fixed = [change for change in changes if _is_fixed(change, config)]
    if fixed:
        raise ValueError(
            f"{workdir} holds a run of another model ({'; '.join(fixed)}); choose another --workdir"
        )
    if seeds := [change for change in changes if change.startswith("seed:")]:
        before = seeds[0].removeprefix("seed: ").partition(" ->")[0]
        raise ValueError(
            f"{workdir} holds a run of seed={before}, which draws other noise and batches than "
            f"seed={config.seed}; give seed={before} to resume, or choose another workdir"
        )
    return changes


def changes_of_noise(before: ConfigDict, config: ConfigDict) -> list[str]:
    """Lists the differences in the noise levels and in the meaning of the network's output.

    before: config of the run that the parameters come from.
    """
    return [
        change
        for change in differences(before, config)
        if change.startswith(NOISE) and _is_fixed(change, config)
    ]


def _is_fixed(change: str, config: ConfigDict) -> bool:
    """True for a difference in a field of FIXED; options of entries not selected are free."""
    chosen = {"schedule": config.schedule.name, "parameterization": config.parameterization.name}
    section, *rest = change.split(":")[0].split(".")
    idle = len(rest) == 2 and section in chosen and rest[0] != chosen[section]
    return change.startswith(FIXED) and not change.startswith(FREE) and not idle


def check_steps(config: ConfigDict, workdir: Path) -> None:
    """Raises ValueError if the run in `workdir` has taken more than config.steps."""
    # Folders without parameters are not checkpoints.
    names = [path.parent.name for path in (workdir / CHECKPOINTS).glob("*/params")]
    done = max((int(name) for name in names if name.isdecimal()), default=0)
    if done > config.steps:
        raise ValueError(
            f"{workdir} has taken {done} steps already, more than steps={config.steps}; "
            f"give steps={done} or more, or choose another workdir"
        )


def check_classes(config: ConfigDict, workdir: Path, source: Source) -> None:
    """Raises ValueError if the class names of the run in `workdir` differ."""
    started = (workdir / CONFIG_FILE).is_file()
    before = load_classes(workdir) if started else []
    if config.model.num_classes and before and before != list(source.class_names):
        changed = [f"{old} -> {new}" for old, new in zip(before, source.class_names) if old != new]
        raise ValueError(
            f"The class names of the run in {workdir} differ ({'; '.join(changed[:5])}); restore "
            "them, or choose another --workdir"
        )


def changes_of_data(metadata: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Lists the changes of the data since a checkpoint.

    metadata: of the checkpoint. now: provenance of the data.
    """
    before = metadata.get("data", now)
    return [
        f"the data's {name}: {before[name]} -> {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]
