"""What the single values of a config must be."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_jax.diffusion.losses import ERRORS, LOSSES
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.timestep_samplers import TIMESTEPS
from diffusion_jax.diffusion.weights import WEIGHTS
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.training.ema import AVERAGES
from diffusion_jax.training.optimizers import DECAYS

# (names, test, what the value must be)
RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("behaviour", lambda v: v in ("corrected", "original"), "corrected or original"),
    (
        "parameterization",
        lambda v: v in PARAMETERIZATIONS,
        f"one of {', '.join(PARAMETERIZATIONS)}",
    ),
    ("sampling.solver", lambda v: v in SOLVERS, f"one of {', '.join(SOLVERS)}"),
    ("sampling.spacing", lambda v: v in SPACINGS, f"one of {', '.join(SPACINGS)}"),
    ("loss.kind", lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}"),
    ("timesteps.name", lambda v: v in TIMESTEPS, f"one of {', '.join(TIMESTEPS)}"),
    ("average", lambda v: v in AVERAGES, f"one of {', '.join(AVERAGES)}"),
    ("optimizer.decay", lambda v: v in DECAYS, f"one of {', '.join(DECAYS)}"),
    ("loss.error", lambda v: v in ERRORS, f"one of {', '.join(ERRORS)}"),
    ("loss.weight", lambda v: v in WEIGHTS, f"one of {', '.join(WEIGHTS)}"),
    (
        "init_from sampling.autoguidance sampling.classifier",
        lambda v: isinstance(v, str),
        "the workdir of a run, or empty",
    ),
    ("sampling.guidance sampling.classifier_scale", lambda v: 0 <= v <= 1000, "in [0, 1000]"),
    ("sampling.guidance_rescale", lambda v: 0 <= v <= 1, "in [0, 1]"),
    ("sampling.dynamic_threshold", lambda v: 0 <= v <= 1, "in [0, 1], such as 0.995; 0 is off"),
    ("seed", lambda v: 0 <= v < 2**32, "in [0, 2^32)"),
    ("schedule.num_steps", lambda v: v >= 2, "at least 2"),
    (
        "optimizer.learning_rate optimizer.eps",
        lambda v: v > 0 and bool(0 < np.float32(v) < np.inf),
        "positive, and a number of float32",
    ),
    ("label_dropout ema_decay optimizer.b1 optimizer.b2", lambda v: 0 <= v < 1, "in [0, 1)"),
    (
        "batch_size micro_batches steps log_every sample_every checkpoint_every keep_latest "
        "max_nan_steps cpu_devices "
        "data.threads sampling.steps sampling.grid_rows sampling.grid_columns",
        lambda v: v >= 1,
        "at least 1",
    ),
    (
        "keep_every early_sample_minutes ema_start loss.vlb_weight sampling.stride "
        "sampling.autoguidance_checkpoint sampling.classifier_checkpoint "
        "optimizer.warmup_steps optimizer.decay_steps optimizer.clip_norm "
        "optimizer.weight_decay",
        lambda v: v >= 0,
        "at least 0",
    ),
]


def holds(test: Callable[[Any], bool], value: Any) -> bool:
    """Whether a value passes the test of a rule; False for one of a kind that it cannot compare."""
    try:
        return test(value)
    except TypeError:  # a text where a number belongs
        return False
