"""All sources from which a kernel can be compiled."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1]

_SOURCES: Final = ("core/*.py", "*/schema.py", "*/schema/*.py", "*/kernels/*.py")
"""What kernels may import (see tests/test_layers.py), and so what may be compiled into them."""


@functools.cache
def source_digest() -> bytes:
    """Digest of all sources that a kernel can be made of, as this process found them when it defined the first."""
    digest = hashlib.sha256(usedforsecurity=False)
    for path in sorted(path for pattern in _SOURCES for path in PACKAGE.glob(pattern)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE)} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()
