"""Commands that exchange data with other formats: groups import and export, one command a format."""

from __future__ import annotations

import click


@click.group("import")
def import_() -> None:
    """Take other formats into a store."""


@click.group("export")
def export() -> None:
    """Write what a store holds in other formats."""
