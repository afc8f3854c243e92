"""``ztfmatch``, and ``python -m ztfmatch``, is the command line."""

from __future__ import annotations

import os
import signal
import sys


def run() -> None:
    """Run it; what interrupts while it is loaded has the same answer as later."""
    _open_closed_streams()
    try:
        from ztfmatch.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("ztfmatch: interrupted by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
    try:
        main()
    except OSError as error:  # of a full disk, where the command's own answer could not be written
        sys.exit(f"ztfmatch: {error.strerror or error}")


def _open_closed_streams() -> None:
    """Streams that the caller closed (``>&-``) are empty ones: else the next file that is opened has their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115


if __name__ == "__main__":
    run()
