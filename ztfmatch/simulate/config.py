"""What to simulate: one frozen dataclass, checked across its fields before anything is written."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from ztfmatch.core.camera import field_centre
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.settings import AtLeastOne, Fraction, Validated
from ztfmatch.core.survey import N_RCID

SLOT_S: Final = 45.0
"""From one exposure's start to the next: 30 s open, then readout and slew."""

NIGHT: Final = (0.12, 0.52)
"""Beginning and end of a night at Palomar as fractions of the UT day."""

SLOTS_PER_NIGHT: Final = int((NIGHT[1] - NIGHT[0]) * 86_400 / SLOT_S)

MAX_STARS_PER_QUADRANT: Final = 300_000
"""Above this a catalog cannot keep its sources apart."""

_NonNegative = Annotated[float, Meta(ge=0.0, le=sys.float_info.max, description="a number not below 0")]
_Rcid = Annotated[int, Meta(ge=0, lt=N_RCID, description=f"0 to {N_RCID - 1}")]
_Filter = Annotated[int, Meta(ge=1, le=3, description="1 (g), 2 (r) or 3 (i)")]
_SOME: Final = Meta(min_length=1, description="at least one")


@dataclass(frozen=True)
class SimulationConfig(Validated):
    """Settings of a simulated data set; the defaults make a demonstration within a minute."""

    seed: Annotated[int, Meta(ge=0, description="a number not below 0")] = 1
    """Two runs with equal settings write equal bytes."""
    fields: Annotated[tuple[int, ...], _SOME] = (679, 680)
    """Survey fields. The defaults are neighbours that overlap."""
    rcids: Annotated[tuple[_Rcid, ...], _SOME] = (16, 29)
    """Readout channels simulated in every field. The defaults lie in the overlap: the eastern edge of the first field,
    the western edge of the second."""
    filters: Annotated[tuple[_Filter, ...], _SOME] = (1, 2)
    """Filter ids: 1 g, 2 r, 3 i."""
    n_exposures: AtLeastOne = 30
    """Exposures of each field in each filter."""
    stars_per_quadrant: AtLeastOne = 5_000
    """Mean number of seeds of a reference; 18,833 in the real one that the magnitudes follow."""
    dense_field: int | None = None
    """Field at whose centre the sky is denser; None for none."""
    dense_factor: Annotated[float, Meta(gt=0.0, description="above 0")] = 5.0
    """How many times denser there; falls off with a scale of 4 degrees."""
    epoch_depth: Fraction = 0.4
    """Part of the reference's stars that a typical exposure is deep enough to detect."""
    depth_scatter: _NonNegative = 0.12
    """Scatter of that part from exposure to exposure, natural logarithm."""
    start_mjd: Annotated[float, Meta(ge=51_544, le=88_000, description="51544 to 88000 (2000 to 2099)")] = 58_300.0
    """First night; the fraction is ignored."""
    n_nights: AtLeastOne = 120
    """Nights over which the exposures are spread."""
    variable_fraction: Fraction = 0.02
    """Part of the stars that vary."""
    transients_per_quadrant: _NonNegative = 6.0
    """Mean number of transients, which no reference holds."""
    hosted_fraction: Fraction = 0.0
    """Part of the transients that stand 2.1 to 2.5 arcsec from a star that is somewhat fainter than their peak, as a
    supernova beside its host; a reference cannot keep the two apart while both shine."""
    lost_fraction: Fraction = 0.02
    """Detections lost at random, on top of those too faint."""
    spurious_fraction: Fraction = 0.01
    """False detections, relative to the real ones."""
    bad_fraction: Fraction = 0.1
    """Part of the exposures spoilt by cloud or moon."""
    nonpositive_fraction: Fraction = 1e-4
    """Part of the rows with a flux below zero."""
    bad_references: Fraction = 0.0
    crowded_references: Fraction = 0.0
    """Parts of the first references that are suspect (a gradient, a cloud's edge, few images), and so crowded that they
    are confused. Regenerated ones are good."""
    dither_arcsec: Annotated[float, Meta(ge=0.0, le=300.0, description="0 to at most 300")] = 40.0
    rotation_deg: Annotated[float, Meta(ge=0.0, le=0.1, description="0 to at most 0.1")] = 0.01
    """Scatter of the pointing, per axis, and of its position angle."""
    systematics: _NonNegative = 1.0
    """Size of the three photometric systematics relative to the real ones; 0 turns them off."""
    flat_step: _NonNegative = 0.0
    """Size of a second map that is added to the position map from half-way in time on, relative to a real map."""
    flat_drift: _NonNegative = 0.0
    """Of a pattern that grows linearly and with the seasons, mag a year (root mean square over the quadrant)."""
    colour_bias: _NonNegative = 0.0
    """Coefficient of a bias with the square of the colour, beside a fifth of it linear, by channel; mag/mag^2."""
    cloudy_fraction: Fraction = 0.0
    cloud_gradient: _NonNegative = 0.03
    """Part of the exposures that have a gradient, channel by channel, and its largest size from the middle of the
    quadrant to an edge, mag."""
    ps1_outliers: Fraction = 0.005
    """Part of the PS1 stars that are off by 0.1 to 1 mag, which nothing tells."""
    full_headers: bool = False
    """Whether catalogs also hold the keys that the survey keeps only in its exposure table."""
    truth: bool = True
    """Whether to write the truth."""
    reference: Path | None = None
    """A real refpsfcat that takes the place of the sky: it gives the stars, and with them the only field, channel and
    filter."""

    def _validate(self) -> None:
        for name in ("fields", "rcids", "filters"):
            values = getattr(self, name)
            _require(len(set(values)) == len(values), name, values, "each once")
        for field in self.fields if self.dense_field is None else (*self.fields, self.dense_field):
            field_centre(field)
        limit = MAX_STARS_PER_QUADRANT
        densest = self.stars_per_quadrant * (1.0 if self.dense_field is None else max(self.dense_factor, 1.0))
        _require(densest <= limit, "stars_per_quadrant", densest, f"at most {limit} where densest")
        if self.reference is not None:
            _require(Path(self.reference).is_file(), "reference", self.reference, "an existing refpsfcat file")
        visits = self.n_exposures * len(self.fields) * len(self.filters)
        if visits > self.n_nights * SLOTS_PER_NIGHT:
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
