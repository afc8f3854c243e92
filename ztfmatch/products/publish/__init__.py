"""Releases: products made of the epochs of a snapshot that a scope allows."""

from ztfmatch.products.publish.bulk import publish_bulk
from ztfmatch.products.publish.hats import HatsConfig, publish_hats, publish_objects
from ztfmatch.products.publish.preview import ProgramCount, ReleasePreview, preview_release
from ztfmatch.products.publish.publication import PublishReport
from ztfmatch.products.publish.tarball import Part, publish_tar, sector_part

__all__ = [
    "HatsConfig",
    "Part",
    "ProgramCount",
    "PublishReport",
    "ReleasePreview",
    "preview_release",
    "publish_bulk",
    "publish_hats",
    "publish_objects",
    "publish_tar",
    "sector_part",
]
