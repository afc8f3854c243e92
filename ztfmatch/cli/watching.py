"""How far the operations are that run on a store, as seen from another shell."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from ztfmatch.cli.common import open_store
from ztfmatch.cli.progress import how_far
from ztfmatch.core.display import duration_text

if TYPE_CHECKING:
    from ztfmatch.core.runner.heartbeat import Beat

LOOK_S: Final = 5.0


def watch_operations(store: str, as_json: bool) -> None:
    """Print how far each operation on a store is, a line each, every few seconds until none runs."""
    from ztfmatch.core.runner.heartbeat import SILENT_S, beats

    storage = open_store(store).storage
    while True:
        found = beats(storage)
        for beat in found:
            click.echo(json.dumps(asdict(beat)) if as_json else beat_line(beat, time.time()))
        if not any(time.time() - beat.written < SILENT_S for beat in found):
            break
        time.sleep(LOOK_S)
    if not found and not as_json:
        click.echo("No operation runs (one tells of itself when its tasks have run for 10 s).")


def beat_line(beat: Beat, now: float) -> str:
    """A line such as ``matching: 1,204 of 18,400, 12.3/s, 23 min left; node1:4711, 4 s ago``."""
    from ztfmatch.core.runner.heartbeat import SILENT_S

    far = how_far(beat.title, (beat.done, beat.total), beat.written - beat.started, beat.failed)
    ago = duration_text(round(max(0.0, now - beat.written)))
    end = f"silent for {ago}: it was killed" if now - beat.written >= SILENT_S else f"{ago} ago"
    return f"{far}; {beat.process}, {end}"
