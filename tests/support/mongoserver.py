"""A MongoDB engine on the loopback, and a proxy before it that breaks what a test scripts.

The engine is SecantusDB (WiredTiger, MongoDB's wire protocol), a process of its own; with ZTFMATCH_TEST_MONGO_URI the
same tests run against the server that it names, without the proxy.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bson import decode, encode

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_MORE_TO_COME = 2
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


@dataclass
class Fault:
    """What happens to the next commands of a name: some pass, some fail, before or after they were carried out."""

    command: str
    passing: int = 0
    failing: int = 1
    after: bool = False
    """The command is carried out, and its answer is lost."""
    code: int | None = None
    """Answered with this error; None hangs up."""


@dataclass
class Faults:
    """What is to break, and the names of all commands that came."""

    faults: list[Fault] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, command: str) -> Fault | None:
        """The fault of a command that came."""
        with self.lock:
            self.commands.append(command)
            for fault in self.faults:
                if fault.command == command and fault.failing:
                    if fault.passing:
                        fault.passing -= 1
                        return None
                    fault.failing -= 1
                    return fault
            return None


class _HangUp(Exception):
    """The connection ends."""


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine_port, self.faults = port, Faults()


class _Handler(socketserver.BaseRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        with (
            contextlib.suppress(OSError, _HangUp),
            socket.create_connection(("127.0.0.1", self.server.engine_port)) as engine,
        ):
            while True:
                message = _message(self.request)
                fault = self.server.faults.next(_command(message))
                if fault is None or fault.after:
                    engine.sendall(message)
                    answers = list(_answers(engine))
                if fault is not None:
                    answers = [_scripted(message, fault)]
                for answer in answers:
                    self.request.sendall(answer)


def _message(connection: socket.socket) -> bytes:
    """The next message, whole."""
    header = _read(connection, _HEADER.size)
    return header + _read(connection, _HEADER.unpack(header)[0] - _HEADER.size)


def _read(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise _HangUp
        content += part
    return bytes(content)


def _command(message: bytes) -> str:
    """Name of the command of an OP_MSG, whose first section is its document; of the older handshake none."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return ""
    at = _HEADER.size + 4
    while message[at] != 0:  # documents that belong to the command
        at += 1 + struct.unpack_from("<i", message, at + 1)[0]
    size = struct.unpack_from("<i", message, at + 1)[0]
    return next(iter(decode(message[at + 1 : at + 1 + size])))


def _answers(engine: socket.socket) -> Iterator[bytes]:
    """The engine's answer to a message; a stream of them where it says so."""
    more = True
    while more:
        answer = _message(engine)
        more = _HEADER.unpack_from(answer)[3] == _OP_MSG and bool(answer[_HEADER.size] & _MORE_TO_COME)
        yield answer


def _scripted(message: bytes, fault: Fault) -> bytes:
    if fault.code is None:
        raise _HangUp
    body = struct.pack("<iB", 0, 0) + encode({"ok": 0.0, "errmsg": "scripted", "code": fault.code, "codeName": "Test"})
    return _HEADER.pack(_HEADER.size + len(body), 0, _HEADER.unpack_from(message)[1], _OP_MSG) + body


@contextlib.contextmanager
def mongo_engine(directory: Path, *options: object) -> Iterator[int]:
    """Port of a running engine that keeps its data in a directory."""
    program = shutil.which("secantusd-py", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("SecantusDB is not installed: pip install 'ztfmatch[test]'")
    command = [sys.executable, program, "--port", "0", "--standalone", "--storage-path", str(directory)]
    words = [*command, *map(str, options)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=directory.parent) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = _LISTENING.search(said)
            assert found, said + process.stderr.read()
            threading.Thread(target=process.stderr.read, daemon=True).start()  # else what it says fills the pipe
            yield int(found[1])
        finally:
            process.terminate()


@contextlib.contextmanager
def mongo_server() -> Iterator[tuple[str, Faults]]:
    """URI of a running engine behind a proxy, and what the proxy breaks."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ztfmatch-mongo-")))
        proxy = stack.enter_context(_Proxy(stack.enter_context(mongo_engine(place / "data"))))
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            # polled: an engine that is told to have failed does not announce, as a failing one does, that it is back
            options = "directConnection=true&serverMonitoringMode=poll"
            yield f"mongodb://127.0.0.1:{proxy.server_address[1]}/kowalski?{options}", proxy.faults
        finally:
            proxy.shutdown()
            thread.join()


def documents(uri: str, collection: str) -> dict[Any, dict[str, Any]]:
    """Documents of a collection of the URI's database, by _id."""
    import pymongo

    with pymongo.MongoClient(uri) as client:
        return {one["_id"]: one for one in client.get_default_database()[collection].find()}
