"""Releases: products of the epochs of a snapshot that are in the scope of a release."""

from ztfmatch.release.association import Association, write_association
from ztfmatch.release.bulk import publish_bulk
from ztfmatch.release.changes import ObjectChanges, SnapshotComparison
from ztfmatch.release.check import CheckedProduct, ProductCheck, check_product
from ztfmatch.release.difference import Comparison, ReleaseDifference
from ztfmatch.release.hats import HatsConfig, publish_hats, publish_objects, publish_stars
from ztfmatch.release.preview import ProgramCount, ReleasePreview, preview_release
from ztfmatch.release.publication import PublishReport
from ztfmatch.release.tarball import Part, publish_tar, sector_part

__all__ = [
    "Association",
    "CheckedProduct",
    "Comparison",
    "HatsConfig",
    "ObjectChanges",
    "Part",
    "ProductCheck",
    "ProgramCount",
    "PublishReport",
    "ReleaseDifference",
    "ReleasePreview",
    "SnapshotComparison",
    "check_product",
    "preview_release",
    "publish_bulk",
    "publish_hats",
    "publish_objects",
    "publish_stars",
    "publish_tar",
    "sector_part",
    "write_association",
]
