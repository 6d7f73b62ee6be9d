"""Distance of each solver's samples from the data, by spacing.

The data are the mixture of `benchmarks/mixture.py`. A row is a schedule and a solver. A number is
the geometric mean of the distances with 5, 10 and 20 evaluations of the denoiser.
`sampling.spacing=auto` follows from it and from measurements of trained models; see
`diffusion_jax/sampling/spacing/automatic.py`.

    python -m benchmarks.spacing_error
"""

import math

from benchmarks.solver_error import error, steps_within
from scripts.cli import app

EVALUATIONS = [5, 10, 20]  # at most
SPACINGS = ("ends", "trailing", "karras", "log_snr", "quadratic")
# Special cases of others are left out.
SOLVERS = ["ddim", "ddpm", "heun", "dpmpp_2s", "dpmpp_2m", "dpmpp_sde_2m", "dpmpp_3m", "unipc"]
SOLVERS += ["pndm"]


def main() -> None:
    from diffusion_jax.diffusion.schedules import SCHEDULES
    from diffusion_jax.sampling import SOLVERS as MAKE
    from diffusion_jax.sampling.spacing.automatic import AUTO, resolve_spacing

    made = {name: MAKE[name]() for name in SOLVERS}
    counts = {name: steps_within(solver, EVALUATIONS) for name, solver in made.items()}
    print(f"| schedule | solver | {' | '.join(SPACINGS)} | auto |")
    print("|---" * (len(SPACINGS) + 3) + "|")
    for schedule in SCHEDULES:
        for name in SOLVERS:
            row = [mean_error(made[name], schedule, spacing, counts[name]) for spacing in SPACINGS]
            best = resolve_spacing(AUTO, name, schedule)
            print(f"| `{schedule}` | `{name}` | {' | '.join(row)} | `{best}` |", flush=True)


def mean_error(solver: object, schedule: str, spacing: str, counts: list[int]) -> str:
    """Formats the geometric mean of the distances; a spacing that does not exist is empty."""
    try:
        errors = [error(solver, schedule, spacing, count) for count in counts]
    except ValueError:
        return ""
    return f"{math.exp(sum(map(math.log, errors)) / len(errors)):.3f}"


if __name__ == "__main__":
    app.run(main)
