"""The folder of uploads stays small, and slow connections are closed."""

import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from diffusion_jax.playground import request_filter, uploads
from diffusion_jax.playground.request_filter import RequestFilter
from diffusion_jax.playground.server import listening
from diffusion_jax.playground.uploads import Uploads


@pytest.fixture
def folder(tmp_path):
    """A folder with four files of 1,000 bytes each, from the oldest to the newest."""
    for number in range(4):
        path = tmp_path / (str(number) * 64) / "a.png"
        path.parent.mkdir()
        path.write_bytes(bytes(1000))
        changed = time.time() - 1000 + number
        os.utime(path.parent, (changed, changed))
    return tmp_path


def left(folder):
    return sorted(path.name[0] for path in folder.iterdir() if any(path.iterdir()))


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("MOST_BYTES", 4000, "0123"),
        ("MOST_BYTES", 2999, "23"),
        ("MOST_FILES", 3, "123"),
        ("MOST_SECONDS", 998.5, "23"),
    ],
)
def test_the_oldest_files_are_deleted(folder, monkeypatch, limit, value, expected):
    monkeypatch.setattr(uploads, limit, value)
    Uploads(folder).trim()
    assert "".join(left(folder)) == expected


def test_files_are_searched_for_at_intervals(folder, monkeypatch):
    found = Uploads(folder)
    found.trim()
    monkeypatch.setattr(uploads, "MOST_FILES", 0)
    found.trim()
    assert len(left(folder)) == 4
    monkeypatch.setattr(uploads.time, "monotonic", lambda: 1e9)
    found.trim()
    assert not left(folder)


async def page(scope, receive, send):
    """Answers each request with "page"."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


@contextmanager
def served(folder):
    """The address of `page` behind the filter."""
    uvicorn = pytest.importorskip("uvicorn", reason="Gradio brings it")
    from diffusion_jax.playground.connections import TimedConnection

    app = RequestFilter(page, events=[0], uploads=Uploads(folder))
    with listening("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, http=TimedConnection, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.mark.parametrize("head", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_connections_without_the_head_of_a_request_are_closed(folder, monkeypatch, head):
    connections = pytest.importorskip("diffusion_jax.playground.connections")
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with served(folder) as address, socket.create_connection(address, 10) as connection:
        connection.sendall(head)
        assert connection.recv(9) == b""  # closed
    with served(folder) as address, socket.create_connection(address, 10) as connection:
        for part in (b"GET / HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"):
            time.sleep(0.1)
            connection.sendall(part)
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(head)  # of a second request
        while connection.recv(999):
            pass


def test_bodies_that_take_too_long_are_refused(folder, monkeypatch):
    monkeypatch.setattr(request_filter, "BODY_SECONDS", 0.5)
    head = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    with served(folder) as address, socket.create_connection(address, 10) as connection:
        connection.sendall(head)
        assert connection.recv(12) == b"HTTP/1.1 408"
