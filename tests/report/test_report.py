"""Reports of runs, parsed as a browser parses them. Workdirs are written by hand."""

import base64
import hashlib
import io
import json
import re
import shutil
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from forks import run_each
from numpy.testing import assert_allclose
from PIL import Image
from tiny import tiny_config, tiny_transformer_config, train

from configs import base
from diffusion_jax import images, report
from diffusion_jax.data.cache import Description
from diffusion_jax.data.cache_writer import CacheWriter
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.report import curve_plot, embedded_picture
from diffusion_jax.report.curve_plot import Curve
from diffusion_jax.report.environment import Environment
from diffusion_jax.report.html import element
from diffusion_jax.report.suggested_commands import commands_of
from diffusion_jax.runs.run import load
from diffusion_jax.workdir.run_files import save_classes, save_config

HERE = Environment([("Python", "3.11.0"), ("host", "writer")], datetime(2026, 1, 2, tzinfo=UTC))
DIGITS = [str(digit) for digit in range(10)]
VOID = {"meta", "img", "input", "br", "link"}
ATTACK = "<script>alert(1)</script>"
QUOTED = "\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """A parsed page.

    elements: (tag, attributes, tags and classes of all parents). sections: text by title.
    tables: rows of all tables of a section, by its title. text: of the whole page.
    """

    def __init__(self, page):
        super().__init__()
        self.elements, self.tables, self.sections = [], {}, {}
        self.text, self.scripts, self.styles = "", [], []
        self._open, self._title = [], ""
        self.feed(page)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        around = [name for tag, classes in self._open for name in (tag, *classes)]
        self.elements.append((tag, attributes, around))
        if tag not in VOID:
            self._open.append((tag, (attributes.get("class") or "").split()))
        if tag == "h2":
            self._title = ""
        elif tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if "script" in tags:
            self.scripts.append(data)
        elif "style" in tags:
            self.styles.append(data)
        else:
            self.text += data
            if "h2" in tags:
                self._title += data
            self.sections[self._title] = self.sections.get(self._title, "") + data
            if tags and "tr" in tags:
                self.tables[self._title][-1][-1] += data

    def pictures(self, parent):
        """Returns (attributes of the figure, bytes of the picture) for pictures inside `parent`."""
        found, figure = [], {}
        for tag, attributes, around in self.elements:
            if tag == "figure":
                figure = attributes
            if tag == "img" and parent in around:
                kind, _, content = attributes["src"].partition(";base64,")
                assert kind in ("data:image/png", "data:image/webp")
                found.append((figure, base64.b64decode(content)))
        return found


def write_run(workdir, config=None, *, names=DIGITS, metrics=(), samples=()):
    """Writes a workdir as training does. samples: steps of the grids, each in another gray."""
    (workdir / "samples").mkdir(parents=True)
    save_config(config or tiny_config(), workdir)
    save_classes(names, workdir)
    lines = [json.dumps({"step": step, **values}) for step, values in metrics]
    (workdir / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    for step in samples:
        grid = np.full((6, 4, 1), step % 256, np.uint8)
        images.save_png(workdir / "samples" / f"step_{step:07d}.png", grid)
    (workdir / "parameters.txt").write_text("| a |\nTotal: 12,345 -- 49,380 bytes\n")
    (workdir / "tensorboard").mkdir()
    (workdir / "tensorboard" / "events.out.tfevents.1700000000.node-7.example").touch()
    return workdir


def write_result(workdir, name, *, of=None, note=None, fd=1.5, seed=0):
    folder = workdir / "evaluations"
    folder.mkdir(exist_ok=True)
    sampling = {"solver": "heun", "steps": 9, "guidance": 0.0, "spacing": "ends"}
    about = {"workdir": str(of or workdir), "checkpoint": 40, "seed": seed, "sampling": sampling}
    result = {"metrics": {"FD": fd}, "num_samples": 77, "images": about, "features": {}}
    result |= {"note": note} if note else {}
    (folder / f"result-{name}.json").write_text(json.dumps(result))


def gathered(workdir, **options):
    return report.read_run(workdir, base.get_config(), **options)


def page_of(workdir):
    return Page(report.run_page(gathered(workdir), HERE))


def compared(*workdirs):
    found = [gathered(workdir, most_samples=1, show_data=False) for workdir in workdirs]
    return Page(report.comparison_page(found, HERE))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    metrics = [(step, {"loss": 1 / step, "vlb": 0.5, "learning_rate": 0.1}) for step in (20, 40)]
    config = tiny_config(steps=80, init_from="https://example.org/run")
    workdir = tmp_path_factory.mktemp("runs") / "one"
    write_run(workdir, config, metrics=metrics, samples=[40, 9, 20])
    write_result(workdir, "a", seed=1, fd=2.25)
    write_result(workdir, "b", seed=0)
    plot = np.zeros((30, 50, 3), np.uint8)
    images.save_png(workdir / "evaluations" / "FD.png", plot)
    recorded = {"name": "digits", "count": 1797, "fingerprint": "abc", "origin": {"files": "here"}}
    (workdir / "dataset.json").write_text(json.dumps(recorded))
    return workdir


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_the_page_loads_nothing_from_outside(run, page):
    for tag, attributes, _ in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
                assert value.startswith(("data:image/", "#")), (tag, name, value)
            assert not name.startswith("on")
            assert re.findall(r"url\((?!#)", value or "") == []
            assert "//" not in (value or "") or name == "src", (tag, name, value)
    assert "example.org" in page.text
    assert not any(re.search(r"url\(|@import|//", style) for style in page.styles)
    # The same holds for the comparison.
    assert not re.search(r"(src|href)=.https?:", compared(run, run).rawdata)


def test_the_policy_allows_the_pages_own_script_only(page):
    (policy,) = [a["content"] for tag, a, _ in page.elements if a.get("http-equiv")]
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_the_headline_has_steps_parameters_start_and_loss(page):
    head = page.sections[""]
    assert "40 of 80 (50%)" in head
    assert "12,345" in head
    assert "2023-11-14 22:13 UTC" in head  # 1700000000 seconds after 1970
    assert "0.025 at step 40" in head


def test_the_slider_has_all_sample_grids_from_first_to_last(run, page):
    (slider,) = [a for _, a, around in page.elements if a.get("type") == "range"]
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2")
    pictures = page.pictures("slider")
    files = sorted((run / "samples").iterdir())
    assert [content for _, content in pictures] == [path.read_bytes() for path in files]
    assert ["hidden" in figure for figure, _ in pictures] == [True, True, False]
    assert re.findall(r"step (\d+)", page.sections["Samples over training"]) == ["9", "20", "40"]


def test_of_100_grids_40_evenly_spaced_ones_are_shown(tmp_path):
    page = page_of(write_run(tmp_path / "run", samples=range(1, 101)))
    shown = [int(step) for step in re.findall(r"step (\d+)", page.text)]
    assert len(page.pictures("slider")) == len(shown) == 40
    assert (shown[0], shown[-1]) == (1, 100)
    assert set(np.diff(shown)) == {2, 3}
    assert "40 of 100 grids" in page.sections["Samples over training"]


def test_large_pictures_are_scaled_down_and_their_captions_mention_it(tmp_path):
    workdir = write_run(tmp_path / "run", samples=[1])
    wide = np.zeros((200, 2000, 3), np.uint8)
    images.save_png(workdir / "samples" / "step_0000002.png", wide)
    page = page_of(workdir)
    (_, small), (_, scaled) = page.pictures("slider")
    assert Image.open(io.BytesIO(small)).size == (4, 6)
    assert Image.open(io.BytesIO(scaled)).size == (1600, 160)
    assert "step 2 (scaled down from 2000x200 pixels)" in page.text


def test_embedded_pictures_stay_below_their_size_limit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    images.save_png(tmp_path / "noise.png", noise)
    for most in (10**6, 200_000, 20_000):
        shot = embedded_picture.embed_file(tmp_path / "noise.png", most)
        content = base64.b64decode(shot.uri.partition(",")[2])
        assert len(content) <= most
        assert Image.open(io.BytesIO(content)).size == (shot.width, shot.height)
        assert (
            shot.change
            == {
                10**6: "",
                200_000: "compressed",
                20_000: "compressed and scaled down from 400x400 pixels",
            }[most]
        )


def test_the_config_table_has_exactly_the_fields_that_differ_from_the_base(tmp_path):
    config = base.get_config()
    config.seed = 7
    config.optimizer.learning_rate = 0.5
    config.data.include = "*.png"
    page = page_of(write_run(tmp_path / "run", config))
    assert page.tables["Config"] == [
        ["field", "base", "here"],
        ["data.include", "None", "*.png"],
        ["optimizer.learning_rate", "0.0003", "0.5"],
        ["seed", "0", "7"],
    ]
    whole = page.sections["Config"].partition("The whole config")[2].strip()
    assert json.loads(whole) == json.loads((tmp_path / "run" / "config.json").read_text())


def test_another_network_is_compared_with_its_own_defaults(tmp_path):
    page = page_of(write_run(tmp_path / "run", tiny_transformer_config()))
    of_model = [row for row in page.tables["Config"] if row[0].startswith("model.")]
    assert ["model.name", "unet", "dit"] in of_model
    assert ["model.width", "384", "8"] in of_model
    assert "model.blocks" not in page.text  # which it does not have
    assert "this network's own defaults" in page.text


def test_contents_of_files_are_escaped(tmp_path):
    config = tiny_config(init_from=QUOTED, data__exclude=ATTACK)
    metrics = [(1, {"loss": 1.0, f"</svg>{ATTACK}": 2.0})]
    workdir = write_run(tmp_path / QUOTED.replace("/", ""), config, metrics=metrics, samples=[1])
    (workdir / "classes.txt").write_text(f"{ATTACK}\n{QUOTED}\n")
    (workdir / "dataset.json").write_text(json.dumps({"name": QUOTED, f"{ATTACK}": ATTACK}))
    (workdir / "samples" / "step_0000001.png").rename(workdir / "samples" / "<i onload=a>.png")
    write_result(workdir, "a", note=f"{ATTACK}{QUOTED}", seed=f"{QUOTED}")
    (workdir / "evaluations" / "table.csv").write_text(f"seed,FD\n{ATTACK},1\n")
    (workdir / "evaluations" / "table.md").write_text(f"{QUOTED}\n")
    (workdir / "tensorboard" / "events.out.tfevents.1700000001.<b>host").touch()
    other = write_run(tmp_path / "other", metrics=metrics)
    for page in (page_of(workdir), compared(workdir, other)):
        tags = [tag for tag, _, _ in page.elements]
        assert tags.count("script") == 1
        assert not {"i", "b"} & set(tags) - {"i"}
        assert not any(
            {"onerror", "onload"} & attributes.keys() for _, attributes, _ in page.elements
        )
        assert all(a["src"].startswith("data:") for tag, a, _ in page.elements if tag == "img")
        assert QUOTED in page.text
        assert f"</svg>{ATTACK}" in page.text
        assert "<b>host" in page.text
    assert page_of(workdir).text.count(ATTACK) >= 7


def test_lone_surrogates_can_be_written(tmp_path):
    config = tiny_config(init_from="half \ud800")
    page = report.run_page(gathered(write_run(tmp_path / "run", config)), HERE)
    assert r"half \ud800" in page.encode("utf-8").decode()


def test_attributes_are_escaped_and_left_out_if_none():
    made = element("p", "a<b", title='"x"', hidden=True, lang=None, aria_label="&")
    assert made == '<p title="&quot;x&quot;" hidden aria-label="&amp;">a&lt;b</p>'


def test_evaluations_are_a_table_and_their_plots_are_pictures(run, page):
    assert page.tables["Evaluations"] == [["seed", "FD"], ["0", "1.5"], ["1", "2.25"]]
    same = "checkpoint 40, solver heun, spacing ends, steps 9, guidance 0, images 77."
    assert same in page.sections["Evaluations"]
    plot = (run / "evaluations" / "FD.png").read_bytes()
    assert plot in [content for _, content in page.pictures("plots")]


def test_the_data_section_has_the_record_images_and_a_changed_fingerprint(page):
    text = page.sections["Data"]
    assert "1,797" in text
    assert "origin.fileshere" in text
    assert "6fd4f45cfffa8f95" in text  # of the images on this machine
    _, picture = page.pictures("figure")[0]
    assert Image.open(io.BytesIO(picture)).size[1] == 8 * 33 + 1  # eight rows of digits


def folder_config(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    images.save_png(photos / "a.png", np.zeros((8, 8, 3), np.uint8))
    config = base.get_config()
    config.data.update(name=f"folder:{photos}", resolution=8, cache_dir=str(tmp_path / "cache"))
    return config


def test_data_that_is_not_decoded_yet_is_not_opened(tmp_path):
    page = page_of(write_run(tmp_path / "run", folder_config(tmp_path), names=[]))
    assert str(tmp_path / "cache") in page.sections["Data"].partition("cannot be read")[2]
    assert not (tmp_path / "cache").exists()


def test_decoded_data_is_found_by_its_fingerprint(tmp_path):
    config = folder_config(tmp_path)
    about = Description("folder:photos", "train", (8, 8, 3), [])
    with CacheWriter(tmp_path / "cache" / "photos", about, ["all"], needed=0) as writer:
        writer.write("all", [(np.full((3, 8, 8, 3), 200, np.uint8), np.zeros(3, np.int32))])
        done = writer.finish()
    workdir = write_run(tmp_path / "run", config, names=[])
    (workdir / "dataset.json").write_text(json.dumps(done.provenance()))
    page = page_of(workdir)
    assert "cannot be read" not in page.text
    ((_, picture),) = page.pictures("figure")
    assert (np.asarray(Image.open(io.BytesIO(picture)))[1:33, 1:33] == 200).all()


def path_of(plotted, color):
    """Returns the points of the curve with this color."""
    found = [a for tag, a, _ in plotted.elements if f"stroke: {color}" in (a.get("style") or "")]
    numbers = re.findall(r"[ML] ([\d.]+) ([\d.]+)", found[0]["d"])
    return np.array(numbers, float).T


def test_an_exponential_loss_is_a_straight_line_on_the_logarithmic_axis():
    steps = np.arange(1.0, 8.0)
    falling = Curve("loss", steps, 10.0**-steps)
    bent = Curve("a", steps, np.where(steps % 2 == 0, 1.0, 0.2))
    assert curve_plot.spans_a_decade([falling])
    assert not curve_plot.spans_a_decade([bent])
    assert not curve_plot.spans_a_decade([Curve("x", steps, steps - 1)])  # has a 0
    x, y = path_of(
        Page(curve_plot.svg([falling, bent], "loss", logarithmic=True)), curve_plot.COLORS[0]
    )
    assert_allclose(y, np.polyval(np.polyfit(x, y, 1), x), atol=0.01)
    assert y[-1] - y[0] > 50  # downwards


def test_long_curves_are_plotted_as_local_means():
    steps = np.arange(5000.0)
    thin = curve_plot.thinned(Curve("loss", steps, steps**2))
    assert len(thin.x) == curve_plot.MOST_POINTS
    assert_allclose(thin.x[:2], [2, 7])
    assert_allclose(thin.y[0], (0 + 1 + 4 + 9 + 16) / 5)
    few = Curve("loss", steps[:10], steps[:10])
    assert curve_plot.thinned(few) is few


def test_the_parts_of_the_loss_share_a_plot(page):
    plots = [around for tag, _, around in page.elements if tag == "svg"]
    assert len(plots) == 2
    legends = re.findall(r"loss|vlb|learning_rate", page.sections["Curves"])
    assert legends == ["loss", "vlb", "learning_rate"]


@pytest.mark.parametrize(
    ("lines", "text", "plotted"),
    [
        ("", "There are no metrics yet.", 0),
        ('{"step": 1, "loss": 2}\n{"step": 2, "lo', "1 line of metrics.jsonl cannot be read", 1),
        ('5\n[]\nnull\n{"loss": 1}\n{"step": "a"}\n', "5 lines of metrics.jsonl cannot", 0),
        ('{"step": 1, "loss": NaN, "words": "a", "big": 1e999}\n', "nan at step 1", 2),
    ],
)
def test_unreadable_lines_of_metrics_are_left_out_and_counted(tmp_path, lines, text, plotted):
    workdir = write_run(tmp_path / "run")
    (workdir / "metrics.jsonl").write_text(lines)
    page = page_of(workdir)
    assert text in page.text
    assert [tag for tag, _, _ in page.elements].count("svg") == plotted


def test_unreadable_files_are_named_and_the_others_are_shown(tmp_path):
    workdir = write_run(tmp_path / "run", samples=[1, 2])
    (workdir / "metrics.jsonl").write_bytes(b'\xff\xfe\n{"step": 3, "loss": 1.0}\n')
    (workdir / "samples" / "step_0000003.png").write_bytes(b"no picture")
    write_result(workdir, "good")
    (workdir / "evaluations" / "result-bad.json").write_text("{")
    (workdir / "evaluations" / "result-list.json").write_text("[]")
    (workdir / "evaluations" / "FD.png").write_bytes(b"")
    (workdir / "dataset.json").write_text("[")
    (workdir / "classes.txt").write_bytes(b"\xff\n")
    page = page_of(workdir)
    assert "step_0000003.png cannot be read as a picture" in page.text
    assert len(page.pictures("slider")) == 2
    assert "result-bad.json cannot be read" in page.text
    assert "result-list.json cannot be read" in page.text
    assert "FD.png cannot be read" in page.text
    assert page.tables["Evaluations"][1][-1] == "1.5"
    assert "There is no readable dataset.json" in page.text


def test_the_environment_section_tells_training_and_report_apart(page):
    text = page.sections["Environment"]
    assert "The machine that wrote this report" in text
    assert "writer" in text
    assert page.tables["Environment"][1] == ["one", "2023-11-14 22:13:20 UTC", "node-7.example"]


def test_recorded_environments_come_before_the_reports_own(tmp_path):
    workdir = write_run(tmp_path / "one", tiny_config())
    start = {"step": 3, "started": "2026-01-01 00:00:00 UTC", "jax": "0.9.9", "host": ATTACK}
    (workdir / "environment.json").write_text(json.dumps([start, {"step": 8, "jax": "0.10.2"}]))
    text = page_of(workdir).sections["Environment"]
    assert text.index("0.9.9") < text.index("0.10.2") < text.index("The machine that wrote")
    assert ATTACK in text  # as text
    (workdir / "environment.json").write_text("{")
    assert "0.9.9" not in page_of(workdir).sections["Environment"]


def test_the_commands_of_an_unfinished_run(tmp_path):
    workdir = write_run(tmp_path / "my run", tiny_config(steps=80))
    quoted = f"'{workdir}'"
    commands = [line for lines in commands_of(gathered(workdir)).values() for line in lines]
    reference = f"'{workdir}/reference_pixels.npz'"
    assert commands == [
        f"python -m scripts.train --workdir {quoted}",
        f"python -m scripts.sample --workdir {quoted} --labels all --count 80 --columns 8",
        f"python -m scripts.fid reference --workdir {quoted} --features pixels --out {reference}",
        f"python -m scripts.fid evaluate --workdir {quoted} --reference {reference} "
        "--features pixels",
    ]


def test_the_commands_of_complete_runs_and_classifiers(tmp_path):
    done = tiny_config(steps=4, optimizer__decay_steps=4)
    workdir = write_run(tmp_path / "a", done, metrics=[(4, {"loss": 1.0})])
    (first,) = next(iter(commands_of(gathered(workdir)).values()))
    assert first.endswith("--config.steps=8 --config.optimizer.decay_steps=8")
    classifier = write_run(tmp_path / "b", tiny_config(loss__kind="cross_entropy"))
    assert f"--classifier {classifier}" in str(commands_of(gathered(classifier)))
    assert "scripts.fid" not in str(commands_of(gathered(classifier)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs; the first has evaluations of both and of a third run."""
    parent = tmp_path_factory.mktemp("pair")
    metrics = [(step, {"loss": 1.0 / step, "vlb": 0.1}) for step in (1, 2)]
    a = write_run(parent / "a", tiny_config(seed=1), metrics=metrics, samples=[3, 4])
    changes = {"seed": 2, "optimizer__learning_rate": 0.5, "model__blocks": "res"}
    b = write_run(parent / "b", tiny_config(**changes), metrics=[(1, {"loss": 5.0})], samples=[6])
    write_result(a, "a")
    write_result(a, "b", of=b, fd=8.0)
    write_result(a, "c", of=parent / "c", fd=9.0)
    images.save_png(a / "evaluations" / "FD.png", np.zeros((30, 50, 3), np.uint8))
    return a, b


