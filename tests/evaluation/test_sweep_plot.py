"""Plot of a sweep: its axes, legend and error bars."""

import itertools
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from diffusion_jax.evaluation import sweep_plot, sweep_table

SETTINGS = ("checkpoint", "solver", "steps", "stride", "eta", "guidance", "options")
SETTINGS += ("evaluations", "seed")


def solver_rows(**lists):
    """Rows of a sweep: DDIM with an FD of 8 / steps + guidance + seed, and Heun with half of it."""
    lists = {"solver": ["ddim"], "steps": [20], "guidance": [0.0], "seed": [0], **lists}
    rows = []
    for values in itertools.product(*lists.values()):
        row = {"checkpoint": 2000, "stride": "", "options": "", **dict(zip(lists, values))}
        heun = row["solver"] == "heun"
        row.setdefault("eta", "" if heun else 0.0)
        row["evaluations"] = 2 * row["steps"] - 1 if heun else row["steps"]
        value = 8 / row["steps"] + row["guidance"] + row["seed"]
        rows.append({**row, "FD": value / 2 if heun else value})
    return rows


def plotted(rows, x=None):
    """Returns the axes of a plot, and the points and error bars of each line."""
    figure = sweep_plot.figure(rows, SETTINGS, "FD", x)
    (axes,) = figure.axes
    bars, labels = axes.get_legend_handles_labels()
    lines = {}
    for bar, label in zip(bars, labels):
        places, means = bar[0].get_data()
        ends = [[y for _, y in segment] for c in bar[2] for segment in c.get_segments()]
        lines[label] = [list(map(float, row)) for row in (places, means)], ends
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    return axes, lines


def test_the_axis_of_a_sweep_over_steps_is_network_evaluations():
    """Each solver is a line. Error bars go from mean - deviation to mean + deviation."""
    rows = solver_rows(solver=["ddim", "heun"], steps=[20, 10, 50], seed=[0, 1, 2])
    axes, lines = plotted(rows)
    assert axes.get_xlabel() == "network evaluations per image"
    assert axes.get_ylabel() == "FD (mean and standard deviation of 3 seeds)"
    assert lines.keys() == {"solver ddim", "solver heun"}
    (places, means), ends = lines["solver ddim"]
    assert places == [10, 20, 50]
    assert_allclose(means, [1.8, 1.4, 1.16])
    assert_allclose(ends, [[0.8, 2.8], [0.4, 2.4], [0.16, 2.16]])
    (places, means), ends = lines["solver heun"]
    assert places == [19, 39, 99]
    assert_allclose(means, [0.9, 0.7, 0.58])
    assert_allclose(ends, [[0.4, 1.4], [0.2, 1.2], [0.08, 1.08]])
    assert axes.get_xscale() == "log"


def test_few_evaluations_have_a_linear_axis_and_one_seed_no_error_bars():
    axes, lines = plotted(solver_rows(steps=[10, 20, 50]))
    assert axes.get_xscale() == "linear"
    assert axes.get_ylabel() == "FD"
    assert lines == {"FD": ([[10, 20, 50], [0.8, 0.4, 0.16]], [])}


@pytest.mark.parametrize(
    ("lists", "x", "label", "names"),
    [
        (
            {"checkpoint": [1, 2], "steps": [5, 9]},
            None,
            "checkpoint (step)",
            ["steps 5", "steps 9"],
        ),
        (
            {"steps": [5, 9], "guidance": [0.0, 1.0]},
            None,
            "network evaluations per image",
            ["guidance 0", "guidance 1"],
        ),
        ({"guidance": [0.0, 1.0], "eta": [0.0, 0.5]}, None, "guidance", ["eta 0", "eta 0.5"]),
        ({"eta": [0.0, 0.5]}, None, "eta", ["FD"]),
        ({"seed": [0, 1]}, None, "checkpoint (step)", ["FD"]),
        ({"steps": [5, 9]}, "steps", "sampling steps", ["FD"]),
        ({"steps": [5, 9], "eta": [0.0, 1.0]}, "eta", "eta", ["steps 5", "steps 9"]),
        (
            {"solver": ["ddim", "heun"], "eta": [""], "options": ["", "order=2"], "steps": [5, 9]},
            None,
            "network evaluations per image",
            [
                "solver ddim",
                "solver ddim, options order=2",
                "solver heun",
                "solver heun, options order=2",
            ],
        ),
    ],
)
def test_the_axis_is_the_first_varying_setting_and_the_legend_has_the_others(
    lists, x, label, names
):
    axes, lines = plotted(solver_rows(**lists), x)
    assert axes.get_xlabel() == label
    assert list(lines) == names


def test_runs_that_differ_in_several_settings_are_lines():
    """The checkpoint is no axis, because no two rows differ in it alone."""
    one, other = solver_rows(guidance=[0.0, 1.0]), solver_rows(guidance=[0.0, 1.0], steps=[50])
    rows = one + [{**row, "checkpoint": 3000} for row in other]
    axes, lines = plotted(rows)
    assert axes.get_xlabel() == "guidance"
    assert list(lines) == ["checkpoint 2000, steps 20", "checkpoint 3000, steps 50"]


def test_solvers_are_side_by_side():
    axes, lines = plotted(solver_rows(solver=["heun", "ddim"], seed=[0, 2]))
    assert axes.get_xlabel() == "solver"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["heun", "ddim"]
    (((places, means), _),) = lines.values()
    assert (places, means) == ([0, 1], [0.7, 1.4])


def test_an_unknown_axis_or_kind_of_picture_is_rejected():
    with pytest.raises(ValueError, match="--x=sampler must be one of checkpoint, evaluations, gui"):
        sweep_plot.check("sampler", None)
    with pytest.raises(ValueError, match=r"--plot=fd.jpg must end in one of \.png, \.pdf, \.svg"):
        sweep_plot.check(None, Path("fd.jpg"))
    sweep_plot.check("eta", Path("fd.svg"))


def test_the_picture_is_written_to_the_given_path(tmp_path):
    picture = tmp_path / "new" / "fd.pdf"
    written = sweep_table.write(
        tmp_path, solver_rows(steps=[5, 9]), SETTINGS, "FD", picture=picture
    )
    assert written[-1] == picture
    assert picture.read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "FD.png").exists()
