"""Distance of each solver's samples from the data, by number of denoiser evaluations.

The data are a mixture of Gaussians, see `benchmarks/mixture.py`; there is no network and no
training. Each solver of the table `SOLVERS` runs with its default options and as many steps as the
evaluations allow.

    python -m benchmarks.solver_error --plot docs/solver_error.png
"""

from dataclasses import replace

from absl import flags

from scripts.cli import app

_EVALUATIONS = flags.DEFINE_list("evaluations", "5,10,20,50,100", "Most evaluations, per column.")
_PLOT = flags.DEFINE_string("plot", None, "PNG file for a plot of the tables.")

# (schedule, spacing) of the tables.
SAMPLING_SCHEDULES = [("flow", "ends"), ("cosine", "ends"), ("edm", "karras")]
IMAGES = 4  # of 4,096 values each

# Rows by solver, each with the error in every column; None if no step fits.
Table = dict[str, list[float | None]]


def main() -> None:
    from diffusion_jax.sampling import SOLVERS

    budgets = [int(count) for count in _EVALUATIONS.value]
    tables: dict[str, Table] = {f"{name}, {spacing}": {} for name, spacing in SAMPLING_SCHEDULES}
    for solver_name, make in SOLVERS.items():
        solver = make()
        counts = steps_within(solver, budgets)
        for (name, spacing), rows in zip(SAMPLING_SCHEDULES, tables.values()):
            rows[solver_name] = [error(solver, name, spacing, n) if n else None for n in counts]
    for title, rows in tables.items():
        print(f"\n{title}\n\n{markdown(rows, budgets)}")
    if _PLOT.value:
        plot(tables, budgets, _PLOT.value)


def error(solver: object, name: str, spacing: str, steps: int) -> float:
    """Computes the distance of the quantiles, for a sampling schedule of this schedule."""
    from benchmarks.mixture import distances
    from diffusion_jax.diffusion.schedules import make_schedule
    from diffusion_jax.sampling import make_sampling_schedule

    schedule = make_schedule(name)
    return distances(
        solver, make_sampling_schedule(schedule, steps=steps, spacing=spacing), schedule, IMAGES
    )[0]


def steps_within(solver: object, budgets: list[int]) -> list[int]:
    """Returns the largest number of steps, or 0, within each budget of evaluations.

    After the first steps, each step takes the same number of evaluations.
    """
    few, more = evaluations(solver, 6), evaluations(solver, 12)
    per_step = (more - few) / 6
    return [max(0, int((budget - few) / per_step + 6)) for budget in budgets]


def evaluations(solver: object, steps: int) -> int:
    """Counts the denoiser evaluations of a solver in this number of steps."""
    import jax

    from benchmarks import mixture
    from diffusion_jax.diffusion.schedules import make_schedule
    from diffusion_jax.sampling import make_sampling_schedule

    evaluated = []

    def counted(solver: object) -> object:
        def step(denoiser: object, *rest: object) -> object:
            def counting(x: object, level: object) -> object:
                evaluated.append(level)
                return denoiser(x, level)

            return solver.step(counting, *rest)

        return replace(solver, step=step)

    schedule = make_schedule("flow")
    with jax.disable_jit():
        sampling_schedule = make_sampling_schedule(schedule, steps=steps)
        x = jax.numpy.zeros((1, 1, 1, 1))
        mixture.sample(counted(solver), sampling_schedule, schedule, x)
    return len(evaluated)


def markdown(rows: Table, budgets: list[int]) -> str:
    """Formats the table as Markdown."""
    lines = [["solver", *map(str, budgets)], ["---"] * (len(budgets) + 1)]
    for name, row in rows.items():
        lines.append([f"`{name}`", *("" if error is None else f"{error:.4f}" for error in row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(tables: dict[str, Table], budgets: list[int], file: str) -> None:
    """Writes a PNG with one panel for each table."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    figure, panels = plt.subplots(1, len(tables), figsize=(11, 3.8), sharey=True)
    for panel, (title, rows) in zip(panels, tables.items()):
        for place, (name, row) in enumerate(rows.items()):
            known = [(n, error) for n, error in zip(budgets, row) if error is not None]
            style = ("o-", "s--", "^:")[place // 7]
            panel.loglog(*zip(*known), style, color=f"C{place % 7}", markersize=4, label=name)
        panel.set(title=title, xlabel="evaluations", xticks=budgets, xticklabels=budgets)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("distance to the data")
    panels[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    app.run(main)
