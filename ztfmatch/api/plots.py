"""Plots of a snapshot's lightcurves, as axes of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ztfmatch.api.running import Ids
from ztfmatch.query.area import Circle, cone_of

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

Filters = Sequence[str | int]
"""Filters by any of their names: g, zg or 1."""


class Plots:
    """Mixin with the plots of a snapshot, for a class with ``lightcurves``.

    Methods select objects by ``objectid`` or in a ``cone``, and return the given axes or new ones of pyplot, which a
    notebook shows. After ``%matplotlib widget`` (``ztfmatch[interactive]``) they are interactive.
    """

    def plot(
        self,
        objectid: Ids | None = None,
        cone: Circle | None = None,
        *,
        period: float | None = None,
        filters: Filters | None = None,
        axes: Axes | None = None,
    ) -> Axes:
        """Plot lightcurves, folded if a period in days is given; more than a hundred objects as a density.

        Raises
        ------
        ConfigError
            If there is no epoch with a magnitude.
        """
        from ztfmatch.plot import draw_lightcurves

        return draw_lightcurves(self._epochs(objectid, cone, filters), _options(cone, period), axes)

    def fold(
        self,
        period: float | None = None,
        objectid: Ids | None = None,
        cone: Circle | None = None,
        *,
        filters: Filters | None = None,
        axes: Axes | None = None,
    ) -> Axes:
        """Plot lightcurves folded with a period in days; by default that of the highest peak of the periodogram."""
        from ztfmatch.plot import draw_lightcurves, periodogram_of

        epochs = self._epochs(objectid, cone, filters)
        days = periodogram_of(epochs).period if period is None else period
        return draw_lightcurves(epochs, _options(cone, days), axes)

    def periodogram(
        self,
        objectid: Ids | None = None,
        cone: Circle | None = None,
        *,
        shortest_day: float = 0.1,
        longest_day: float | None = None,
        filters: Filters | None = None,
        axes: Axes | None = None,
    ) -> Axes:
        """Plot the multiband Lomb-Scargle periodogram of one star's good epochs.

        The title has the best period; :func:`ztfmatch.plot.periodogram_of` gives the numbers.
        """
        from ztfmatch.plot import periodogram_of

        epochs = self._epochs(objectid, cone, filters)
        return periodogram_of(epochs, shortest_day, longest_day).plot(axes, _options(cone, None).title)

    def _epochs(self, objectid: Ids | None, cone: Circle | None, filters: Filters | None) -> pa.Table:
        from ztfmatch.query.request import fids_of
        from ztfmatch.query.tables import of_filters

        rows = self.lightcurves(objectid=objectid, cone=cone)  # type: ignore[attr-defined]
        return rows if filters is None else of_filters(rows, fids_of(filters))


def _options(cone: Circle | None, period: float | None) -> Any:
    """Plot options for a cone and a period."""
    from ztfmatch.plot import PlotOptions

    if cone is None:
        return PlotOptions(period=period)
    place = cone_of(cone)
    title = f"Objects within {place.radius_arcsec:g} arcsec of RA {place.ra % 360.0:.5f}  Dec {place.dec:+.5f}"
    return PlotOptions(title, period, (place.ra, place.dec))
