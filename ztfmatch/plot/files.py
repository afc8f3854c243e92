"""Write figures as PNG, PDF or SVG, with reproducible bytes."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.localfiles import whole
from ztfmatch.core.plain import Keywords


def metadata_of(path: Path) -> Keywords:
    """What a file of that suffix says of itself: nothing that differs from run to run.

    Raises
    ------
    ConfigError
        If figures cannot be written to such a file.
    """
    known: dict[str, Keywords] = {
        ".png": {"Software": "ztfmatch"},
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
    }
    metadata = known.get(Path(path).suffix.lower())
    if metadata is None:
        raise ConfigError(f"cannot draw to {path}: expected a name that ends in .png, .pdf or .svg")
    return metadata


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure, whole or not at all."""
    suffix, metadata = Path(path).suffix.lower(), metadata_of(path)
    buffer = io.BytesIO()
    # matplotlib takes this setting from nowhere else; without it the ids in an SVG are random.
    with mpl.rc_context({"svg.hashsalt": "ztfmatch"} if suffix == ".svg" else {}):
        figure.savefig(buffer, format=suffix[1:], dpi=dpi, metadata=metadata)
    with whole(Path(path)) as part:
        part.write_bytes(buffer.getvalue())
