"""Filter in front of the playground's server: hosts, password, routes, and sizes of requests."""

import asyncio
import base64
import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Container, MutableMapping
from typing import Any

from diffusion_jax.playground.uploads import LARGEST_FILE, Uploads

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

API = "/gradio_api"
FILE = f"{API}/file="
JOIN = f"{API}/queue/join"
DATA = f"{API}/queue/data"
UPLOAD = f"{API}/upload"
SESSION = r"[A-Za-z0-9]{1,64}"
# Gradio has about 70 routes; the page uses these.
GET = re.compile(
    rf"/|/theme\.css|/favicon\.ico|/manifest\.json|/(static|assets)(/[\w-][\w.-]*)+|{FILE}.+"
    rf"|{DATA}|{API}/(heartbeat/{SESSION}|app_id)"
)
# Bytes of a request's body, at most.
POST = {JOIN: 2**18, UPLOAD: LARGEST_FILE + 2**12}
EVENT_FIELDS = {"data", "fn_index", "session_hash", "trigger_id", "event_data"}
MOST_SESSIONS = 1000  # whose results can be read
BODY_SECONDS = 60  # to receive a body
WRONG_PASSWORD_SECONDS = 1  # before the answer
HEADERS = {
    # Browsers load from this server only.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
        "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' "
        "data: blob:; worker-src 'self' blob:; frame-ancestors 'self'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Refused(Exception):
    """A refused request: the status and the text of the answer."""

    def __init__(self, status: int, text: str, **headers: str):
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers


class RequestFilter:
    """An ASGI application that passes the requests of the page to another one.

    Args:
        application: serves the page.
        events: the numbers of the page's events.
        uploads: the files that may be served.
        password: of all requests, by HTTP's basic authentication with any user name; None: none.
    """

    def __init__(
        self,
        application: Application,
        *,
        events: Container[int],
        uploads: Uploads,
        password: str | None = None,
    ):
        self._application, self._events, self._uploads = application, events, uploads
        self._password = password
        self._sessions: dict[str, None] = {}  # in the order of their last events

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        try:
            passed, body = await self._checked(scope, receive)
        except Refused as refused:
            await _answer(refused, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_encoded(HEADERS)]}
            await send(message)

        await self._application(passed, _replayed(body, receive), send_with_headers)

    async def _checked(self, scope: Message, receive: Receive) -> tuple[Message, bytes]:
        """Returns the scope and the body to pass on. Raises Refused."""
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        await self._check_access(headers, is_page=scope["path"] == "/")
        method, path = scope["method"], scope["path"]
        if method == "GET" and GET.fullmatch(path):
            if path.startswith(FILE) and not self._uploads.has(path.removeprefix(FILE)):
                raise Refused(404, "Not found")
            body = b""
        elif method == "POST" and path in POST:
            body = await _body(headers, receive, POST[path])
        else:
            raise Refused(404, "Not found")
        query = b""  # of others, Gradio reads further pages and saved states
        if path == JOIN:
            self._remember(_session_of(body, self._events))
        elif path == DATA:
            query = scope["query_string"]
            if query.decode("latin-1").removeprefix("session_hash=") not in self._sessions:
                raise Refused(404, "Not found")
        if method == "POST":
            await asyncio.to_thread(self._uploads.trim)
        # Gradio does not survive some ranges.
        kept = [(name, text) for name, text in scope["headers"] if name != b"range"]
        return {**scope, "query_string": query, "headers": kept}, body

    def _remember(self, session: str) -> None:
        self._sessions.pop(session, None)
        self._sessions[session] = None
        if len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    async def _check_access(self, headers: dict[str, str], *, is_page: bool) -> None:
        host = headers.get("host", "")
        if self._password is not None:
            given = headers.get("authorization", "")
            if not _is_password(given, self._password):
                await asyncio.sleep(WRONG_PASSWORD_SECONDS if given else 0)
                wanted = {"www-authenticate": 'Basic realm="playground", charset="UTF-8"'}
                raise Refused(401, "The password is missing or wrong", **wanted)
        elif not _is_own_host(host):
            # A foreign page can point its own host name at this machine.
            raise Refused(400, "Unknown host; use the address that the program has printed")
        # Other pages in the same browser.
        site = headers.get("sec-fetch-site", "none")
        if headers.get("origin", f"//{host}").partition("//")[2] != host or (
            site not in ("none", "same-origin") and not is_page
        ):
            raise Refused(403, "The request comes from another page")


def _is_password(authorization: str, password: str) -> bool:
    kind, _, text = authorization.partition(" ")
    try:
        given = base64.b64decode(text, validate=True).partition(b":")[2]
    except ValueError:
        return False
    return kind.lower() == "basic" and hmac.compare_digest(given, password.encode())


def _is_own_host(host: str) -> bool:
    """True if the host is an IP address, localhost or the name of this machine."""
    name = re.sub(r":\d*$", "", host).strip("[]").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", socket.gethostname().lower())
    return True


async def _body(headers: dict[str, str], receive: Receive, limit: int) -> bytes:
    """Receives a whole body. Raises Refused if it is too large or too slow."""
    too_large = Refused(413, f"The request is too large; at most {limit:,} bytes are allowed")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > limit:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request is incomplete")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, f"The request took more than {BODY_SECONDS} s") from None


def _session_of(body: bytes, events: Container[int]) -> str:
    """Returns the session of an event, whose data are checked elsewhere. Raises Refused."""
    try:
        event = json.loads(body)
        valid = (
            event.keys() <= EVENT_FIELDS
            and isinstance(event["data"], list)
            and type(event["fn_index"]) is int
            and event["fn_index"] in events
            and re.fullmatch(SESSION, event["session_hash"])
            and type(event.get("trigger_id", 0)) in (int, type(None))
            and event.get("event_data") is None
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise Refused(400, "The request is not an event of the page")
    return event["session_hash"]


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that starts with a body that has been received already."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(refused: Refused, send: Send) -> None:
    text = refused.text.encode()
    headers = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(text))}
    # The rest of a body that is too large would be taken for the next request.
    headers |= {"connection": "close", **HEADERS, **refused.headers}
    start = {"type": "http.response.start", "status": refused.status, "headers": _encoded(headers)}
    await send(start)
    await send({"type": "http.response.body", "body": text})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), text.encode()) for name, text in headers.items()]
