"""Flags of the sampling settings, as single values or as the lists of a sweep."""

import math
from typing import Any

from absl import flags

from scripts.cli import flag_values

OFF = "None"  # switches off a setting of the run's config

# Settings that a sweep varies: (parser, help).
VARIED = {
    "solver": (
        flags.ArgumentParser(),
        "Such as ddim, heun or dpmpp_2m; an unknown name lists them. original samples exactly as "
        "gmongaras/Diffusion_models_from_scratch, which does not clip by default.",
    ),
    "steps": (flags.IntegerParser(1), "Sampling steps."),
    "stride": (flags.IntegerParser(1), "In place of --steps: every stride-th step."),
    "spacing": (
        flags.ArgumentParser(),
        "Of the steps, such as ends or karras; an unknown name lists them.",
    ),
    "eta": (
        flags.FloatParser(0.0),
        "Fresh noise that a solver adds, if it can: 0 is none (DDIM), 1 as much as DDPM.",
    ),
    "guidance": (flags.FloatParser(-1.0), "w in (1+w) conditional - w unconditional."),
    "cfg_scale": (flags.FloatParser(0.0), "Instead of --guidance: s = 1 + w."),
    "classifier_scale": (
        flags.FloatParser(0.0),
        "s: the weight of the gradient of --classifier.",
    ),
}


class _OrOff(flags.ArgumentParser):
    """Parser of a setting that None switches off."""

    def __init__(self, parser: flags.ArgumentParser):
        self.item = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        return OFF if argument == OFF else self.item.parse(argument)


class _Interval(flags.ArgumentParser):
    """Parser of LOW,HIGH, where a HIGH of inf is no limit."""

    def parse(self, argument: str) -> tuple[float, float | str]:
        try:
            low, high = map(float, argument.split(","))
            if not 0 <= low < high:
                raise ValueError
        except ValueError:
            raise ValueError(
                "must be LOW,HIGH with 0 <= LOW < HIGH, in sigma / alpha, such as 0.2,5 or 0.2,inf"
            ) from None
        return low, OFF if math.isinf(high) else high


# Settings with one value, in a sweep too.
SINGLE = {
    "guidance_interval": (
        _Interval(),
        "LOW,HIGH: guide only where LOW < sigma / alpha <= HIGH, and elsewhere skip the second "
        "pass. A HIGH of inf is no limit.",
    ),
    "guidance_rescale": (
        flags.FloatParser(0.0, 1.0),
        "phi: how far to return to the unguided contrast.",
    ),
    "dynamic_threshold": (
        _OrOff(flags.FloatParser(0.0, 1.0)),
        "Imagen's, in place of --clip: the quantile of |x0|, such as 0.995. None: off.",
    ),
    "autoguidance": (
        _OrOff(flags.ArgumentParser()),
        "Workdir of a weaker run to guide with, in place of the null class. None: off.",
    ),
    "autoguidance_checkpoint": (
        _OrOff(flags.IntegerParser(1)),
        "Its step; default: the newest.",
    ),
    "classifier": (
        _OrOff(flags.ArgumentParser()),
        "Workdir of a classifier of noisy images to guide with. None: off.",
    ),
    "classifier_checkpoint": (_OrOff(flags.IntegerParser(1)), "Its step; default: the newest."),
}


class SamplingFlags:
    """Flags of all sampling settings, defined by the constructor.

    lists: True for a sweep, whose flags in `VARIED` take lists.
    """

    def __init__(self, *, lists: bool = False):
        self._lists = lists
        self._flags = {
            name: flags.DEFINE(flag_values.List(parser) if lists else parser, name, None, about)
            for name, (parser, about) in VARIED.items()
        }
        if not lists:
            self._flags["ddim_scale"] = flags.DEFINE_float(
                "ddim_scale", None, "Instead of --eta: its square, the original's DDIM_scale.", 0.0
            )
        for name, (parser, about) in SINGLE.items():
            self._flags[name] = flags.DEFINE(parser, name, None, about)
        self._flags["option"] = flags.DEFINE_multi_string(
            "option", [], "An option of the solver or the spacing, as NAME=VALUE; repeatable."
        )
        self._flags["clip"] = flags.DEFINE_bool(
            "clip",
            None,
            "Clip the predicted x0 to [-1, 1]; without, first steps may blow up. The original's "
            "clipping is what the original calls corrected.",
        )

    def only(self, *names: str) -> tuple[flags.FlagHolder, ...]:
        """Returns these flags."""
        return tuple(self._flags[name] for name in names)

    def without(self, *names: str) -> tuple[flags.FlagHolder, ...]:
        """Returns the other flags."""
        return tuple(flag for name, flag in self._flags.items() if name not in names)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that were given, with the options, by name.

        Raises ValueError for flags that contradict each other.
        """
        given = self._given()
        return given | flag_values.options(self._flags["option"].value, given)

    def lists(self) -> dict[str, list[Any]]:
        """Returns the values of each setting that was given, without the options."""
        return {name: value if name in VARIED else [value] for name, value in self._given().items()}

    def options(self) -> dict[str, str]:
        """Returns the options of solver and spacing, which all points of a sweep share."""
        return flag_values.options(self._flags["option"].value)

    def _given(self) -> dict[str, Any]:
        from diffusion_jax.config.overrides import with_field_names

        values = {name: flag.value for name, flag in self._flags.items() if name != "option"}
        given = {name: value for name, value in values.items() if value is not None}
        if self._lists and "cfg_scale" in given:
            if "guidance" in given:
                raise ValueError("--guidance and --cfg_scale were both given; choose one")
            given["guidance"] = [scale - 1 for scale in given.pop("cfg_scale")]
        given = with_field_names(given)
        if "guidance_interval" in given:
            low, high = given.pop("guidance_interval")
            given |= {"guidance_low": low, "guidance_high": high}
        return given
