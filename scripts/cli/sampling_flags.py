"""Flags of the sampling settings, for the scripts that draw images with one setting."""

import math
from typing import Any

from absl import flags

from scripts.cli import flag_values, guidance_flags

flags.adopt_module_key_flags(guidance_flags)  # shown by --help

_GUIDANCE = flags.DEFINE_float("guidance", None, "w in (1+w) conditional - w unconditional.", 0.0)
_CFG_SCALE = flags.DEFINE_float("cfg_scale", None, "Instead of --guidance: s = 1 + w.")
_CLASSIFIER_SCALE = flags.DEFINE_float(
    "classifier_scale", None, "s: the weight of the gradient of --classifier.", 0.0
)
_STEPS = flags.DEFINE_integer("steps", None, "Sampling steps.", 1)
_STRIDE = flags.DEFINE_integer("stride", None, "In place of --steps: every stride-th step.", 1)
_SOLVER = flags.DEFINE_string(
    "solver",
    None,
    "Such as ddim, heun or dpmpp_2m; a wrong name is answered with the list. original samples "
    "exactly as gmongaras/Diffusion_models_from_scratch, which does not clip unless told to.",
)
_SPACING = flags.DEFINE_string(
    "spacing", None, "Of the steps, such as ends or karras; a wrong name is answered with the list."
)
_ETA = flags.DEFINE_float(
    "eta",
    None,
    "How much fresh noise a solver adds, if it can: 0 is none (DDIM), 1 as much as DDPM.",
    0.0,
)
_DDIM_SCALE = flags.DEFINE_float(
    "ddim_scale", None, "Instead of --eta: its square, the original's DDIM_scale.", 0.0
)
_OPTION = flags.DEFINE_multi_string(
    "option", [], "Any option of the solver or the spacing, as NAME=VALUE; can be repeated."
)
_CLIP = flags.DEFINE_bool(
    "clip",
    None,
    "Clip the predicted x0 to [-1, 1]; without, first steps may blow up. The original's "
    "clipping is what the original calls corrected.",
)

# All but those that say which levels are visited.
OF_DRAWING = (
    _GUIDANCE,
    _CFG_SCALE,
    _CLASSIFIER_SCALE,
    _SOLVER,
    _ETA,
    _DDIM_SCALE,
    _CLIP,
    *guidance_flags.FLAGS,
)


def given() -> dict[str, Any]:
    """Returns the settings that flags set, with options of solver and spacing, by name.

    Raises ValueError for flags that contradict each other.
    """
    eta = _ETA.value
    if _DDIM_SCALE.value is not None:
        if eta is not None:
            raise ValueError("--eta and --ddim_scale were both given; choose one")
        eta = math.sqrt(_DDIM_SCALE.value)
    fields = {
        "solver": _SOLVER.value,
        "steps": _STEPS.value,
        "stride": _STRIDE.value,
        "spacing": _SPACING.value,
        "guidance": guidance_flags.scale(_GUIDANCE.value, _CFG_SCALE.value),
        "classifier_scale": _CLASSIFIER_SCALE.value,
        "clip": _CLIP.value,
        **guidance_flags.given(),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    return fields | flag_values.sampling_options(_OPTION.value, eta=eta)
