"""What a run goes on from if its newest checkpoint is damaged."""

from typing import Any

import numpy as np

from diffusion_jax import parallel
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.damage import DamagedCheckpoint
from diffusion_jax.training.state import TrainState


def restore_newest(
    checkpoints: Checkpoints, like: TrainState
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """(state, `about`, lines to report) of the newest checkpoint that can be read.

    Newer ones, which are damaged, are renamed to STEP.damaged, and a line says so. What process 0
    can read decides. If none can be read, all stay as they are, and DamagedCheckpoint is raised,
    as is FileNotFoundError if there are none.
    """
    checkpoints.wait()
    damaged: dict[int, DamagedCheckpoint] = {}
    for step in reversed(checkpoints.steps()):
        found, error = _try(checkpoints, step, like)
        if parallel.from_first(np.array(int(error is None), np.int32)):
            if error:
                raise error
            return *found, [_set_aside(checkpoints, bad, damaged[bad], step) for bad in damaged]
        damaged[step] = error or DamagedCheckpoint(checkpoints.folder / str(step), "by process 0")
    raise damaged[checkpoints.newest()]


def _try(
    checkpoints: Checkpoints, step: int, like: TrainState
) -> tuple[tuple[TrainState, dict[str, Any]] | None, DamagedCheckpoint | None]:
    """What the checkpoint holds, or why it cannot be read."""
    try:
        return (checkpoints.restore(step, like), checkpoints.about(step)), None
    except DamagedCheckpoint as error:
        return None, error


def _set_aside(checkpoints: Checkpoints, step: int, why: DamagedCheckpoint, good: int) -> str:
    aside = checkpoints.set_aside(step)
    return (
        f"The checkpoint {why.path} is damaged ({why.reason}) and was renamed to {aside.name}; "
        f"going on from that of step {good}"
    )