def test_a_comparison_has_exactly_the_settings_that_differ(pair):
    assert compared(*pair).tables["Settings that differ"] == [
        ["field", "a", "b"],
        ["model.blocks", "res,chnAtn", "res"],
        ["optimizer.learning_rate", "0.001", "0.5"],
        ["seed", "1", "2"],
    ]


def test_fields_that_one_run_lacks_differ(pair, tmp_path):
    other = write_run(tmp_path / "dit", tiny_transformer_config(seed=1))
    rows = compared(pair[0], other).tables["Settings that differ"]
    assert ["model.depth", "—", "1"] in rows
    assert ["model.blocks", "res,chnAtn", "—"] in rows


def test_a_comparison_has_a_plot_for_each_metric_with_all_runs(pair):
    page = compared(*pair)
    assert [tag for tag, _, _ in page.elements].count("svg") == 2
    assert re.sub(r"\s+", " ", page.sections["Curves"]).startswith("Curveslossab")
    assert "vlbab (none)" in page.sections["Curves"]


def test_a_comparison_has_the_last_samples_side_by_side(pair):
    page = compared(*pair)
    files = [pair[0] / "samples" / "step_0000004.png", pair[1] / "samples" / "step_0000006.png"]
    found = [content for _, content in page.pictures("side")]
    assert found == [file.read_bytes() for file in files]
    assert "a, step 4" in page.text
    assert "b, step 6" in page.text


