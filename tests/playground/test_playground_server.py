"""The playground's server: files and hosts that it may use, and the page in a browser."""

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
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import diffusion_jax
from diffusion_jax.generation.class_labels import captions
from diffusion_jax.playground import pictures, sampling
from diffusion_jax.playground.server import listening
from scripts import play

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
CLASSES = "#settings input[aria-label^='Classes']"
# Runs in the server's process and records each host that it looks up or connects to.
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


def png(path, value):
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
    return path


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
def server(tmp_path):
    """(URL of the page, file with the hosts that its server connects to)."""
    pytest.importorskip("gradio", reason="the page is made with Gradio")
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    hosts = tmp_path / "hosts.txt"
    paths = [tmp_path, ROOT]
    environment = os.environ | {"PYTHONPATH": ":".join(map(str, paths)), "HOSTS": str(hosts)}
    environment["TMPDIR"] = str(tmp_path)
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
            assert process.wait(20) == 130
            errors.seek(0)
            assert errors.read().strip() == "Interrupted."
            assert not list(tmp_path.glob("diffusion_jax_play_*"))
        finally:
            process.kill()
            process.stdout.close()


class Requests:
    """HTTP requests as a browser makes them."""

    def __init__(self, url):
        self.url = url
        self.config = json.loads(self.get("/config"))

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read().decode()

    def post(self, path, data, kind="application/json"):
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def upload(self, content):
        part = 'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body = b"--x\r\n" + part.encode() + content + b"\r\n--x--\r\n"
        return self.post("/gradio_api/upload", body, "multipart/form-data; boundary=x")[0]

    def event(self, number, *values):
        """Runs the event with this number; returns (True if it succeeded, its output)."""
        session = f"session{number}{time.monotonic()}"
        data = {"data": values, "fn_index": number, "session_hash": session}
        self.post("/gradio_api/queue/join", json.dumps(data).encode())
        for line in self.get(f"/gradio_api/queue/data?session_hash={session}").splitlines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message["success"], message["output"]
        raise AssertionError("the event did not complete")

    def event_of(self, target, inputs):
        """Returns the number of the event with this trigger and number of inputs."""
        events = self.config["dependencies"]
        return next(
            event["id"]
            for event in events
            if any(name == target for _, name in event["targets"])
            and len(event["inputs"]) == inputs
        )


def test_requests_can_use_uploaded_files_only(server, tmp_path):
    url, hosts = server
    requests = Requests(url)
    secret = png(tmp_path / "secret.png", 77)
    link = tmp_path / "link.png"
    link.symlink_to(secret)
    prepare = requests.event_of("change", 1)  # reads a picture and shows it in the editor
    uploaded = requests.upload(png(tmp_path / "a.png", 9).read_bytes())

    def file(path):
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}

    inside = Path(uploaded).parent / ".." / ".." / ".." / "secret.png"
    others = [secret, link, inside, "/etc/passwd", "/dev/zero", "http://203.0.113.1/a.png", "a\0b"]
    for path in others:
        for given in (file(path), {"path": str(path)}):
            succeeded, output = requests.event(prepare, given)
            assert not succeeded, path
            assert "data" not in output
    # All other inputs are checked, too.
    draw = requests.event_of("click", 7)
    for place in range(7):
        values = [[], 1, 0, "ddim", 2, 1.0, None]
        values[place] = [file(secret)]
        assert not requests.event(draw, *values)[0]
    caches = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path]
    assert not any(path.name in ("passwd", "zero") for path in caches)
    assert not any(path.read_bytes() == secret.read_bytes() for path in caches)
    assert "203.0.113.1" not in hosts.read_text().split()
    succeeded, output = requests.event(prepare, file(uploaded))
    assert succeeded
    with urllib.request.urlopen(output["data"][0]["url"]) as answer:
        picture = np.asarray(Image.open(io.BytesIO(answer.read())))
    assert (picture == 9).all()


def test_requests_over_the_limits_are_refused(server):
    requests = Requests(server[0])
    draw = requests.event_of("click", 7)
    good = [["3"], 1, 0, "ddim", 2, 1.0, None]
    assert requests.event(draw, *good)[0]
    for place, value in (
        (1, 65),
        (1, 0),
        (4, 1001),
        (2, -1),
        (2, 2**32),
        (3, "dim"),
        (0, ["zebra"]),
    ):
        values = list(good)
        values[place] = value
        succeeded, output = requests.event(draw, *values)
        assert not succeeded, value
        assert output["error"]
        assert "\n" not in output["error"]


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
    url, hosts = server
    by_css = partial(browser.find_elements, "css selector")

    def type_classes(*names):
        (box,) = by_css(CLASSES)
        for name in names:
            box.send_keys(name + "\n")

    def draw():
        until(lambda: by_css("#draw"))[0].click()

    def line_of_python():
        lines = (line.get_attribute("value") for line in by_css("#python input, #python textarea"))
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
    classes = captions(run.labels("3,8", 8), *sampling.classes(run))
    assert_array_equal(picture, pictures.grid(drawn, classes))
    # An unknown class is an error in one line.
    type_classes("zebra")
    draw()
    said = until(lambda: [found.text for found in by_css(".toast-body") if found.text])
    assert [text for text in said[0].splitlines() if "zebra" in text] == [
        "Unknown label 'zebra'; known: 0 to 9, or names such as 0, 9"
    ]
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
    draw()
    until(lambda: by_css("#drawn .progress-text"))
    time.sleep(1)
    assert by_css("#drawn .progress-text")


def requested(browser):
    """The addresses that the browser has requested."""
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            yield message["params"]["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            yield message["params"]["url"]
