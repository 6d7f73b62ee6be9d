"""The sampling settings of a run's config, and changes of them from flags or calls."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.runs.sections import options_in, options_of
from diffusion_jax.sampling import SOLVERS

# Settings that do nothing unless they are given; "" and 0 are off.
OFF_AT_ZERO = (
    "guidance_low",
    "guidance_high",
    "guidance_rescale",
    "autoguidance",
    "autoguidance_checkpoint",
    "dynamic_threshold",
)


def change(
    config: ConfigDict, given: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> None:
    """Changes the fields of config.sampling that are given, that is, not None.

    options: of the solver, likewise. With another solver, clip becomes that one's own default.
    An option may be a text, as typed. Raises ValueError if a stride is given with steps or a
    spacing, which it takes the place of, and for an option that the solver does not have.
    """
    sampling = config.sampling
    for name in ("steps", "spacing"):
        if given.get(name) is None:
            continue
        if given.get("stride") is not None:
            raise ValueError(f"--{name} and --stride were both given; choose one")
        sampling.stride = 0
    solver = given.get("solver")
    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"Unknown solver {solver!r}; known solvers: {', '.join(SOLVERS)}")
    if solver not in (None, sampling.solver) and given.get("clip") is None:
        sampling.clip = SOLVERS[solver]().conventions.clip
    sampling.update({name: value for name, value in given.items() if value is not None})
    known = options_in(sampling, sampling.solver)
    for name, value in (options or {}).items():
        if value is None:
            continue
        if name not in known:
            raise ValueError(
                f"{name}={value} was given, which the solver {sampling.solver} does not know; its "
                f"options: {', '.join(known) or 'none'}"
            )
        sampling[sampling.solver][name] = like(known[name], name, value)


def like(default: Any, name: str, value: Any) -> Any:
    """The value in the type of the option's default. Raises ValueError if it has none in it."""
    if isinstance(default, bool) and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    try:
        return type(default)(value)
    except ValueError:
        wanted = type(default).__name__
        raise ValueError(f"The solver's option {name}={value} must be of type {wanted}") from None


def in_use(config: ConfigDict) -> dict[str, Any]:
    """What decides how images are drawn: settings, and the options of what they name, flat."""
    sampling = config.sampling
    names = ("solver", "steps", "stride", "spacing", "guidance", "clip")
    chosen = {name: sampling[name] for name in names}
    chosen |= {name: sampling[name] for name in OFF_AT_ZERO if sampling[name]}
    for name in (sampling.solver, sampling.spacing):
        chosen |= options_in(sampling, name)
    return chosen


def changed_options(config: ConfigDict) -> dict[str, Any]:
    """The options of the solver that differ from its defaults."""
    name = config.sampling.solver
    defaults = options_of(SOLVERS[name])
    given = options_in(config.sampling, name)
    return {option: value for option, value in given.items() if value != defaults[option]}
