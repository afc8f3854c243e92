"""The guide on references says what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ztfmatch.core.settings import checked
from ztfmatch.references.kernels.selection import CRITERIA
from ztfmatch.references.plan import ACTIONS
from ztfmatch.references.schema import AUDIT
from ztfmatch.references.schema.settings import ReferenceSettings

TEXT = (Path(__file__).parents[2] / "docs" / "guides" / "references.md").read_text(encoding="utf-8")


def test_settings_of_the_guide_are_the_defaults_but_for_the_override() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    table = tomllib.loads(block)
    assert table["flatness"].pop("overrides")
    assert checked(table, ReferenceSettings) == ReferenceSettings()


@pytest.mark.parametrize("name", [c.name for c in AUDIT.columns if c.name not in ("field", "rcid", "fid")])
def test_column_of_an_audit_is_in_the_guide(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", [*ACTIONS, *(criterion.name for criterion in CRITERIA)])
def test_action_or_criterion_is_in_the_guide(name: str) -> None:
    assert re.search(rf"^\| {name} \||`{name}`", TEXT, re.MULTILINE)
