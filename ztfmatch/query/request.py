"""The parameters of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Final, Literal

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.schema.sky import ACTIVE, RETIRED
from ztfmatch.core.survey import FILTER_NAMES
from ztfmatch.query import area as areas
from ztfmatch.query.io.positionlist import position_list
from ztfmatch.query.kernels.angles import Angle, radius_of
from ztfmatch.query.positions import Spots

Kind = Literal["objects", "statistics", "lightcurves", "stars"]
KINDS: Final = ("objects", "statistics", "lightcurves", "stars")

Status = Literal["active", "retired", "any"]
STATUSES: Final = (ACTIVE, RETIRED, "any")


@dataclass(frozen=True)
class Query:
    """A query for the objects, or their rows, that meet all conditions.

    Parameters
    ----------
    select : str
        ``objects``: their columns; ``statistics``: also their statistics; ``lightcurves``: their epochs; ``stars``: the
        stars in an area, or of some objects, with their statistics.
    where : str, optional
        Condition on columns of objects and statistics, such as ``"magrms > 0.1 and nobs > 50"``, or of stars.
    epochs : str, optional
        Condition on the epochs of lightcurves, such as ``"catflags == 0"``.
    cone : (ra, dec, radius) or (SkyCoord, radius), optional
        Numbers are degrees (ICRS), for the radius arcsec; strings may be sexagesimal, or have a unit such as
        ``"3arcmin"``; astropy quantities are accepted, too.
    box : (west, east, south, north), optional
        Degrees; west > east crosses RA 0.
    polygon : (ra, dec, ra, dec, ...), optional
        Vertices in degrees, connected by great circles.
    moc : path, optional
        Coverage map (MOC) as FITS, JSON or ASCII; may be gzipped.
    objectids : int or sequence of int, optional
    columns : str or sequence of str, optional
        Columns to return; all by default.
    filters : str, int or sequence of these, optional
        Only objects in these filters: ``g``, ``zg`` or 1, and so on.
    positions : object, optional
        Many positions, each to be matched to objects within ``radius``: path of a file (.csv, .parquet, .ecsv, .fits,
        .xml), a table with columns ``ra``, ``dec`` and optionally ``id``, or a SkyCoord array. Rows begin with the
        ``id`` of the position and the ``separation`` of the object in arcsec.
    radius : float, str or Quantity
        Radius around the positions: arcsec, or with a unit; at most a degree.
    status : str, optional
        ``active`` objects, ``retired`` ones (replaced with their reference; they have no epochs any more) or ``any``.
        By default ``active``, with objectids ``any``.
    """

    select: Kind = "objects"
    where: str | None = None
    epochs: str | None = None
    _: KW_ONLY
    cone: areas.Circle | None = None
    box: tuple[float, float, float, float] | None = None
    polygon: tuple[float, ...] | None = None
    moc: Path | str | None = None
    objectids: Sequence[int] | None = None
    columns: Sequence[str] | None = None
    status: Status | None = None
    filters: Sequence[str | int] | None = None
    positions: Any = None
    radius: Angle = "2arcsec"

    def __post_init__(self) -> None:
        """Wrap a single objectid, column or filter in a tuple."""
        for name in ("objectids", "columns", "filters"):
            value = getattr(self, name)
            if isinstance(value, str | Integral):
                object.__setattr__(self, name, (value,))

    @property
    def area(self) -> areas.Area | None:
        """The area of the query; None for the whole sky.

        Raises
        ------
        ConfigError
            If several are given, or one is invalid.
        """
        given = [name for name in ("cone", "box", "polygon", "moc", "positions") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} contradict each other: give one of them")
        if self.cone is not None:
            return areas.cone_area(self.cone)
        if self.box is not None:
            if len(self.box) != 4:
                raise ConfigError(f"a box of {len(self.box)} numbers; expected west, east, south and north")
            return areas.box_area(*self.box)
        if self.polygon is not None:
            return areas.polygon_area(self.polygon)
        if self.positions is not None:
            return Spots.of(position_list(self.positions), radius_of(self.radius, "arcsec"))
        return None if self.moc is None else areas.moc_area(Path(self.moc))


def fids_of(filters: Sequence[str | int]) -> list[int]:
    """Filter ids from names.

    Raises
    ------
    ConfigError
        If one is unknown.
    """
    names = [str(name) for name in ([filters] if isinstance(filters, str) else filters)]
    for name in names:
        if name not in FILTER_NAMES:
            raise ConfigError(f"filter {name!r}; expected one of {', '.join(FILTER_NAMES)}")
    if not names:
        raise ConfigError("no filter is given; expected some of g, r, i")
    return sorted({FILTER_NAMES[name] for name in names})
