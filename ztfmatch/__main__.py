"""``ztfmatch``, and ``python -m ztfmatch``, is the command line."""

from __future__ import annotations

import signal
import sys


def run() -> None:
    """Run it; what interrupts while it is loaded has the same answer as later."""
    try:
        from ztfmatch.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("ztfmatch: interrupted by SIGINT\n")
        sys.exit(128 + signal.SIGINT)
    main()


if __name__ == "__main__":
    run()
