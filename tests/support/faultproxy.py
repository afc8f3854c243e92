"""An HTTP proxy that breaks the requests that a plan names: no randomness, so a failing test fails again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Fault(Enum):
    """What becomes of a request."""

    NONE = "forwarded, and answered"
    ERROR_500 = "answered with 500, not forwarded"
    SLOW_DOWN_503 = "answered with 503, not forwarded"
    DROP_BEFORE = "connection closed, not forwarded"
    DROP_AFTER = "forwarded, connection closed without an answer"
    ERROR_AFTER = "forwarded, answered with 500"
    CUT_BODY = "forwarded, connection closed in the middle of the answer"
    CONFLICT_409 = "answered with 409, not forwarded: S3's answer to requests for one name at once"
    NO_CONDITION = "forwarded without its condition, as by a service that knows none"
    REFUSED_409 = "forwarded; a refusal is answered with 409 in place of 412"
    REFUSED_304 = "forwarded; a refusal is answered with 304 in place of 412"
    NOT_IMPLEMENTED_501 = "answered with 501, not forwarded"
    QUOTES_REQUEST = "answered with 403 that quotes the request's headers, as S3's does"


@dataclass(frozen=True)
class Request:
    """What a plan decides by."""

    number: int
    """Counted from 1."""
    method: str
    path: str
    """With the query."""


Plan = Callable[[Request], Fault]


def undisturbed(request: Request) -> Fault:
    """Break nothing."""
    return Fault.NONE


def every(n: int, *faults: Fault) -> Plan:
    """Break each n-th request, by these faults in turn."""

    def plan(request: Request) -> Fault:
        turn, rest = divmod(request.number, n)
        return Fault.NONE if rest else faults[(turn - 1) % len(faults)]

    return plan


def always(fault: Fault) -> Plan:
    """Break everything."""
    return lambda request: fault


def first(method: str, part: str, fault: Fault, times: int = 1) -> Plan:
    """Break the first requests of a method whose path has a part; the others pass."""
    left = [times]

    def plan(request: Request) -> Fault:
        if request.method != method or part not in request.path or not left[0]:
            return Fault.NONE
        left[0] -= 1
        return fault

    return plan


@dataclass
class FaultProxy:
    """Listens on a free port of the loopback and forwards to another one, but for the faults of its plan."""

    target: tuple[str, int]
    plan: Plan = undisturbed
    seen: list[tuple[Request, Fault]] = field(default_factory=list)
    """All requests since the plan was set, in order."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def follow(self, plan: Plan) -> None:
        """Change the plan; requests are counted from 1 again."""
        with self._lock:
            self.plan = plan
            self.seen.clear()

    def decide(self, method: str, path: str) -> Fault:
        """Fate of the next request."""
        with self._lock:
            request = Request(len(self.seen) + 1, method, path)
            fault = self.plan(request)
            self.seen.append((request, fault))
            return fault

    def broken(self) -> list[Fault]:
        """Faults that happened."""
        return [fault for _, fault in self.seen if fault is not Fault.NONE]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.decide(self.command, self.path)
        if fault is Fault.DROP_BEFORE:
            return self._hang_up()
        if fault is Fault.ERROR_500:
            return self._answer(500, {}, _error("InternalError"))
        if fault is Fault.SLOW_DOWN_503:
            return self._answer(503, {}, _error("SlowDown"))
        if fault is Fault.CONFLICT_409:
            return self._answer(409, {}, _error("ConditionalRequestConflict"))
        if fault is Fault.NOT_IMPLEMENTED_501:
            return self._answer(501, {}, _error("NotImplemented"))
        if fault is Fault.QUOTES_REQUEST:
            return self._answer(403, {}, _error("SignatureDoesNotMatch", str(self.headers)))
        if fault is Fault.NO_CONDITION:
            del self.headers["If-None-Match"]
        status, headers, answer = self._forward(body)
        if fault is Fault.DROP_AFTER:
            return self._hang_up()
        if fault is Fault.ERROR_AFTER:
            return self._answer(500, {}, _error("InternalError"))
        if status == 412 and fault is Fault.REFUSED_409:
            return self._answer(409, {}, _error("ConditionalRequestConflict"))
        if status == 412 and fault is Fault.REFUSED_304:
            return self._answer(304, {}, b"")
        return self._answer(status, headers, answer, cut=fault is Fault.CUT_BODY)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(*self.server.proxy.target, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer: HTTPResponse = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                headers["Content-Length"] = answer.getheader("Content-Length") or "0"
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _error(code: str, quoted: str = "") -> bytes:
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as planned</Message>"
        f"<CanonicalRequest>{quoted}</CanonicalRequest></Error>"
    ).encode()
