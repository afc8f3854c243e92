"""Settings and the types that declare them: one line with key, value and what was expected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from msgspec import Meta

from ztfmatch.core.config import CalibrateConfig, CompactConfig, Resources, StoreConfig
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.settings import check, checked, read_toml


@dataclass(frozen=True)
class Cuts:
    depth: Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0.0)] | None = None
    label: Annotated[str, Meta(pattern=r"^[a-z]+\Z", description="small letters")] = "a"


@dataclass(frozen=True)
class Site:
    name: str
    kind: Literal["dark", "bright"] = "dark"
    cuts: Cuts = Cuts()
    visits: tuple[Cuts, ...] = ()
    share: Annotated[float, Meta(ge=0.0, le=1.0, description="0 to 1")] = 0.5
    names: tuple[str, ...] = ()
    free: Any = None

    def __post_init__(self) -> None:
        if self.name == self.kind:
            raise ValueError(f"name and kind are both {self.name!r}")


def test_checked_gives_the_dataclass_with_the_types_of_its_fields() -> None:
    made = checked({"name": "p", "share": 1, "cuts": {"depth": 2}, "visits": [{"label": "b"}], "free": {"x": []}}, Site)
    assert made == Site("p", share=1.0, cuts=Cuts(2), visits=(Cuts(label="b"),), free={"x": []})
    assert (type(made.share), type(made.cuts.depth)) == (float, int)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "name is missing"),
        ({"name": 3}, "name is 3; expected text"),
        ({"name": "p", "nam": 3}, "unknown key 'nam'; there are: name, kind, cuts, visits, share, names, free"),
        ({"name": "p", "kind": "grey"}, "kind is 'grey'; expected one of dark, bright"),
        ({"name": "p", "kind": 1}, "kind is 1; expected one of dark, bright"),
        ({"name": "p", "share": 1.5}, "share is 1.5; expected 0 to 1"),
        ({"name": "p", "share": float("nan")}, "share is nan; expected 0 to 1"),
        ({"name": "p", "share": True}, "share is True; expected a number, 0 to 1"),
        ({"name": "p", "names": ["a", 2]}, "names[1] is 2; expected text"),
        ({"name": "p", "names": "a"}, "names is 'a'; expected a list"),
        ({"name": "p", "cuts": 3}, "cuts is 3; expected a table"),
        ({"name": "p", "cuts": {"deep": 3}}, "unknown key 'deep' in [cuts]; there are: depth, label"),
        ({"name": "p", "cuts": {"depth": "x"}}, "depth in [cuts] is 'x'; expected a number"),
        ({"name": "p", "cuts": {"depth": float("nan")}}, "depth in [cuts] is nan; expected a number"),
        ({"name": "p", "cuts": {"depth": -1}}, "depth in [cuts] is -1; expected a whole number >= 0"),
        ({"name": "p", "cuts": {"label": "A"}}, "label in [cuts] is 'A'; expected small letters"),
        ({"name": "p", "visits": [{}, {"deep": 3}]}, "unknown key 'deep' in [[visits]]; there are: depth, label"),
        ({"name": "p", "visits": [{}, {"label": ""}]}, "label in [[visits]] is ''; expected small letters"),
        ({"name": "p", "visits": [3]}, "visits[0] is 3; expected a table"),
        ({"name": "dark"}, "name and kind are both 'dark'"),
    ],
)
def test_checked_of_what_cannot_be_is_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError) as caught:
        checked(table, Site, MetadataError, "file x: ")
    assert str(caught.value) == f"file x: {message}"


def test_check_looks_at_what_is_declared_and_at_numpy_s_numbers() -> None:
    check(Site("p", share=np.float64(0.3), names=(1, 2)))  # type: ignore[arg-type]
    check(replace(StoreConfig(), seeds_per_tile=np.int64(7)))
    with pytest.raises(ConfigError, match=r"^share is 3\.0; expected 0 to 1$"):
        check(Site("p", share=np.float32(3.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (StoreConfig(seeds_per_tile=0), "seeds_per_tile is 0; expected at least 1"),
        (StoreConfig(max_order=12), "max_order is 12; expected 0 to 11"),
        (Resources(memory_bytes=1), "memory_bytes is 1; expected at least 512 MiB"),
        (Resources(wait_s=float("nan")), "wait_s is nan; expected above 0"),
        (Resources(workers=-1), "workers is -1; expected 0 (plain loop) or more"),
        (CompactConfig(min_files=1), "min_files is 1; expected at least 2: one file is compact"),
        (CompactConfig(max_rows_per_tile=0), "max_rows_per_tile is 0; expected at least 1"),
        (CalibrateConfig(min_epochs=2), "min_epochs is 2; expected at least 3"),
        (CalibrateConfig(max_error=float("nan")), "max_error is nan; expected above 0"),
        (CalibrateConfig(eras=(float("nan"),)), "eras (nan,): expected dates in order of time, each once"),
        (CalibrateConfig(cells_x=65), "cells_x is 65; expected 2 to 64"),
        (CalibrateConfig(magnitude_step=0.0), "magnitude_step is 0.0; expected above 0, at most 1"),
        (CalibrateConfig(magnitude_step=0.4), "magnitude_step 0.4 does not divide the range 12.5 to 19.25"),
    ],
)
def test_validate_out_of_range_names_the_setting(config: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.validate()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "site {} cannot be read: No such file or directory"),
        (b"a = ", "site {}: not TOML: Invalid value"),
        (b"\xff", "site {}: not TOML: 'utf-8' codec"),
    ],
)
def test_read_toml_of_what_is_none_names_the_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "site.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MetadataError) as caught:
        read_toml(path, "site", MetadataError)
    assert str(caught.value).startswith(message.format(path))
