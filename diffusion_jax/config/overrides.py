"""The sampling settings of a run's config, and changes of them from flags or calls."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.config import build
from diffusion_jax.config.schema import options_in, options_of
from diffusion_jax.sampling import SOLVERS, SPACINGS
from diffusion_jax.sampling.spacing import fixes_num_steps

# Settings that do nothing unless they are given; "" and 0 are off.
OFF_AT_ZERO = (
    "guidance_low",
    "guidance_high",
    "guidance_rescale",
    "autoguidance",
    "autoguidance_checkpoint",
    "classifier",
    "classifier_checkpoint",
    "dynamic_threshold",
)


def change(
    config: ConfigDict, given: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> None:
    """Changes the fields of config.sampling that are given, that is, not None.

    options: of the solver or of the spacing, likewise. With another solver, clip becomes that one's
    own default. An option may be a text, as typed. Raises ValueError if a stride is given with
    steps or a spacing, which it takes the place of; if steps are given with a spacing that has its
    own number of them; and for an option that neither solver nor spacing has.
    """
    sampling = config.sampling
    for name in ("steps", "spacing"):
        if given.get(name) is None:
            continue
        if given.get("stride") is not None:
            raise ValueError(f"{name} and stride were both given; choose one")
        sampling.stride = 0
    solver = given.get("solver")
    if solver is not None and solver not in SOLVERS:
        raise ValueError(f"Unknown solver {solver!r}; known solvers: {', '.join(SOLVERS)}")
    if solver not in (None, sampling.solver) and given.get("clip") is None:
        sampling.clip = SOLVERS[solver]().conventions.clip
    for name, value in given.items():
        if value is None:
            continue
        try:
            sampling[name] = value
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
    _set_options(sampling, options or {})
    own = options_in(sampling, sampling.spacing)
    if given.get("steps") is not None and fixes_num_steps(sampling.spacing, **own):
        instead = ", or add --option interpolate=true" if "interpolate" in own else ""
        raise ValueError(
            f"--steps was given, but spacing={sampling.spacing} has its own number of steps. Leave "
            f"out --steps, choose another --spacing{instead}"
        )


def _with_options(sampling: ConfigDict) -> list[str]:
    """The names whose options are in use; a stride takes the place of the spacing."""
    return [sampling.solver] if sampling.stride else [sampling.solver, sampling.spacing]


def _set_options(sampling: ConfigDict, options: Mapping[str, Any]) -> None:
    known = {place: options_in(sampling, place) for place in _with_options(sampling)}
    for name, value in options.items():
        if value is None:
            continue
        place = next((place for place, own in known.items() if name in own), None)
        if place is None:
            solver, *spacing = (
                f"{place} does not know; its options: {', '.join(own) or 'none'}"
                for place, own in known.items()
            )
            raise ValueError(
                f"{name}={value} was given, which the solver {solver}"
                + "".join(f", and which the spacing {text}" for text in spacing)
            )
        sampling[place][name] = like(known[place][name], name, value)


def like(default: Any, name: str, value: Any) -> Any:
    """The value in the type of the option's default. Raises ValueError if it has none in it."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[str(value).lower()]
        return type(default)(value)
    except (KeyError, ValueError):
        wanted = (
            "true or false" if isinstance(default, bool) else f"of type {type(default).__name__}"
        )
        raise ValueError(f"The option {name}={value} must be {wanted}") from None


def in_use(config: ConfigDict) -> dict[str, Any]:
    """What decides how images are drawn: settings, and the options of what they name, flat.

    steps: how many steps the path has, also where a stride or the spacing decides. The config must
    be valid.
    """
    sampling = config.sampling
    names = ("solver", "steps", "stride", "spacing", "guidance", "clip")
    chosen = {name: sampling[name] for name in names}
    chosen["steps"] = build.make_sampling_path(config).num_steps
    chosen |= {name: sampling[name] for name in OFF_AT_ZERO if sampling[name]}
    if sampling.classifier:
        chosen["classifier_scale"] = sampling.classifier_scale
    for name in _with_options(sampling):
        chosen |= options_in(sampling, name)
    return chosen


def changed_options(config: ConfigDict) -> dict[str, Any]:
    """The options in use, of solver and spacing, that differ from their defaults."""
    changed = {}
    for name in _with_options(config.sampling):
        defaults = options_of((SOLVERS | SPACINGS)[name])
        given = options_in(config.sampling, name)
        changed |= {option: value for option, value in given.items() if value != defaults[option]}
    return changed
