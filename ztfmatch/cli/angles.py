"""Angles on the command line, with their unit."""

from __future__ import annotations

from typing import Any, Final

import click

from ztfmatch.core.errors import ConfigError

CONE: Final = (float, float, str)
"""Types of RA, DEC and RADIUS, which the interface to Python understands with its unit."""


class Radius(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A radius in arcsec, as in 1.5 or 1.5arcsec."""

    name = "radius"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Arcsec of the text."""
        from ztfmatch.query.area import radius_of

        try:
            return radius_of(value, "arcsec")
        except ConfigError as error:
            self.fail(str(error), param, ctx)
