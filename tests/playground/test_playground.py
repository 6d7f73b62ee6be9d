"""The playground: what it does without a browser, and the page in one."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from tiny import tiny_config, tiny_transformer_config

import diffusion_jax
from diffusion_jax import parallel
from diffusion_jax.config import build
from diffusion_jax.config.schema import model_section
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.pictures.captions import captioned_grid
from diffusion_jax.playground import session
from diffusion_jax.runs.run import Run
from diffusion_jax.training.state import init_params
from scripts import play

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
# Of the server's own process: writes down each host that it looks up or connects to.
WATCHER = """
import os, sys
def note(host):
    with open(os.environ["HOSTS"], "a") as file:
        file.write(f"{host}\\n")
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        address = arguments[1] if event == "socket.connect" else arguments
        note(address[0] if isinstance(address, tuple) else address)
sys.addaudithook(watch)
note("watching")
"""


def untrained(config, names=None):
    """A run with random parameters: new ones would predict zeros."""
    params = init_params(build.make_model(config), 0, config.data.resolution)
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + noise.normal(0, 0.1, leaf.shape).astype(np.float32), params
    )
    return Run(Path("untrained"), config, names or [], 0, parallel.replicate(params))


def grid_of(run, images, labels):
    """The picture of these images, with their classes."""
    columns, upscale = session.layout(len(images), images.shape[1])
    chosen = captions(run.labels(labels, len(images)), *session.classes(run))
    return captioned_grid(np.asarray(images), chosen, columns, upscale=upscale)


@pytest.fixture(scope="module")
def run():
    return untrained(tiny_transformer_config(), [f"digit {i}" for i in range(10)])


@pytest.fixture(scope="module")
def plain():
    """A model without classes."""
    return untrained(tiny_transformer_config(model__num_classes=0, sampling__guidance=0.0))


@pytest.fixture(scope="module")
def enlarging():
    """A model that makes 8x8 of 4x4."""
    small = {"width": 8, "multipliers": "1", "blocks": 1, "attention": "", "num_heads": 1}
    config = tiny_config(sampling__guidance=0.0, sampling__steps=2)
    config.model = model_section("adm", channels=1, num_classes=10, low_resolution=4, **small)
    return untrained(config)


@pytest.fixture
def wanted(run):
    return replace(session.own(run), labels="digit 3, 8", count=2, seed=5, steps=3)


def png(folder, pixels, name="a.png"):
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_what_is_drawn_is_what_python_draws(run, wanted):
    assert session.changes(run, session.own(run)) == {}
    wanted = replace(wanted, guidance=2.5, solver="heun")
    drawn = session.draw(run, wanted)
    expected = run.sample("3,8", seed=5, steps=3, guidance=2.5, solver="heun")
    assert_array_equal(drawn.images, expected)
    assert_array_equal(drawn.picture, grid_of(run, expected, "3,8"))
    assert drawn.picture.shape[1] > 640  # squares of 40 pixels, and the names beside them
    steps = {"seed": 5, "steps": 3, "guidance": 2.5, "solver": "heun"}
    film = run.denoising("3,8", frames=3, of="x0", **steps)
    assert len(drawn.frames) == 3
    for number, frame in enumerate(drawn.frames):
        assert_array_equal(frame, grid_of(run, film[:, number], "3,8"))
    told = []
    watched = session.draw(run, wanted, lambda *found: told.append(found))
    assert [(number, count) for number, count, _ in told] == [(1, 3), (2, 3), (3, 3)]
    for (_, _, frame), expected in zip(told, drawn.frames, strict=True):
        assert_array_equal(frame, expected)
    assert_array_equal(watched.images, drawn.images)
    assert session.described(run, wanted).endswith("seed 5 · heun, 3 steps · guidance 2.5")


def test_the_line_of_python(run, wanted):
    wanted = replace(wanted, guidance=0.5)
    assert session.call(run, wanted) == (
        "diffusion_jax.load('untrained').sample('digit 3, 8', count=2, seed=5, steps=3, "
        "guidance=0.5)"
    )


def test_a_job_of_the_page_that_nobody_waits_for_ends_before_the_next():
    pytest.importorskip("gradio")
    from diffusion_jax.playground.inputs import told

    done = []

    def job(tell):
        tell(1, "frame")
        time.sleep(0.3)
        done.append(True)
        return "result"

    assert list(told(job)) == [(1, "frame"), "result"]
    listening = told(job)
    assert next(listening) == (1, "frame")
    listening.close()
    assert done == [True, True]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 65}, "count=65 must be from 1 to 64"),
        ({"steps": 1001}, "steps=1001 must be from 1 to 1000"),
        ({"seed": -1}, "seed=-1 must be from 0 to 4294967295"),
        ({"labels": "zebra"}, "Unknown label 'zebra'"),
        ({"solver": "dim"}, "Unknown solver 'dim'"),
    ],
)
def test_limits(run, wanted, changed, message):
    with pytest.raises(ValueError, match=message):
        session.draw(run, replace(wanted, **changed))


def test_a_model_without_classes(plain):
    mine = session.own(plain)
    assert (session.classes(plain)[0], session.is_guided(plain)) == (0, False)
    assert session.described(plain, mine) == "seed 0 · ddim, 4 steps"
    drawn = session.draw(plain, replace(mine, count=3))
    assert_array_equal(drawn.images, plain.sample(count=3))
    ends = session.between_seeds(plain, (0, 1), ("random", "random"), replace(mine, count=2))
    assert ends.shape == (2, 8, 8, 1)


def test_a_classifier_draws_nothing():
    config = tiny_config(loss__kind="cross_entropy", label_dropout=0.0, sampling__guidance=0.0)
    config.model = model_section("noisy_classifier", channels=1, num_classes=10, width=8)
    run = Run(Path("classifier"), config, [], 0, {})
    with pytest.raises(ValueError, match="draws no images; it guides another run"):
        session.own(run)


def test_given_pictures(run, tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert_array_equal(session.square(run, png(tmp_path, pixels))[0, :, :, 0], pixels)
    wide = np.concatenate([np.zeros((64, 32)), np.full((64, 64), 200), np.zeros((64, 32))], axis=1)
    cut = session.square(run, png(tmp_path, wide.astype(np.uint8)))
    assert_array_equal(cut, np.full((1, 8, 8, 1), 200))
    long = png(tmp_path, np.zeros((2, 4097), np.uint8), "long.png")
    with pytest.raises(ValueError, match=r"^long.png has 4097 x 2 pixels; up to 4096 a side"):
        session.square(run, long)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^b.png is no picture that can be read"):
        session.square(run, tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"^[^/]*c.png[^/]*$"):
        session.square(run, tmp_path / "c.png")


def test_only_what_is_painted_is_drawn(run, wanted):
    layer = np.zeros((80, 80, 4), np.uint8)
    layer[:26, :34, 3] = 255  # six of ten rows of a pixel, and four of ten columns
    mask = session.mask_of(run, [layer])
    assert_array_equal(np.argwhere(mask).max(axis=0), [2, 2])
    image = run.sample([1], steps=2)
    wanted = replace(wanted, labels="3")
    drawn = session.inpaint(run, image, mask, wanted, resample=1)
    assert drawn.shape == (2, 8, 8, 1)
    assert_array_equal(drawn[:, ~mask], image.repeat(2, axis=0)[:, ~mask])
    assert np.any(drawn[:, mask] != image[:, mask])
    again = session.inpaint(run, image, mask, wanted, resample=2)
    assert np.any(again != drawn)
    with pytest.raises(ValueError, match="Nothing is painted"):
        session.mask_of(run, [np.zeros_like(layer)])
    with pytest.raises(ValueError, match="resample=21 must be from 1 to 20"):
        session.inpaint(run, image, mask, wanted, resample=21)


def test_other_edits_are_those_of_python(run, enlarging, wanted):
    image, wanted = run.sample([1], steps=2), replace(wanted, labels="3")
    changed = session.image_to_image(run, image, wanted, strength=0.5)
    expected = run.edit.image_to_image(image, "3", strength=0.5, count=2, seed=5, steps=3)
    assert_array_equal(changed, expected)
    wanted = replace(session.own(enlarging), labels="none", count=2)
    assert session.enlarges(enlarging)
    assert not session.enlarges(run)
    assert session.enlarge(enlarging, image[:, :4, :4], wanted).shape == (2, 8, 8, 1)


def test_interpolation_begins_and_ends_with_what_is_drawn(run, wanted):
    wanted = replace(wanted, count=5)
    frames = session.between_seeds(run, (1, 2), ("3", "random"), wanted)
    for frame, seed, label in ((frames[0], 1, "3"), (frames[-1], 2, "random")):
        end = session.draw(run, replace(wanted, labels=label, count=1, seed=seed)).images[0]
        assert np.abs(frame.astype(int) - end).max() <= 1
    ends = run.sample([1], steps=2), run.sample([2], steps=2)
    between = session.between_images(run, ends, ("1", "none"), replace(wanted, steps=8))
    expected = run.edit.interpolate(*ends, [1, 10], count=5, seed=5, steps=8)
    assert_array_equal(between, expected)


def test_grids_are_full_and_pixels_are_squares():
    assert [session.layout(count, 8)[0] for count in (1, 4, 7, 8, 10, 64)] == [1, 2, 4, 4, 5, 8]
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert_array_equal(session.large(image)[40::80, 40::80], image)


def test_without_gradio_a_line_says_what_to_type(monkeypatch):
    monkeypatch.setattr(play.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-play\.txt"):
        play.main()


def test_a_taken_port_is_named():
    from diffusion_jax.playground.server import listening

    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"--port={port} is taken"),
            listening("127.0.0.1", port),
        ):
            pass
    with pytest.raises(ValueError, match=r"--host=203\.0\.113\.1"), listening("203.0.113.1", 0):
        pass


def shown_labels(page):
    """The labels of the inputs that are shown."""
    components = [part["props"] for part in page.config["components"]]
    return {part.get("label") for part in components if part.get("visible", True)}


def test_the_page_has_what_the_model_can_do(run, plain, enlarging):
    pytest.importorskip("gradio", reason="the page is made with Gradio")
    from diffusion_jax.playground.page import page

    labels = shown_labels(page(run))
    assert {"Draw", "Inpaint", "Classes (empty: random)", "Guidance", "Steps"} <= labels
    labels = shown_labels(page(plain))
    assert {"Draw", "Inpaint", "Steps"} <= labels
    assert not {"Classes (empty: random)", "Guidance"} & labels
    labels = shown_labels(page(enlarging))
    assert {"A picture", "Classes (empty: none)"} <= labels
    assert not {"Draw", "Inpaint", "Compare"} & labels


def test_errors_are_a_line_of_text(capsys):
    gradio = pytest.importorskip("gradio", reason="the page is made with Gradio")
    from diffusion_jax.playground.inputs import reported

    def fail(error):
        raise error

    with pytest.raises(gradio.Error) as caught:
        reported(fail)(ValueError("one\n<b>two"))
    assert caught.value.message == "one &lt;b&gt;two"
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(gradio.Error) as caught:
        reported(fail)(RuntimeError("of a library"))
    assert caught.value.message == "RuntimeError; the terminal says more"
    assert "of a library" in capsys.readouterr().err


@pytest.fixture
def server(tmp_path):
    """(the URL of the page, the file with the hosts that its server asks for)."""
    pytest.importorskip("gradio", reason="the page is made with Gradio")
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    hosts = tmp_path / "hosts.txt"
    paths = [tmp_path, ROOT]
    environment = os.environ | {"PYTHONPATH": ":".join(map(str, paths)), "HOSTS": str(hosts)}
    command = [sys.executable, "-m", "scripts.play", "--workdir=digits", "--port=0"]
    with (tmp_path / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            found = re.search(r"http://127.0.0.1:\d+", process.stdout.readline())
            errors.seek(0)
            assert found, errors.read()
            yield found[0], hosts
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, 130)
            errors.seek(0)
            assert errors.read().strip() in ("", "Interrupted.")
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium drives the browser")
    if not (CHROMIUM and DRIVER):
        pytest.skip("neither chromium nor chromedriver is on the PATH: apt install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


def until(true, seconds=60):
    """Waits for what `true` returns to be true, and returns it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "nothing came of it in time"
        time.sleep(0.1)
    return found


