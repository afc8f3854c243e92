"""What to simulate: one frozen dataclass, checked across its fields before anything is written."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ztfmatch.core.camera import field_centre
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.survey import FILTER_CODES, N_RCID

SLOT_S: Final = 45.0
"""From one exposure's start to the next: 30 s open, then readout and slew."""

NIGHT: Final = (0.12, 0.52)
"""Beginning and end of a night at Palomar as fractions of the UT day."""

SLOTS_PER_NIGHT: Final = int((NIGHT[1] - NIGHT[0]) * 86_400 / SLOT_S)

MAX_STARS_PER_QUADRANT: Final = 300_000
"""Above this a catalog cannot keep its sources apart."""

_FRACTIONS: Final = (
    "epoch_depth",
    "variable_fraction",
    "lost_fraction",
    "spurious_fraction",
    "bad_fraction",
    "nonpositive_fraction",
    "hosted_fraction",
)
_NON_NEGATIVE: Final = (
    "seed",
    "depth_scatter",
    "transients_per_quadrant",
    "dither_arcsec",
    "rotation_deg",
    "systematics",
)


@dataclass(frozen=True)
class SimulationConfig:
    """Settings of a simulated data set; the defaults make a demonstration within a minute.

    Parameters
    ----------
    seed : int
        Two runs with equal settings write equal bytes.
    fields : tuple of int
        Survey fields. The defaults are neighbours that overlap.
    rcids : tuple of int
        Readout channels simulated in every field. The defaults lie in the overlap: the eastern edge of the
        first field, the western edge of the second.
    filters : tuple of int
        Filter ids: 1 g, 2 r, 3 i.
    n_exposures : int
        Exposures of each field in each filter.
    stars_per_quadrant : int
        Mean number of seeds of a reference; 18,833 in the real one that the magnitudes follow.
    dense_field : int, optional
        Field at whose centre the sky is denser; None for none.
    dense_factor : float
        How many times denser there; falls off with a scale of 4 degrees.
    epoch_depth : float
        Part of the reference's stars that a typical exposure is deep enough to detect.
    depth_scatter : float
        Scatter of that part from exposure to exposure, natural logarithm.
    start_mjd : float
        First night; the fraction is ignored.
    n_nights : int
        Nights over which the exposures are spread.
    variable_fraction : float
        Part of the stars that vary.
    transients_per_quadrant : float
        Mean number of transients, which no reference holds.
    hosted_fraction : float
        Part of the transients that stand 2.1 to 2.5 arcsec from a star that is somewhat fainter than their peak, as a
        supernova beside its host; a reference cannot keep the two apart while both shine.
    lost_fraction : float
        Detections lost at random, on top of those too faint.
    spurious_fraction : float
        False detections, relative to the real ones.
    bad_fraction : float
        Part of the exposures spoilt by cloud or moon.
    nonpositive_fraction : float
        Part of the rows with a flux below zero.
    dither_arcsec, rotation_deg : float
        Scatter of the pointing, per axis, and of its position angle.
    systematics : float
        Size of the three photometric systematics relative to the real ones; 0 turns them off.
    full_headers : bool
        Whether catalogs also hold the keys that the survey keeps only in its exposure table.
    truth : bool
        Whether to write the truth.
    reference : Path, optional
        A real refpsfcat that takes the place of the sky: it gives the stars, and with them the only field,
        channel and filter.
    """

    seed: int = 1
    fields: tuple[int, ...] = (679, 680)
    rcids: tuple[int, ...] = (16, 29)
    filters: tuple[int, ...] = (1, 2)
    n_exposures: int = 30
    stars_per_quadrant: int = 5_000
    dense_field: int | None = None
    dense_factor: float = 5.0
    epoch_depth: float = 0.4
    depth_scatter: float = 0.12
    start_mjd: float = 58_300.0
    n_nights: int = 120
    variable_fraction: float = 0.02
    transients_per_quadrant: float = 6.0
    hosted_fraction: float = 0.0
    lost_fraction: float = 0.02
    spurious_fraction: float = 0.01
    bad_fraction: float = 0.1
    nonpositive_fraction: float = 1e-4
    dither_arcsec: float = 40.0
    rotation_deg: float = 0.01
    systematics: float = 1.0
    full_headers: bool = False
    truth: bool = True
    reference: Path | None = None

    def validate(self) -> None:
        """Check every setting, alone and against the others.

        Raises
        ------
        ConfigError
            With the setting, its value and what was expected.
        """
        self._check_sky()
        self._check_time()
        for name in _FRACTIONS:
            _require(0.0 <= getattr(self, name) <= 1.0, name, getattr(self, name), "0 to 1")
        for name in _NON_NEGATIVE:
            value = getattr(self, name)
            _require(value >= 0 and math.isfinite(value), name, value, "a number not below 0")
        _require(self.dither_arcsec <= 300.0, "dither_arcsec", self.dither_arcsec, "at most 300")
        _require(self.rotation_deg <= 0.1, "rotation_deg", self.rotation_deg, "at most 0.1")

    def _check_sky(self) -> None:
        for name in ("fields", "rcids", "filters"):
            values = getattr(self, name)
            _require(len(values) > 0, name, values, "at least one")
            _require(len(set(values)) == len(values), name, values, "each once")
        for field in self.fields if self.dense_field is None else (*self.fields, self.dense_field):
            field_centre(field)
        _require(all(0 <= r < N_RCID for r in self.rcids), "rcids", self.rcids, f"0 to {N_RCID - 1}")
        _require(set(self.filters) <= set(FILTER_CODES), "filters", self.filters, "of 1, 2, 3")
        limit = MAX_STARS_PER_QUADRANT
        densest = self.stars_per_quadrant * (1.0 if self.dense_field is None else max(self.dense_factor, 1.0))
        _require(self.stars_per_quadrant >= 1, "stars_per_quadrant", self.stars_per_quadrant, "at least 1")
        _require(self.dense_factor > 0.0, "dense_factor", self.dense_factor, "above 0")
        _require(densest <= limit, "stars_per_quadrant", densest, f"at most {limit} where densest")
        if self.reference is not None:
            _require(Path(self.reference).is_file(), "reference", self.reference, "an existing refpsfcat file")

    def _check_time(self) -> None:
        for name in ("n_exposures", "n_nights"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(51_544 <= self.start_mjd <= 88_000, "start_mjd", self.start_mjd, "51544 to 88000 (2000 to 2099)")
        visits = self.n_exposures * len(self.fields) * len(self.filters)
        room = self.n_nights * SLOTS_PER_NIGHT
        if visits > room:
            raise ConfigError(
                f"{visits} exposures do not fit in n_nights={self.n_nights}: a night has room for "
                f"{SLOTS_PER_NIGHT}; give at least {-(-visits // SLOTS_PER_NIGHT)} nights"
            )

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; of the reference only its name, so that equal data give equal files."""
        values = asdict(self)
        values["reference"] = None if self.reference is None else Path(self.reference).name
        return values


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} is {value}; expected {expected}")