def test_a_comparison_has_samples_from_equal_seeds(pair, tmp_path, ordinary_promotion):
    drawing = tmp_path / "drawing"
    train(tiny_transformer_config(steps=1, sampling__steps=2), drawing)
    found = [report.sample_equal_seeds(folder, 6, 100_000) for folder in (drawing, pair[0])]
    assert found[1].startswith("No samples: ")
    expected = load(drawing).sample("random", count=6, seed=0)
    names = [str(label) for label in np.random.default_rng(0).integers(10, size=6, dtype=np.int32)]
    grid = captioned_grid(np.asarray(expected), names, 3, upscale=400 // 24)
    assert found[0].uri == embedded_picture.embed_picture(grid, 100_000).uri
    reports = [gathered(folder, most_samples=1, show_data=False) for folder in (drawing, pair[0])]
    page = Page(report.comparison_page(reports, HERE, found))
    assert page.pictures("side")[0][1] == base64.b64decode(found[0].uri.partition(",")[2])
    assert "No samples" in page.sections["Equal seeds"]


def test_evaluations_belong_to_the_run_that_they_evaluate(pair):
    head, *rows = compared(*pair).tables["Evaluations"]
    assert head == ["run", "FD"]
    assert [tuple(row) for row in rows] == [("a", "1.5"), ("b", "8"), ("c", "9")]


def test_plots_of_evaluations_are_captioned_with_their_run(pair):
    page = compared(*pair)
    plot = (pair[0] / "evaluations" / "FD.png").read_bytes()
    assert [content for _, content in page.pictures("plots")] == [plot]
    assert "a: FD.png" in page.sections["Evaluations"]


def test_a_moved_run_keeps_its_evaluations(tmp_path):
    old = write_run(tmp_path / "old" / "a")
    write_result(old, "a")
    shutil.move(old, tmp_path / "a")
    page = compared(tmp_path / "a", write_run(tmp_path / "b"))
    assert page.tables["Evaluations"][1][0] == "a"


def test_runs_with_equal_names_are_named_by_their_paths(tmp_path):
    paths = [write_run(tmp_path / parent / "run") for parent in ("x", "y")]
    assert [row[0] for row in compared(*paths).tables[""][1:]] == [str(path) for path in paths]


def test_the_script_writes_reports_and_reports_errors_in_one_line(pair, tmp_path):
    a, b = pair
    damaged = write_run(tmp_path / "damaged")
    (damaged / "config.json").write_text("{")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    errors = {
        ("--workdir=nowhere",): "--workdir=nowhere: there is no such folder",
        (f"--workdir={tmp_path / 'empty'}",): "is not the workdir of a run: it has no config.json",
        (f"--workdir={damaged}",): "config.json is not readable as JSON",
        (): "--workdir is missing; for example: --workdir runs/digits",
        (f"--workdir={a}", f"--workdir={b}"): "--out is missing",
        (f"--workdir={a}", f"--workdir={a}/", "--out=x"): "names a run twice",
        (f"--workdir={a}", f"--out={tmp_path}"): f"--out={tmp_path} is a folder; give the name",
        (f"--workdir={a}", f"--out={tmp_path / 'file' / 'x'}"): "file",
    }
    good = [
        [f"--workdir={a}"],
        [f"--workdir={a}", f"--workdir={b}", f"--out={tmp_path / 'new' / 'ab.html'}"],
    ]
    *wrong, one, two = run_each("report", [*errors, *good])
    for expected, done in zip(errors.values(), wrong):
        assert done.returncode == 1, done.args
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert expected in done.stderr
    assert not (tmp_path / "x").exists()
    for done, path, title in (
        (one, a / "report.html", "Run a"),
        (two, tmp_path / "new" / "ab.html", "Runs a, b"),
    ):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(path))
        assert title in Page(path.read_text(encoding="utf-8")).text
        assert [file.name for file in path.parent.glob("*.tmp")] == []
