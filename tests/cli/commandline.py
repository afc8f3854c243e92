"""How tests call the command line, and the scene that they call it on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from ztfmatch.cli import main

PROJECT = Path(__file__).parents[2]
SMALL = ("--fields", "679", "--rcids", "16", "--filter", "zg", "--visits", "4", "--stars", "200")


def call(*arguments: object) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object) -> str:
    """Output of a command that must succeed."""
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def report(*arguments: object) -> Any:
    """What a command that must succeed says with --json."""
    return json.loads(done(*arguments, "--json"))


@dataclass(frozen=True)
class Scene:
    """Where the sky and its store are."""

    sky: Path
    store: Path

    @property
    def append(self) -> tuple[object, ...]:
        """Arguments that take in all its catalogs."""
        return "append", self.store, self.sky / "catalogs", "--exposures", self.sky / "exposures.csv"
