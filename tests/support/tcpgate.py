"""A way through for TCP that can be cut: connections stay open and say nothing more, as when a network falls apart."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Gate:
    """Listens on a free port of the loopback and passes bytes on to another one, until it is cut.

    Parameters
    ----------
    target : int
        Port of the loopback.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = 0
        """Bytes so far."""

    def cut(self) -> None:
        """Let nothing through any more, in either direction, of connections old and new."""
        self._cut.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                if self._cut.is_set():
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                if self._cut.is_set():
                    return
                sink.sendall(content)
                self.passed += len(content)
            if not self._cut.is_set():
                sink.shutdown(socket.SHUT_WR)
