"""Checks of a store and the sums of their findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ztfmatch.core.tasks.verifyepochs import Findings

CHECKS: Final = {
    "order": "rows of each detection file are in order, each once",
    "ledger": "every detection and orphan belongs to an exposure of the ledger",
    "unit": "its unit is the exposure's",
    "match": "the nearest seed of its unit, within the radius, is its object",
    "one-epoch-an-exposure": "an object has at most one epoch of an exposure",
    "nearer-detection": "what lost to another detection lost to a nearer one",
    "reason": "the reason of each orphan is what the seeds of its unit say",
    "tile": "every row lies in its own tile",
    "corrections": "the store holds the corrections that each exposure names, whole",
    "mag": "mag is MAGZP - 2.5 log10(psfflux) less the exposure's corrections, to the last bit (not where imported)",
    "magerr": "magerr is the error model's, or the catalog's sigma, to the last bit (not where imported)",
    "corrflags": "corrflags say which corrections were taken off",
    "catflags": "catflags follow from flags and the exposure's quality (not where imported)",
    "hmjd": "hmjd is heliocentric mid-exposure (within a second where imported)",
    "conservation": "for each exposure, rows = matched + orphans + rejected, as stored",
    "digest": "for each exposure, the stored measured values are the catalog's, to the last bit",
    "exposures-once": "no exposure is in the ledger twice",
    "transients": "a transient is of orphans of its unit, one an exposure, about the one that it is named after",
    "stars": "an active object is of one star, the one that the objects near say (not where they are newer)",
    "starstatistics": "magnitudes of stars are those of all their epochs, to the last bit (not where these are newer)",
    "offsets": "offsets of units are those that shared stars give (not where statistics or stars are newer)",
    "objects": "the active objects of each unit are as many as its reference has seeds",
    "newest": "no file that was committed is of a later snapshot than the newest, whose record would be lost",
    "log": "every snapshot has its record, whole and of this store (with --deep)",
    "catalogs": "catalogs that are where they were have the checksums of their headers, where any (with --deep)",
    "checksum": "every file has the bytes that were written (with --deep)",
}
"""What each check proves."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check."""

    check: str
    proves: str
    checked: int
    violations: int
    example: str | None

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return self.violations == 0


class Found:
    """Findings of all tasks, added up."""

    def __init__(self) -> None:
        self._checked: dict[str, int] = {}
        self._violations: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, results: Iterable[Findings]) -> None:
        """Add what tasks found."""
        for result in results:
            for check, number in result.checked.items():
                self.note(check, number, result.violations[check], result.examples.get(check))

    def note(self, check: str, checked: int, violations: int, example: str | None) -> None:
        """Add the outcome of a check; of all examples the first is kept."""
        self._checked[check] = self._checked.get(check, 0) + checked
        self._violations[check] = self._violations.get(check, 0) + violations
        if example is not None:
            self._examples.setdefault(check, example)

    def results(self) -> list[CheckResult]:
        """Outcome of all checks that were made."""
        return [
            CheckResult(
                check, proves, self._checked.get(check, 0), self._violations.get(check, 0), self._examples.get(check)
            )
            for check, proves in CHECKS.items()
            if check in self._checked
        ]
