"""The playground in a process of its own, and HTTP requests to it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
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


class Server(NamedTuple):
    url: str
    hosts: Path  # a file with the hosts that the server connects to
    folder: Path  # its temporary files


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Requests:
    """HTTP requests as a browser makes them."""

    def __init__(self, url):
        self.url = url

    @cached_property
    def config(self):
        """Gradio's description of the page."""
        html = self.get("/").body.decode()
        return json.JSONDecoder().raw_decode(html.partition("window.gradio_config = ")[2])[0]

    def get(self, path, **headers):
        return self.send(path, None, **headers)

    def send(self, path, body, method=None, **headers):
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def post_upload(self, content, name="a.png", field="files"):
        disposition = f'form-data; name="{field}"; filename="{name}"'
        part = f"Content-Disposition: {disposition}\r\n\r\n".encode()
        body = b"--x\r\n" + part + content + b"\r\n--x--\r\n"
        kind = "multipart/form-data; boundary=x"
        return self.send("/gradio_api/upload", body, Content_Type=kind)

    def upload(self, content, name="a.png"):
        """Uploads a file and returns its path on the server."""
        (path,) = json.loads(self.post_upload(content, name).body)
        return path

    def join(self, body, **headers):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content_Type": "application/json"} | headers
        return self.send("/gradio_api/queue/join", text, **headers)

    def event(self, number, *values, session=None):
        """Runs the event with this number; returns (True if it succeeded, its output)."""
        session = session or f"session{number}x{time.monotonic_ns()}"
        data = {"data": values, "fn_index": number, "session_hash": session}
        answer = self.join(data)
        assert answer.status == 200, answer
        results = self.get(f"/gradio_api/queue/data?session_hash={session}").body.decode()
        for line in results.splitlines():
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


@contextmanager
def running(folder, *flags):
    """A server in a process of its own, which must leave neither errors nor files behind."""
    pytest.importorskip("gradio", reason="the page is made with Gradio")
    (folder / "sitecustomize.py").write_text(WATCHER)
    hosts = folder / "hosts.txt"
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "HOSTS": str(hosts)}
    environment["TMPDIR"] = str(folder)
    command = [sys.executable, "-m", "scripts.play", "--workdir=digits", "--port=0", *flags]
    with (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            found = re.search(r"http://[0-9.]+:\d+", process.stdout.readline())
            errors.seek(0)
            assert found, errors.read()
            yield Server(found[0], hosts, folder)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            errors.seek(0)
            text = errors.read().strip()
            assert text == "Interrupted.", text
            assert not list(folder.glob("diffusion_jax_play_*"))
        finally:
            process.kill()
            process.stdout.close()