def test_the_page_in_a_browser(browser, server):
    url, hosts = server
    by_css = partial(browser.find_elements, "css selector")

    def type_classes(*names):
        (box,) = by_css("input[aria-label='Classes (empty: random)']")
        for name in names:
            box.send_keys(name + "\n")

    def draw():
        until(lambda: by_css("#draw"))[0].click()

    def line_of_python():
        lines = (line.get_attribute("value") for line in by_css("#said input, #said textarea"))
        return next((line for line in lines if line.startswith("diffusion_jax")), None)

    browser.get(url)
    until(lambda: by_css("#draw"))
    type_classes("3", "8")
    draw()
    line = until(line_of_python)
    assert line == "diffusion_jax.load('digits').sample('3, 8', count=8, seed=0)"
    source = until(lambda: by_css("#drawn img"))[0].get_attribute("src")
    with urllib.request.urlopen(source) as answer, Image.open(io.BytesIO(answer.read())) as image:
        picture = np.asarray(image)
    run, drawn = diffusion_jax.load("digits"), eval(line)
    assert_array_equal(drawn, run.sample("3,8", count=8))
    assert_array_equal(picture, grid_of(run, drawn, "3,8")[:, :, 0])
    # A class that there is not: one line.
    type_classes("zebra")
    draw()
    said = until(lambda: [found.text for found in by_css(".toast-body") if found.text])
    assert [text for text in said[0].splitlines() if "zebra" in text] == [
        "Unknown label 'zebra'; known: 0 to 9, or names such as 0, 9"
    ]
    assert "Traceback" not in browser.page_source
    # The browser and the server ask nobody else.
    asked = {urlsplit(address) for address in requested(browser)}
    others = {part.netloc for part in asked if part.scheme in ("http", "https", "ws", "wss")}
    assert others == {urlsplit(url).netloc}
    looked_up = set(hosts.read_text().split())
    assert "watching" in looked_up
    assert looked_up <= {"watching", "127.0.0.1", "localhost", "::1", "None"}
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    foreign = urllib.request.Request(url, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)
    # The server is ended while it draws, see above.
    by_css("input[aria-label='Classes (empty: random)']")[0].send_keys("\ue003")  # backspace
    for label, number in (("Images", "64"), ("Steps", "1000")):
        (box,) = by_css(f"#draw_settings input[aria-label='number input for {label}']")
        browser.execute_script("arguments[0].select()", box)
        box.send_keys(number + "\t")
    draw()
    until(lambda: by_css("#drawn .progress-text"))
    time.sleep(1)
    assert by_css("#drawn .progress-text")


def requested(browser):
    """The addresses that the browser's pages asked for."""
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            yield message["params"]["url"]
