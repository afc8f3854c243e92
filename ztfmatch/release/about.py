"""README of a product: content, provenance, and how to use, check and cite it."""

from __future__ import annotations

from typing import Final

import ztfmatch
from ztfmatch.core.io.log import Commit
from ztfmatch.core.survey import FILTER_CODES, PROGRAM_NAMES
from ztfmatch.release.io.hats import Properties
from ztfmatch.release.io.scope import Quality, ReleaseScope, Window

README: Final = "README.txt"
CITATION: Final = (
    "Bellm et al. 2019, PASP 131, 018002 (https://doi.org/10.1088/1538-3873/aaecbe); "
    "Masci et al. 2019, PASP 131, 018003 (https://doi.org/10.1088/1538-3873/aae8ac)"
)
"""Of the survey, where a scope says no other."""
_NO_LICENCE: Final = "none was stated by whoever made this release"


def properties(scope: ReleaseScope) -> Properties:
    """Properties of a HATS catalog, beside those of the standard: release, scope, licence and citation."""
    return {
        "obs_copyright": scope.licence or None,
        "obs_ack": scope.citation or CITATION,
        "ztf_release": scope.release,
        "ztf_scope": scope_text(scope),
        "ztf_scope_digest": scope.digest,
    }


def scope_text(scope: ReleaseScope) -> str:
    """What a release shows, in one line."""
    parts = [", ".join(map(_window_text, scope.windows))]
    parts += [f"filters {', '.join(FILTER_CODES[fid] for fid in scope.fids)}"] if scope.fids else []
    fields = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in scope.fields)
    parts += [f"fields {fields}"] if fields else []
    parts += [
        f"{name} {value}" for name, value in vars(scope.quality).items() if value != getattr(Quality(), name)
    ]  # fmt: skip
    return "; ".join(parts)


def _window_text(window: Window) -> str:
    dates = [f"from MJD {window.since:.5f}"] if window.since is not None else []
    dates += [f"until MJD {window.until:.5f}"] if window.until is not None else []
    return " ".join([f"program {window.programid} ({PROGRAM_NAMES[window.programid]})", *dates])


def readme(scope: ReleaseScope, commit: Commit, what: str) -> str:
    """Text that stands beside a product.

    Parameters
    ----------
    commit : Commit
        Of the snapshot.
    what : str
        What files there are, and what is in them.
    """
    heading = f"ZTF, release {scope.release}"
    text = "\n\n".join(filter(None, (scope.description, what.strip())))
    return f"""{heading}
{"=" * len(heading)}
{text}

It shows
    {scope_text(scope)}
It was made
    of snapshot {commit.number} ({commit.time}) of store {commit.store}, by ztfmatch {ztfmatch.__version__}
Licence
    {scope.licence or _NO_LICENCE}
Please cite
    {scope.citation or CITATION}
"""
