"""Serves the playground's page on this machine, with nothing loaded from the internet."""

import errno
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusion_jax.runs.run import Run

LARGEST_FILE = "5mb"  # of an upload
# Browsers load from this server only.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
    "blob:; worker-src 'self' blob:; frame-ancestors 'self'"
)
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


@contextmanager
def offline() -> Iterator[None]:
    """Switches off Gradio's network access, and keeps its files in a temporary folder.

    To be entered before Gradio is imported, which reads the environment.
    """
    folder = tempfile.TemporaryDirectory(prefix="diffusion_jax_play_", ignore_cleanup_errors=True)
    with folder as path:
        os.environ |= {**SWITCHED_OFF, "GRADIO_TEMP_DIR": path}
        yield


def serve(run: Run, listener: socket.socket, *, open_browser: bool = False) -> None:
    """Serves the page of a run until KeyboardInterrupt. To be called inside `offline`.

    The server's thread still runs when the exception is raised.
    """
    import uvicorn

    host, port = listener.getsockname()[:2]
    server = uvicorn.Server(
        uvicorn.Config(application(run, host), log_level="warning", access_log=False)
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{url} shows the playground; Ctrl-C ends it.", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    thread.join()


def application(run: Run, host: str) -> Any:
    """Returns the page as a FastAPI application. host: the address that it listens on."""
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from diffusion_jax.playground import page

    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page.page(run),
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
    if host == "127.0.0.1":  # a foreign page could point its own host name at this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost"])

    @app.middleware("http")
    async def add_policy(request: Any, call_next: Callable[..., Awaitable[Any]]) -> Any:
        response = await call_next(request)
        response.headers["content-security-policy"] = POLICY
        return response

    return app
