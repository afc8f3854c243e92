"""URLs of object stores: taken apart, and refused without repeating what may be secret."""

from __future__ import annotations

import pytest

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.urls import ObjectUrl, parse_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("s3://a-b.c/deep/prefix/", ("s3", "a-b.c", "deep/prefix")),
        ("gs://bucket/x", ("gs", "bucket", "x")),
        ("az://container/x@y/Norder=3", ("az", "container", "x@y/Norder=3")),
        ("s3://b/2019*/ztf_?????_psfcat.fits", ("s3", "b", "2019*/ztf_?????_psfcat.fits")),
    ],
)
def test_parse_url_literals(url: str, parts: tuple[str, str, str]) -> None:
    assert parse_url(url) == ObjectUrl(*parts)
    assert str(parse_url(url)) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:HIDDEN@bucket/x",
        "s3://HIDDEN@bucket/x",
        "s3://key:HIDDEN/with/slash@bucket/x",
        "s3://bucket:HIDDEN/x",
        "s3://bucket/x?X-Amz-Signature=HIDDEN",
        "s3://bucket?sig=HIDDEN",
        "az://container/x/y?sv=2020&sig=HIDDEN",
        "https://user:HIDDEN@host/bucket",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Security-Token=HIDDEN",
        "HIDDEN %:s3://x",
        "s3://HIDDEN bucket/x",
        "s3:///HIDDEN",
    ],
)
def test_parse_url_that_may_carry_a_secret_is_refused_without_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "HIDDEN" not in str(caught.value)
    assert caught.value.__cause__ is None
