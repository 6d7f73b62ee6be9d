"""Serves the playground's page on this machine, without anything from the internet."""

import errno
import logging
import os
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusion_jax.runs.run import Run

LARGEST_FILE = "5mb"  # of a picture that is given
PATIENCE = 5  # seconds that an interrupted server may take to end
# What browsers may load: nothing but what this server has.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
    "blob:; worker-src 'self' blob:; frame-ancestors 'self'"
)
# Gradio's and its libraries' own ways to the internet.
SWITCHED_OFF = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket for a server. Raises ValueError if there can be none at this host and port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else 7860
            raise ValueError(
                f"--port={port} is taken by another program; choose one that is free, such as "
                f"--port={other}, or --port=0 for any"
            ) from None
        raise ValueError(f"--host={host} --port={port}: {error.strerror}") from None
    with found:
        yield found


@contextmanager
def offline() -> Iterator[None]:
    """Where Gradio calls nobody, and keeps files in a folder that is deleted at the end.

    It reads the environment when it is imported.
    """
    with tempfile.TemporaryDirectory(prefix="diffusion_jax_play_") as folder:
        os.environ |= {**SWITCHED_OFF, "GRADIO_TEMP_DIR": folder}
        yield


def serve(run: Run, listener: socket.socket, *, open_browser: bool = False) -> None:
    """Serves the page of a run until the program is interrupted. To be called in `offline`."""
    import uvicorn

    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        application(run, host),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,  # browsers keep connections open
    )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{url} shows the playground; Ctrl-C ends it.", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    server = uvicorn.Server(config)
    # At the end connections of browsers are cut, each of which would be reported at length.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    threading.Thread(target=_end_in_time, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


def _end_in_time(server: Any) -> None:
    """Ends the process where the server, once it is interrupted, waits for what is being drawn."""
    while not server.should_exit:
        time.sleep(0.2)
    time.sleep(PATIENCE)
    print("\nInterrupted.", file=sys.stderr, flush=True)
    os._exit(130)


def application(run: Run, host: str) -> Callable[..., Awaitable[None]]:
    """The page as an ASGI application, which is told the address that it is reached at."""
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
        show_error=True,  # in one line, in place of "Error"
        max_file_size=LARGEST_FILE,
        theme=page.theme(),
        css=page.CSS,
    )
    if host == "127.0.0.1":  # another name may be a foreign page's, pointed at this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost"])
    return with_policy(app)


def with_policy(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The application, whose pages tell browsers to load nothing from other hosts."""
    header = (b"content-security-policy", POLICY.encode())

    async def wrapped(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message.get("headers", []), header]}
            await send(message)

        await app(scope, receive, send_with_policy)

    return wrapped
