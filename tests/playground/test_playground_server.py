"""The playground's server: files and hosts that it may use, and the page in a browser."""

import io
import json
import shutil
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import urlsplit

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from numpy.testing import assert_array_equal
from PIL import Image
from playground_server import running

import diffusion_jax
from diffusion_jax import parallel
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.playground import pictures, sampling
from diffusion_jax.playground import server as server_module
from diffusion_jax.playground.server import listening
from diffusion_jax.runs.run import Run
from scripts import play

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
CLASSES = "#settings input[aria-label^='Classes']"


def test_without_gradio_the_error_has_the_command(monkeypatch):
    monkeypatch.setattr(play.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-play\.txt"):
        play.main()


def test_a_used_port_is_named():
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"--port={port} is used"),
            listening("127.0.0.1", port),
        ):
            pass
    with pytest.raises(ValueError, match=r"--host=203\.0\.113\.1"), listening("203.0.113.1", 0):
        pass


@pytest.fixture
def play_with(monkeypatch):
    """A function of flags that returns what the command does with them."""
    pytest.importorskip("gradio", reason="the command needs Gradio")

    def call(**given):
        result = {"opened": [], "loaded": None}

        def load(workdir, **options):
            result["loaded"] = {"workdir": str(workdir), **options}
            return Mock(spec=Run)

        class Server:
            def __init__(self, config):
                result["password"] = config.app

            def run(self, sockets):
                result["address"] = sockets[0].getsockname()

        for name in (*server_module.SWITCHED_OFF, "GRADIO_TEMP_DIR"):
            monkeypatch.setenv(name, "")  # to be restored
        monkeypatch.setattr("diffusion_jax.runs.run.load", load)
        monkeypatch.setattr(server_module, "application", lambda run, *, password: password)
        monkeypatch.setattr("uvicorn.Config", lambda app, **options: SimpleNamespace(app=app))
        monkeypatch.setattr("uvicorn.Server", Server)
        monkeypatch.setattr(server_module.webbrowser, "open", result["opened"].append)
        monkeypatch.setattr(server_module.signal, "signal", lambda *arguments: None)
        monkeypatch.setattr(parallel, "split_cpu", lambda count: None)
        with flagsaver.flagsaver(**{"port": 0} | given):
            assert play.main() == 0
        return result

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return call


def test_each_flag_has_its_effect(play_with, tmp_path, capsys):
    plain = play_with()
    assert plain["loaded"] == {"workdir": "digits", "checkpoint": None, "ema": True}
    assert plain["address"][0] == "127.0.0.1"
    assert plain["password"] is None
    assert not plain["opened"]
    assert play_with(workdir=Path("mnist"))["loaded"]["workdir"] == "mnist"
    assert play_with(checkpoint=3)["loaded"]["checkpoint"] == 3
    assert not play_with(params="raw")["loaded"]["ema"]
    assert play_with(host="::1")["address"][0] == "::1"
    with listening("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    capsys.readouterr()
    opened = play_with(open=True, port=port)
    assert opened["address"][1] == port
    url = f"http://127.0.0.1:{port}"
    assert url in capsys.readouterr().out
    until(lambda: opened["opened"] == [url])
    (tmp_path / "password").write_text("  correct horse \nrest")
    assert play_with(password_file=tmp_path / "password")["password"] == "correct horse"
    everyone = play_with(host="0.0.0.0", no_password=True)
    assert (everyone["address"][0], everyone["password"]) == ("0.0.0.0", None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_other_addresses_need_a_password_or_a_flag(play_with, host):
    with pytest.raises(ValueError, match=r"--password_file=FILE.* --no_password"):
        play_with(host=host)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "has 0 characters; at least 8"),
        (b"short\n", "has 5 characters; at least 8"),
        (b"\xff\xfe" * 9, "cannot be read: it is not text"),
    ],
)
def test_unusable_passwords_are_errors(play_with, tmp_path, content, message):
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(ValueError, match=message):
            play_with(host=host, password_file=file)
    with pytest.raises(ValueError, match="contradict"):
        play_with(password_file=file, no_password=True)


@pytest.fixture
def server(tmp_path):
    with running(tmp_path) as found:
        yield found


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
    """Waits until `true` returns a true value, and returns that."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.1)
    return found


def test_the_page_in_a_browser(browser, server):
    url, hosts, _ = server
    by_css = partial(browser.find_elements, "css selector")

    def type_classes(*names):
        (box,) = by_css(CLASSES)
        for name in names:
            box.send_keys(name + "\n")

    def click_sample():
        until(lambda: by_css("#sample"))[0].click()

    def line_of_python():
        lines = (line.get_attribute("value") for line in by_css("#python input, #python textarea"))
        return next((line for line in lines if line.startswith("diffusion_jax")), None)

    browser.get(url)
    until(lambda: by_css("#sample"))
    type_classes("3", "8")
    click_sample()
    line = until(line_of_python)
    assert line == "diffusion_jax.load('digits').sample('3, 8', count=8, seed=0)"
    source = until(lambda: by_css("#samples img"))[0].get_attribute("src")
    with urllib.request.urlopen(source) as answer, Image.open(io.BytesIO(answer.read())) as image:
        picture = np.asarray(image)
    run, samples = diffusion_jax.load("digits"), eval(line)
    assert_array_equal(samples, run.sample("3,8", count=8))
    classes = captions(run.labels("3,8", 8), *sampling.classes(run))
    assert_array_equal(picture, pictures.grid(samples, classes))
    # An unknown class is an error in one line.
    type_classes("zebra")
    click_sample()
    said = until(lambda: [found.text for found in by_css(".toast-body") if found.text])
    (text,) = [text for text in said[0].splitlines() if "zebra" in text]
    assert text.startswith("Unknown label 'zebra'")
    assert "Traceback" not in browser.page_source
    by_css(".toast-close")[0].click()
    until(lambda: not by_css(".toast-body"))
    # Browser and server connect to no other host.
    addresses = {urlsplit(address) for address in requested(browser)}
    others = {part.netloc for part in addresses if part.scheme in ("http", "https", "ws", "wss")}
    assert others == {urlsplit(url).netloc}
    looked_up = set(hosts.read_text().split())
    assert "watching" in looked_up
    assert looked_up <= {"watching", "127.0.0.1", "localhost", "::1", "None"}
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    foreign = urllib.request.Request(url, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)
    # The fixture interrupts the server while it samples.
    by_css(CLASSES)[0].send_keys("\ue003")  # backspace
    for label, number in (("Images", "64"), ("Steps", "1000")):
        (box,) = by_css(f"#settings input[aria-label='number input for {label}']")
        browser.execute_script("arguments[0].select()", box)
        box.send_keys(number + "\t")
    click_sample()
    until(lambda: by_css("#samples .progress-text"))
    time.sleep(1)
    assert by_css("#samples .progress-text")


def requested(browser):
    """The addresses that the browser has requested."""
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            yield message["params"]["url"]
