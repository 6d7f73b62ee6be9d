"""Server of the playground's page on this machine, with nothing loaded from the internet."""

import errno
import ipaddress
import logging
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_jax.playground.request_filter import UPLOAD, Application, RequestFilter
from diffusion_jax.playground.uploads import LARGEST_FILE, Uploads
from diffusion_jax.runs.run import Run

SHORTEST_PASSWORD = 8  # characters
# Network access of Gradio and its libraries.
SWITCHED_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Opens a listening socket. Raises ValueError if the host or the port cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else 7860
            raise ValueError(
                f"--port={port} is used by another program; choose another one, such as "
                f"--port={other}, or --port=0 for any free port"
            ) from None
        raise ValueError(f"--host={host} --port={port}: {error.strerror}") from None
    with listener:
        yield listener


def read_password(
    listener: socket.socket, file: Path | None, *, no_password: bool = False
) -> str | None:
    """Returns the password of the page: the first line of a file, or None for none.

    Raises ValueError if the socket is open to other machines and there is neither a file nor
    `no_password`, or if the file has no usable password.
    """
    if file is None:
        host = listener.getsockname()[0]
        if not no_password and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            raise ValueError(
                f"--host={host} opens the page to other machines; give a file with a password, "
                "--password_file=FILE, or --no_password to let everyone in"
            )
        return None
    if no_password:
        raise ValueError("--password_file and --no_password contradict each other; give one")
    try:
        password = file.read_text().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"--password_file={file} cannot be read: {reason}") from None
    if len(password) < SHORTEST_PASSWORD:
        raise ValueError(
            f"The password in the first line of --password_file={file} has {len(password)} "
            f"characters; at least {SHORTEST_PASSWORD} are needed"
        )
    return password


@contextmanager
def offline() -> Iterator[None]:
    """Switches off Gradio's network access, and keeps its files in a temporary folder.

    To be entered before Gradio is imported, which reads the environment.
    """
    folder = tempfile.TemporaryDirectory(prefix="diffusion_jax_play_", ignore_cleanup_errors=True)
    with folder as path:
        os.environ |= {**SWITCHED_OFF, "GRADIO_TEMP_DIR": os.path.realpath(path)}
        yield


def serve(
    run: Run,
    listener: socket.socket,
    *,
    password: str | None = None,
    open_browser: bool = False,
) -> None:
    """Serves the page of a run until KeyboardInterrupt. To be called inside `offline`.

    The server's thread still runs when the exception is raised.

    password: see `RequestFilter`.
    """
    import uvicorn

    from diffusion_jax.playground.connections import TimedConnection

    host, port = listener.getsockname()[:2]
    app = application(run, password=password)
    server = uvicorn.Server(
        uvicorn.Config(app, http=TimedConnection, log_level="error", access_log=False)
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of wrong requests
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{url} shows the playground; Ctrl-C ends it.", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    thread.join()


def application(run: Run, *, password: str | None = None) -> Application:
    """Returns the page as an ASGI application. To be called inside `offline`.

    password: see `RequestFilter`.
    """
    import gradio
    from fastapi import FastAPI
    from gradio.utils import get_upload_folder

    from diffusion_jax.playground import page

    uploads, blocks = Uploads(get_upload_folder()), page.page(run)
    app = FastAPI(openapi_url=None)
    app.add_route(UPLOAD, uploads.receive, methods=["POST"])
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        show_error=True,
        max_file_size=LARGEST_FILE,
        theme=page.theme(),
        css=page.CSS,
    )
    return RequestFilter(app, events=blocks.fns, uploads=uploads, password=password)
