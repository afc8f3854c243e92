"""The commands of the command line, those of groups by their full names."""

from __future__ import annotations

import click

from ztfmatch.cli import main


def leaves(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    """All commands that do something, by the words that call them."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= leaves(command, f"{above}{name} ") if isinstance(command, click.Group) else {above + name: command}
    return found
