"""The sampling settings of a run's config, and changes of them from flags or calls."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax.runs.sections import options_in
from diffusion_jax.sampling import SOLVERS


def change(
    config: ConfigDict, given: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> None:
    """Changes the fields of config.sampling that are given, that is, not None.

    options: of the solver, likewise. With another solver, clip becomes that one's own default.
    Raises ValueError if both steps and stride are given, and for an option that the solver does not
    have.
    """
    sampling = config.sampling
    if given.get("steps") is not None and given.get("stride") is not None:
        raise ValueError("--steps and --stride were both given; choose one")
    if given.get("steps") is not None:
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
        sampling[sampling.solver][name] = value


def in_use(config: ConfigDict) -> dict[str, Any]:
    """What decides how images are drawn: settings, and the options of what they name, flat."""
    sampling = config.sampling
    names = ("solver", "steps", "stride", "spacing", "guidance", "clip")
    chosen = {name: sampling[name] for name in names}
    for name in (sampling.solver, sampling.spacing):
        chosen |= options_in(sampling, name)
    return chosen
