"""Flags of the sampling settings of a sweep: lists, all combinations of which are evaluated."""

from typing import Any

from absl import flags

from scripts.cli import flag_values, guidance_flags

flags.adopt_module_key_flags(guidance_flags)  # shown by --help

_STEPS = flags.DEFINE_list("steps", None, "Sampling steps, evenly spaced.")
_STRIDE = flags.DEFINE_list("stride", None, "In place of --steps: every stride-th step.")
_ETA = flags.DEFINE_list("eta", None, "0: DDIM; 1: DDPM.")
_GUIDANCE = flags.DEFINE_list("guidance", None, "w in (1+w) conditional - w unconditional.")
_CFG_SCALE = flags.DEFINE_list("cfg_scale", None, "Instead of --guidance: s = 1 + w.")
_CLASSIFIER_SCALE = flags.DEFINE_list(
    "classifier_scale", None, "s: the weight of the gradient of --classifier."
)
_SOLVER = flags.DEFINE_list("solver", None, "Such as ddim, heun or dpmpp_2m.")
_SPACING = flags.DEFINE_list("spacing", None, "Of the steps, such as ends or karras.")
_OPTION = flags.DEFINE_multi_string(
    "option", [], "Any option of the solver or the spacing, as NAME=VALUE; can be repeated."
)
_CLIP = flags.DEFINE_bool("clip", None, "Clip the predicted x0 to [-1, 1].")

# Which levels are visited and with how much fresh noise, and what else decides how images come out.
OF_STEPS = (_STEPS, _STRIDE, _ETA)
OF_DRAWING = (
    _GUIDANCE,
    _CFG_SCALE,
    _CLASSIFIER_SCALE,
    _SOLVER,
    _SPACING,
    _OPTION,
    _CLIP,
    *guidance_flags.FLAGS,
)


def lists() -> dict[str, list[Any]]:
    """The values of each setting of config.sampling to evaluate; none keeps the config's."""
    scales = [guidance_flags.scale(None, scale) for scale in flag_values.numbers(_CFG_SCALE, float)]
    if scales and _GUIDANCE.value:
        raise ValueError("--guidance and --cfg_scale were both given; choose one")
    given = guidance_flags.given()
    return {
        "solver": _SOLVER.value or [],
        "spacing": _SPACING.value or [],
        "steps": flag_values.numbers(_STEPS, int),
        "stride": flag_values.numbers(_STRIDE, int),
        "eta": flag_values.numbers(_ETA, float),
        "guidance": scales or flag_values.numbers(_GUIDANCE, float),
        "classifier_scale": flag_values.numbers(_CLASSIFIER_SCALE, float),
        "clip": [] if _CLIP.value is None else [_CLIP.value],
        **{name: [] if value is None else [value] for name, value in given.items()},
    }


def options() -> dict[str, Any]:
    """The options of solver and spacing, which all combinations share."""
    return flag_values.sampling_options(_OPTION.value)
