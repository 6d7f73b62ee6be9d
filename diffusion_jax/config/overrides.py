"""Overrides of the sampling settings of a config, from flags or calls."""

import ast
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.config.experiment import Experiment
from diffusion_jax.config.schema import options_in, options_of
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.sampling.spacing import fixes_num_steps
from diffusion_jax.sampling.spacing.automatic import resolve_spacing

# Settings that are None unless in use.
OPTIONAL = (
    "guidance_low",
    "guidance_high",
    "guidance_rescale",
    "autoguidance",
    "autoguidance_checkpoint",
    "classifier",
    "classifier_checkpoint",
    "dynamic_threshold",
)


# Settings in other words -> the field or option that they set.
SHORTHANDS = {"cfg_scale": "guidance", "ddim_scale": "eta"}


def with_field_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Converts cfg_scale = 1 + w to guidance, and ddim_scale = eta^2 to eta.

    Raises ValueError for both of a pair, and for a value that is not a number in its range.
    """
    settings = dict(settings)
    for name, field in SHORTHANDS.items():
        if name not in settings:
            continue
        if settings.get(field) is not None:
            raise ValueError(f"--{field} and --{name} were both given; choose one")
        value = settings.pop(name)
        if not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name}={value!r} must be a number of at least 0")
        settings[field] = value - 1 if name == "cfg_scale" else math.sqrt(value)
    return settings


def option_names() -> set[str]:
    """Returns the names of the options of all solvers and spacings."""
    return {name for each in (SOLVERS | SPACINGS).values() for name in options_of(each)}


def change_sampling(
    config: ConfigDict, given: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> None:
    """Changes the fields of config.sampling that are given, that is, not None.

    The text "None" switches a field off. With another solver, clip becomes the default of that
    solver.

    Args:
        options: of the solver or of the spacing; None likewise changes nothing. A text, as typed,
            is converted to the type of the option.

    Raises:
        ValueError: if a stride is given with steps or a spacing, which it replaces; if steps are
            given with a spacing that fixes their number; for an option that neither solver nor
            spacing has.
    """
    sampling = config.sampling
    for name in ("steps", "spacing"):
        if given.get(name) is None:
            continue
        if given.get("stride") is not None:
            raise ValueError(f"{name} and stride were both given; choose one")
        sampling.stride = None
    solver = given.get("solver")
    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"Unknown solver {solver!r}; known solvers: {', '.join(SOLVERS)}")
    if solver not in (None, sampling.solver) and given.get("clip") is None:
        sampling.clip = SOLVERS[solver]().conventions.clip
    for name, value in given.items():
        if value is None:
            continue
        try:
            sampling[name] = None if value == "None" else value
        except TypeError:
            kind = type(sampling[name]).__name__
            raise ValueError(f"{name}={value!r} must be of type {kind}") from None
    if given.get("classifier_scale") is not None and not sampling.classifier:
        raise ValueError(
            f"classifier_scale={given['classifier_scale']} was given without a classifier; add "
            "--classifier=WORKDIR"
        )
    scale = given.get("guidance")
    if scale and not (config.model.num_classes or sampling.autoguidance):
        raise ValueError(
            f"guidance={scale} was given, but the model has no classes to be guided to; leave it "
            "out, or guide by a weaker run with --autoguidance=WORKDIR"
        )
    _set_options(config, options or {})
    own = options_in(sampling, sampling.spacing)
    if given.get("steps") is not None and fixes_num_steps(sampling.spacing, **own):
        instead = ", or add --option interpolate=true" if "interpolate" in own else ""
        raise ValueError(
            f"--steps was given, but spacing={sampling.spacing} has its own number of steps. Leave "
            f"out --steps, choose another --spacing{instead}"
        )


def _spacing_in_use(config: ConfigDict) -> str:
    sampling = config.sampling
    return resolve_spacing(sampling.spacing, sampling.solver, config.schedule.name)


def _with_options(config: ConfigDict) -> list[str]:
    """Returns the names whose options are in use; a stride replaces the spacing."""
    spacing = [] if config.sampling.stride else [_spacing_in_use(config)]
    return [config.sampling.solver, *spacing]


def _set_options(config: ConfigDict, options: Mapping[str, Any]) -> None:
    sampling = config.sampling
    known = {place: options_in(sampling, place) for place in _with_options(config)}
    for name, value in options.items():
        if value is None:
            continue
        place = next((place for place, own in known.items() if name in own), None)
        if place is None:
            solver, *spacing = (
                f"{place} does not have; its options: {', '.join(own) or 'none'}"
                for place, own in known.items()
            )
            raise ValueError(
                f"{name}={value} was given, which the solver {solver}"
                + "".join(f", and which the spacing {text}" for text in spacing)
            )
        sampling[place][name] = convert_option(known[place][name], name, value)


def convert_option(default: Any, name: str, value: Any) -> Any:
    """Converts a value, or its text, to the type of the option's default.

    An option whose default is None takes a number. Raises ValueError if there is no such value.
    """
    try:
        if value is None or str(value) == "None":
            return None
        if isinstance(default, bool):
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(default, tuple):
            given = ast.literal_eval(value) if isinstance(value, str) else value
            return tuple(given) if isinstance(given, tuple | list) else (given,)
        return float(value) if default is None else type(default)(value)
    except (KeyError, ValueError, SyntaxError, TypeError):
        kinds = {bool: "true or false", tuple: "numbers such as 5,1", type(None): "a number"}
        wanted = kinds.get(type(default), f"of type {type(default).__name__}")
        raise ValueError(f"The option {name}={value} must be {wanted}") from None


def settings_in_use(experiment: Experiment) -> dict[str, Any]:
    """Returns the settings that decide how images are sampled, and the options in use, flat.

    steps: of the sampling schedule, also where a stride or the spacing decides. spacing: the one
    that "auto" stands for.
    """
    sampling = experiment.config.sampling
    names = ("solver", "steps", "stride", "spacing", "guidance", "clip")
    chosen = {name: sampling[name] for name in names}
    chosen["steps"] = experiment.sampling.sampling_schedule.num_steps
    chosen["spacing"] = _spacing_in_use(experiment.config)
    chosen |= {name: sampling[name] for name in OPTIONAL if sampling[name] is not None}
    if sampling.classifier:
        chosen["classifier_scale"] = sampling.classifier_scale
    for name in _with_options(experiment.config):
        chosen |= options_in(sampling, name)
    return chosen


def changed_options(config: ConfigDict) -> dict[str, Any]:
    """Returns the options in use, of solver and spacing, that differ from their defaults."""
    changed = {}
    for name in _with_options(config):
        defaults = options_of((SOLVERS | SPACINGS)[name])
        given = options_in(config.sampling, name)
        changed |= {option: value for option, value in given.items() if value != defaults[option]}
    return changed
