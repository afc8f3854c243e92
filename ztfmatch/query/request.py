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
    """What is asked: rows of the objects that meet all that is given.

    Parameters
    ----------
    select : str
        ``objects``: their columns; ``statistics``: those and the statistics; ``lightcurves``: their epochs; ``stars``:
        the stars in an area, or of some objects, with what is known of them.
    where : str, optional
        Condition on columns of objects and statistics, such as ``"magrms > 0.1 and nobs > 50"``; of stars on theirs.
    epochs : str, optional
        Condition on the epochs of lightcurves, such as ``"catflags == 0"``.
    cone : (ra, dec, radius) or (SkyCoord, radius), optional
        Numbers are degrees (ICRS), and arcsec for the radius; texts may be sexagesimal, or have a unit such as
        ``"3arcmin"``; quantities of astropy do as well.
    box : (west, east, south, north), optional
        Degrees; west > east goes over RA 0.
    polygon : (ra, dec, ra, dec, ...), optional
        Vertices in degrees, joined by great circles.
    moc : path, optional
        Coverage map (MOC): FITS, JSON or ASCII, or such gzipped.
    objectids : int or sequence of int, optional
    columns : str or sequence of str, optional
        Columns wanted; all by default.
    filters : str, int or sequence of these, optional
        Only objects in these: ``g``, ``zg`` or 1, and so on.
    positions : object, optional
        Many places at once, each with its objects within ``radius``: path of a file (.csv, .parquet, .ecsv, .fits,
        .xml), a table with columns ``ra``, ``dec`` and perhaps ``id``, or a SkyCoord of many. Rows begin with the
        position's ``id`` and the object's ``separation`` from it in arcsec.
    radius : float, str or Quantity
        About each of the positions: arcsec, or with its unit; at most a degree.
    status : str, optional
        Of which objects: ``active``, ``retired`` (a newer reference replaced theirs; they have no epochs any more) or
        ``any``. By default those that are active; where objectids are given, any.
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
        """One objectid, column or filter stands for a list of it."""
        for name in ("objectids", "columns", "filters"):
            value = getattr(self, name)
            if isinstance(value, str | Integral):
                object.__setattr__(self, name, (value,))

    @property
    def area(self) -> areas.Area | None:
        """Part of the sky that is asked for; None for all of it.

        Raises
        ------
        ConfigError
            If several are given, or one cannot be.
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
    """Ids of filters by their names.

    Raises
    ------
    ConfigError
        If one is no filter's.
    """
    names = [str(name) for name in ([filters] if isinstance(filters, str) else filters)]
    for name in names:
        if name not in FILTER_NAMES:
            raise ConfigError(f"filter {name!r}; expected one of {', '.join(FILTER_NAMES)}")
    if not names:
        raise ConfigError("no filter is given; expected some of g, r, i")
    return sorted({FILTER_NAMES[name] for name in names})
