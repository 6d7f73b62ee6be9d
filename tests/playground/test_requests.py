"""Forged HTTP requests to the playground: each is refused, and none disturbs other requests."""

import base64
import io
import os
import re
import socket
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from PIL import Image
from playground_server import Requests, running

SAMPLE = [[], 1, 0, "ddim", 2, 1.0, None]
NOT_UPLOADED = "The file was not uploaded"


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def requests(shared_server):
    return Requests(shared_server.url)


@pytest.fixture
def sample(requests):
    """The number of the event that samples."""
    return requests.event_of("click", 7)


@pytest.fixture
def prepare(requests):
    """The number of the event that reads a picture and shows it in the editor."""
    return requests.event_of("change", 1)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURE = png(np.full((8, 8), 9, np.uint8))


def file_data(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def outside(shared_server):
    """Paths that are no uploaded files."""
    folder = shared_server.folder
    (folder / "secret.png").write_bytes(PICTURE)
    (uploads,) = folder.glob("diffusion_jax_play_*")
    inside = uploads / ("a" * 64)
    inside.mkdir(exist_ok=True)
    if not (inside / "link.png").exists():
        (inside / "link.png").symlink_to(folder / "secret.png")
        (inside / "folder").mkdir()
        os.mkfifo(inside / "fifo.png")
        (uploads / ("b" * 64)).symlink_to(folder)
    return [
        folder / "secret.png",
        "/etc/passwd",
        "/etc/no_such_file",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        uploads,
        inside,
        inside / "link.png",
        inside / "folder",
        inside / "fifo.png",
        uploads / ("b" * 64) / "secret.png",
        f"{inside}/../../secret.png",
        f"{inside}/..",
        "~/.bashrc",
        "secret.png",
        "",
        ".",
        "a\0b",
        "\ud800",
        "x" * 5000,
        f"{inside}/{'x' * 5000}",
        "http://203.0.113.1/a.png",
        "file:///etc/passwd",
    ]


def test_no_event_takes_a_file_that_was_not_uploaded(shared_server, requests, prepare, outside):
    for path in outside:
        for given in (file_data(path), {"path": str(path)}, str(path), [file_data(path)]):
            succeeded, output = requests.event(prepare, given)
            assert not succeeded
            assert output["error"].startswith(NOT_UPLOADED)
    # All inputs of all events: a file in place of the value, and within it.
    secret, types = file_data(outside[0]), {}
    for component in requests.config["components"]:
        types[component["id"]] = component["type"]
    for event in requests.config["dependencies"]:
        kinds = [types[number] for number in event["inputs"]]
        for place, kind in enumerate(kinds):
            if kind == "state":
                continue
            for given in (secret, [secret], {"layers": [secret]}, {"value": secret}):
                values = [None] * len(kinds)
                values[place] = given
                succeeded, output = requests.event(event["id"], *values)
                assert not succeeded, (event["id"], place, given)
                assert "data" not in output
    content = (shared_server.folder / "secret.png").read_bytes()
    (uploads,) = shared_server.folder.glob("diffusion_jax_play_*")
    copies = [path for path in uploads.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(path.read_bytes() == content for path in copies)
    assert "203.0.113.1" not in shared_server.hosts.read_text().split()


def test_only_uploaded_files_are_served(requests, outside):
    for path in outside:
        answer = requests.get(f"/gradio_api/file={quote(str(path), errors='replace')}")
        assert (answer.status, answer.body) == (404, b"Not found")
    path = requests.upload(PICTURE)
    answer = requests.get(f"/gradio_api/file={path}", Range="bytes=1-2-3")
    assert (answer.status, answer.body) == (200, PICTURE)
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = requests.get(f"/gradio_api/file={requests.upload(b'<script>', 'a.html')}")
    assert page.headers["content-disposition"].startswith("attachment")


def test_uploaded_files_are_used(requests, prepare):
    succeeded, output = requests.event(prepare, file_data(requests.upload(PICTURE)))
    assert succeeded
    with urllib.request.urlopen(output["data"][0]["url"]) as answer:
        assert (np.asarray(Image.open(io.BytesIO(answer.read()))) == 9).all()


def test_uploads_stay_in_their_folder(shared_server, requests):
    (uploads,) = shared_server.folder.glob("diffusion_jax_play_*")
    names = ["../../x", "..", "/etc/passwd", ".bashrc", "", "x" * 999, "ä%2e%2e%2f", "a\\b", "a b"]
    paths = [Path(requests.upload(PICTURE, name)) for name in names]
    for path in paths:
        assert path.parents[1] == uploads
        assert not path.name.startswith(".")
        assert path.read_bytes() == PICTURE
    assert len({path.parent for path in paths}) > 1
    # The same content with another name does not reveal the folder of the first.
    assert Path(requests.upload(PICTURE, "other.png")).parent not in {p.parent for p in paths}


def test_uploads_that_are_no_single_file_are_refused(shared_server, requests):
    (uploads,) = shared_server.folder.glob("diffusion_jax_play_*")
    before = set(uploads.iterdir())
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n'
    kind = "multipart/form-data; boundary=x"
    wrong = [
        (part * 2 + b"--x--\r\n", kind),
        (b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--x--\r\n', kind),
        (part.replace(b"files", b"other") + b"--x--\r\n", kind),
        (b"rubbish", kind),
        (part + b"--x--\r\n", "multipart/form-data"),
        (part + b"--x--\r\n", "text/plain"),
        (b"", kind),
    ]
    for body, kind in wrong:
        answer = requests.send("/gradio_api/upload", body, Content_Type=kind)
        assert answer.status == 400, (body, kind)
    assert set(uploads.iterdir()) == before


def test_routes_that_the_page_does_not_use_are_closed(requests):
    import gradio
    from gradio.routes import App

    with gradio.Blocks() as blocks:
        pass
    blocks.max_file_size, blocks.show_error = None, True
    used = ("/", "/theme.css", "/favicon.ico", "/manifest.json", "/static/", "/assets/",
            "/gradio_api/file=", "/gradio_api/heartbeat/", "/gradio_api/queue/data",
            "/gradio_api/app_id")  # fmt: skip
    tried = 0
    for template, methods in App.create_app(blocks).openapi()["paths"].items():
        path = re.sub(r"\{.*?\}", "1", template)
        for method in map(str.upper, methods.keys() - {"head"}):
            if method == "POST" and path in ("/gradio_api/queue/join", "/gradio_api/upload"):
                continue
            prefixes = [name for name in used if name[-1] in "/=" and name != "/"]
            if method == "GET" and (path in used or path.startswith(tuple(prefixes))):
                continue
            tried += 1
            body = b'{"data": [], "fn_index": 0, "session_hash": "x"}' if method == "POST" else None
            answer = requests.send(path, body, method=method, Content_Type="application/json")
            assert (answer.status, answer.body) == (404, b"Not found"), (method, path)
    assert tried > 50
    others = ["/config", "/openapi.json", "/docs", "/gradio_api/mcp/sse", "/gradio_api/api/predict",
              "/static/../../routes.py", "/gradio_api/heartbeat/a/b", "/gradio_api/file/etc/passwd",
              "/gradio_api/queue/data?session_hash=nobody", "//etc/passwd"]  # fmt: skip
    for path in others:
        assert requests.get(path).status == 404, path
    for folder in ("static", "assets"):
        for path in ("%2e%2e/%2e%2e/%2e%2e/routes.py", "/etc/passwd", "..%2f..%2f..%2froutes.py"):
            assert requests.get(f"/{folder}/{path}").status == 404
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "HEAD"):
        assert requests.send("/", None, method=method).status == 404


def test_queries_that_the_page_does_not_use_have_no_effect(requests):
    plain = requests.get("/").body
    assert requests.get("/?page=other").body == plain
    assert requests.get("/?deep_link=../x&all_endpoints=1").body == plain


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        {"data": []},
        {"data": {}, "fn_index": 0},
        {"fn_index": 99},
        {"fn_index": -1},
        {"fn_index": True},
        {"fn_index": "0"},
        {"fn_index": float("inf")},
        {"session_hash": ["x"]},
        {"session_hash": "../x"},
        {"session_hash": "x" * 100},
        {"trigger_id": "x"},
        {"event_data": {"a": 1}},
        {"batched": True},
        {"simple_format": True},
        {"event_id": "x"},
        {"oauth_token": "x"},
        b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b', "fn_index": 0, "session_hash": "x"}',
        b'{"data": [' + b"9" * 5000 + b'], "fn_index": 0, "session_hash": "x"}',
    ],
    ids=lambda body: str(body)[:40],
)
def test_requests_that_are_no_events_of_the_page_are_refused(requests, body):
    if isinstance(body, dict) and body != {"data": []}:
        body = {"data": [], "fn_index": 0, "session_hash": "x"} | body
    answer = requests.join(body)
    assert (answer.status, answer.body) == (400, b"The request is not an event of the page")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "3"),
        (0, None),
        (0, [["3"]]),
        (0, [None]),
        (0, ["a" * 1000]),
        (0, ["3"] * 5000),
        (0, ["zebra"]),
        *((place, value) for place in (1, 4) for value in (None, 0, 1001, -1, 10**300)),
        *((place, v) for place in (1, 2, 4, 5) for v in ("8", True, [1], {}, float("nan"))),
        *((place, float("inf")) for place in (1, 2, 4, 5)),
        (1, 65),
        (2, -1),
        (2, 2**32),
        (2, None),
        (3, None),
        (3, ["ddim"]),
        (3, "dim"),
        (5, -1),
        (5, 1e308),
        (5, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_values_of_other_types_and_ranges_are_errors_in_one_line(requests, sample, place, value):
    values = list(SAMPLE)
    values[place] = value
    succeeded, output = requests.event(sample, *values)
    assert not succeeded
    assert output["error"]
    assert "\n" not in output["error"]


def test_values_that_are_missing_or_too_many_are_errors(requests, sample):
    assert requests.event(sample, *SAMPLE)[0]
    for values in (SAMPLE[:3], [*SAMPLE, 1], []):
        assert not requests.event(sample, *values)[0]


def test_a_state_of_the_request_is_not_used(requests, sample):
    _, expected = requests.event(sample, *SAMPLE)
    succeeded, output = requests.event(sample, *SAMPLE[:-1], [["forged", "x"]] * 100)
    assert succeeded
    assert len(output["data"][2]) == len(expected["data"][2]) == 1


def editor(*layers):
    return {"layers": [file_data(layer) for layer in layers], "background": None, "composite": None}


def test_large_layers_are_not_decoded(requests, prepare):
    inpaint, session = requests.event_of("click", 9), f"paint{time.monotonic_ns()}"
    picture = file_data(requests.upload(PICTURE))
    assert requests.event(prepare, picture, session=session)[0]
    painted = requests.upload(png(np.full((80, 80, 4), 255, np.uint8)), "layer.png")
    assert requests.event(inpaint, *SAMPLE, editor(painted), 1, session=session)[0]
    large = requests.upload(png(np.zeros((5000, 5000), np.uint8)), "large.png")
    bomb = requests.upload(png(np.zeros((12_000, 12_000), bool)), "bomb.png")
    text = requests.upload(b"no picture", "text.png")
    for layers, message in (
        ([large], "large.png has 5000 x 5000 pixels"),
        ([bomb], "bomb.png"),
        ([text], "text.png cannot be read"),
        ([painted] * 9, "at most 8 layers"),
        ([], "Nothing is painted"),
    ):
        succeeded, output = requests.event(inpaint, *SAMPLE, editor(*layers), 1, session=session)
        assert not succeeded
        assert message in output["error"]
    long = [[], 64, 0, "ddim", 1000, 1.0, None, editor(painted)]
    succeeded, output = requests.event(inpaint, *long, 20, session=session)
    assert not succeeded
    assert "1,280,000" in output["error"]


def test_pictures_that_take_long_to_decode_are_refused(requests, prepare):
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(file, "JPEG", progressive=True)
    jpeg = file.getvalue()
    assert requests.event(prepare, file_data(requests.upload(jpeg, "a.jpg")))[0]
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    for content, message in (
        (jpeg[:-2] + scan * 200 + jpeg[-2:], "scans"),
        (png(np.zeros((4097, 2), np.uint8)), "2 x 4097 pixels"),
        (png(np.zeros((12_000, 12_000), bool)), "supported formats: PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "supported formats: PNG"),
    ):
        succeeded, output = requests.event(prepare, file_data(requests.upload(content)))
        assert not succeeded
        assert message in output["error"]


def test_large_bodies_are_refused_before_they_arrive(requests):
    """With an answer, which a connection that is reset in the middle of a body may lose."""
    address = urlsplit(requests.url)
    for path, size in (("upload", 2**23), ("queue/join", 2**19), ("upload", 10**15)):
        for length in (f"Content-Length: {size}", "Transfer-Encoding: chunked"):
            if size > 2**23 and "chunked" in length:
                continue
            with socket.create_connection((address.hostname, address.port), 20) as connection:
                head = f"POST /gradio_api/{path} HTTP/1.1\r\nHost: {address.netloc}\r\n{length}\r\n"
                connection.sendall(head.encode() + b"\r\n")
                if "chunked" not in length:
                    assert connection.recv(12) == b"HTTP/1.1 413"
                    continue
                try:
                    connection.sendall(f"{size:x}\r\n".encode() + b"a" * size)
                    assert connection.recv(12) == b"HTTP/1.1 413"
                except ConnectionError:
                    continue


def test_pages_of_other_hosts_and_other_pages_are_refused(requests):
    assert requests.get("/", Host="elsewhere.example").status == 400
    assert requests.get("/", Host=f"{socket.gethostname()}:1").status == 200
    assert requests.get("/", Host="localhost").status == 200
    event = {"data": [], "fn_index": 0, "session_hash": "x"}
    host = urlsplit(requests.url).netloc
    for headers in (
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert requests.join(event, **headers).status == 403
        assert requests.get("/theme.css", **headers).status == 403
    assert requests.join(event, Origin=f"http://{host}", Sec_Fetch_Site="same-origin").status == 200
    assert requests.get("/", Sec_Fetch_Site="cross-site").status == 200  # a link to the page


def test_no_request_blocks_others(requests, sample, prepare):
    """To be the last test of this module, since it leaves a long request behind."""
    another = requests.event_of("click", 0)
    values = [[], 64, 0, "heun", 1000, 1.0, None]
    body = {"data": values, "fn_index": sample, "session_hash": "long"}
    assert requests.join(body).status == 200
    url = f"{requests.url}/gradio_api/queue/data?session_hash=long"
    stream = urllib.request.urlopen(url, timeout=60)
    while b"process_starts" not in stream.readline():
        pass
    address = urlsplit(requests.url)
    slow = [socket.create_connection((address.hostname, address.port), 60) for _ in range(60)]
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 99\r\n"
    for connection in slow:
        connection.sendall(head.encode() + b"\r\na")
    start = time.monotonic()
    assert requests.get("/").status == 200
    picture = file_data(requests.upload(PICTURE))
    assert requests.event(another)[0]
    assert requests.event(prepare, picture)[0]
    assert time.monotonic() - start < 20
    # The waiting requests are limited, in number and in time.
    waiting = [requests.join(body | {"session_hash": f"w{i}"}).status for i in range(40)]
    assert waiting.count(503) >= 8
    assert requests.get("/").status == 200
    for connection in slow:
        connection.close()
    stream.close()


def test_with_a_password_all_routes_need_it(tmp_path):
    (tmp_path / "password.txt").write_text("correct horse ü\nignored\n")
    flags = ("--host=0.0.0.0", f"--password_file={tmp_path / 'password.txt'}")
    with running(tmp_path, *flags) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")

        def status(path, body=None, login=None, **headers):
            if login is not None:
                headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
            return Requests(url).send(path, body, **headers).status

        right = "anyone:correct horse ü"
        paths = [
            "/",
            "/theme.css",
            "/gradio_api/app_id",
            "/config",
            "/gradio_api/file=/etc/passwd",
            "/gradio_api/heartbeat/x",
            "/gradio_api/queue/data",
            "/static/img/logo.svg",
        ]
        for path in paths:  # fmt: skip
            assert status(path) == 401
        assert status("/", login="correct horse ü:") == 401
        assert status("/", login="anyone:wrong") == 401
        assert status("/", Authorization="Bearer correct horse ü".encode().decode("latin-1")) == 401
        assert status("/", Authorization="Basic ???") == 401
        for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/login"):
            assert status(path, b"x") == 401
        assert status("/", login=right) == 200
        assert status("/theme.css", login=right) == 200
        assert status("/config", login=right) == 404
        assert status("/", login=right, Origin="http://elsewhere.example") == 403
