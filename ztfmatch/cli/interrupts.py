"""What a signal does to a command: it ends in order, with the signal's exit code and one line on what stands."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end; as a KeyboardInterrupt nothing takes it for a failure of a task."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.signum).name

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 of SIGINT, 143 of SIGTERM."""
        return 128 + self.signum


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A block in which the signals that ask a process to end raise Interrupted; those that are ignored stay so.

    While it ends, only SIGINT interrupts again: a batch system that loses patience kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in _ENDING}
    taken = [signum for signum, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]

    def interrupt(signum: int, _: FrameType | None) -> NoReturn:
        for other in taken:
            if other != signal.SIGINT:
                signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    for signum in taken:
        signal.signal(signum, interrupt)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, before[signum])
