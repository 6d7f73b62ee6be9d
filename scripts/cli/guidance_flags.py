"""Flags of guidance and thresholding, for the scripts that sample."""

import math
from typing import Any

from absl import flags

_INTERVAL = flags.DEFINE_string(
    "guidance_interval",
    None,
    "LOW,HIGH: guide only where LOW < noise / signal <= HIGH, and elsewhere skip the second pass.",
)
_RESCALE = flags.DEFINE_float(
    "guidance_rescale", None, "phi: how far to return to the unguided contrast.", 0.0, 1.0
)
_THRESHOLD = flags.DEFINE_float(
    "dynamic_threshold",
    None,
    "Imagen's, in place of --clip: the quantile of |x0|, such as 0.995. 0: off.",
    0.0,
    1.0,
)
_AUTOGUIDANCE = flags.DEFINE_string(
    "autoguidance", None, "Workdir of a weaker run to guide with, in place of the null class."
)
_AUTOGUIDANCE_CHECKPOINT = flags.DEFINE_integer(
    "autoguidance_checkpoint", None, "Its step; default: the newest.", 1
)
_CLASSIFIER = flags.DEFINE_string(
    "classifier", None, "Workdir of a classifier of noisy images to guide with."
)
_CLASSIFIER_CHECKPOINT = flags.DEFINE_integer(
    "classifier_checkpoint", None, "Its step; default: the newest.", 1
)
# All flags above, for tables of commands.
FLAGS = (_INTERVAL, _RESCALE, _THRESHOLD, _AUTOGUIDANCE, _AUTOGUIDANCE_CHECKPOINT)
FLAGS += (_CLASSIFIER, _CLASSIFIER_CHECKPOINT)


def given() -> dict[str, Any]:
    """The fields of `config.sampling` that the flags set; None where a flag is missing."""
    low, high = _interval()
    return {
        "guidance_low": low,
        "guidance_high": high,
        "guidance_rescale": _RESCALE.value,
        "dynamic_threshold": _THRESHOLD.value,
        "autoguidance": _AUTOGUIDANCE.value,
        "autoguidance_checkpoint": _AUTOGUIDANCE_CHECKPOINT.value,
        "classifier": _CLASSIFIER.value,
        "classifier_checkpoint": _CLASSIFIER_CHECKPOINT.value,
    }


def scale(guidance: float | None, cfg_scale: float | None) -> float | None:
    """w, from --guidance w or --cfg_scale s = 1 + w. Raises ValueError if both are given."""
    if cfg_scale is None:
        return guidance
    if guidance is not None:
        raise ValueError("--guidance and --cfg_scale were both given; choose one")
    if not cfg_scale >= 1:
        raise ValueError(f"--cfg_scale={cfg_scale} must be at least 1, which is no guidance")
    return cfg_scale - 1


def _interval() -> tuple[float | None, float | None]:
    """(low, high) of --guidance_interval, where a high of 0 is no limit."""
    if _INTERVAL.value is None:
        return None, None
    try:
        low, high = map(float, _INTERVAL.value.split(","))
        if not 0 <= low < high:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--guidance_interval={_INTERVAL.value} must be LOW,HIGH with 0 <= LOW < HIGH, in "
            "noise / signal, such as 0.2,5"
        ) from None
    return low, 0.0 if math.isinf(high) else high
