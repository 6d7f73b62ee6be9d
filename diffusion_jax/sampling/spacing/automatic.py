"""Choice of a spacing by measurements, for each schedule and solver; see docs/solvers.md."""

AUTO = "auto"

# By schedule and solver, of which "" stands for all others. A multi-step solver is a polynomial in
# log SNR, and fails in the last step of a chain that visits its first step, which is long in it.
# `log_snr` has no such step, and `trailing` a shorter one.
BEST: dict[str, dict[str, str]] = {
    "cosine": {"": "trailing", "original": "ends"},
    "linear": {
        "": "log_snr",
        **dict.fromkeys(("ddim", "euler", "euler_ancestral", "ddpm"), "quadratic"),
        **dict.fromkeys(("heun", "dpmpp_2s", "pndm"), "quadratic"),
        "original": "ends",
    },
    "flow": {"": "ends"},
    "continuous_cosine": {"": "ends"},
    "edm": {"": "log_snr", **dict.fromkeys(("heun", "pndm", "original"), "ends")},
}


def resolve_spacing(spacing: str, solver: str, schedule: str) -> str:
    """Returns the spacing, or for "auto" the best one for this solver and schedule, by name.

    Schedules that were not measured have `ends`.
    """
    if spacing != AUTO:
        return spacing
    by_solver = BEST.get(schedule, {"": "ends"})
    return by_solver.get(solver, by_solver[""])
