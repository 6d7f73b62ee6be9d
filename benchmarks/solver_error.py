"""How far from the data does each solver end, with so many evaluations of the denoiser?

The data are a mixture of normal distributions, see `benchmarks/mixture.py`: no network and no
training. All solvers of the table `SOLVERS` are tried, with their default options, each with as
many steps as the evaluations allow.

    python -m benchmarks.solver_error --plot docs/solver_error.png
"""

from absl import flags

from scripts import cli

_EVALUATIONS = flags.DEFINE_list("evaluations", "5,10,20,50,100", "Most evaluations of a column.")
_PLOT = flags.DEFINE_string("plot", None, "PNG to draw the tables to.")

# (schedule, spacing) of the tables.
PATHS = [("cosine", "ends"), ("edm", "karras")]
IMAGES = 16  # of 4,096 values each


def main() -> None:
    from benchmarks.mixture import distances
    from diffusion_jax.diffusion.schedules import make_schedule
    from diffusion_jax.sampling import SOLVERS, make_path

    budgets = [int(count) for count in _EVALUATIONS.value]
    tables = {}
    for name, spacing in PATHS:
        schedule, rows = make_schedule(name), {}
        for solver_name, make in SOLVERS.items():
            solver = make()
            steps = steps_within(solver, budgets)
            rows[solver_name] = [
                distances(solver, make_path(schedule, steps=n, spacing=spacing), schedule, IMAGES)
                if n
                else None
                for n in steps
            ]
        tables[name, spacing] = rows
        print(f"\n`{name}`, spacing `{spacing}`\n\n{table(rows, budgets)}")
    if _PLOT.value:
        plot(tables, budgets, _PLOT.value)


def steps_within(solver, budgets: list[int]) -> list[int]:
    """The most steps that take at most so many evaluations, or 0, for each budget."""
