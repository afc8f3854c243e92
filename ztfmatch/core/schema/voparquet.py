"""Metadata of columns in Parquet as the Virtual Observatory has it (VOParquet 1.0): a VOTable without rows.

A reader of Arrow finds units and descriptions with each field; TOPCAT and astropy (``parquet.votable``) find them,
and UCDs, here.
"""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree

import pyarrow as pa

VERSION_KEY: Final = b"IVOA.VOTable-Parquet.version"
CONTENT_KEY: Final = b"IVOA.VOTable-Parquet.content"

_TYPES: Final = {
    pa.bool_(): "boolean",
    pa.uint8(): "unsignedByte",
    pa.float32(): "float",
    pa.float64(): "double",
    **dict.fromkeys((pa.int8(), pa.int16()), "short"),
    **dict.fromkeys((pa.uint16(), pa.int32()), "int"),
    **dict.fromkeys((pa.uint32(), pa.int64(), pa.uint64()), "long"),
    **dict.fromkeys((pa.string(), pa.large_string()), "char"),
}
"""VOTable's type of the same numbers, or the next wider; of 64 bits unsigned it has none."""

UNITS: Final = {"DN": "adu", "day": "d"}
"""Units that the Virtual Observatory has under another name."""


def with_votable(schema: pa.Schema) -> pa.Schema:
    """A schema whose metadata say in VOTable what its columns are."""
    text = ElementTree.tostring(_document(schema), encoding="unicode", xml_declaration=True)
    return schema.with_metadata({**(schema.metadata or {}), VERSION_KEY: b"1.0", CONTENT_KEY: text.encode()})


def _document(schema: pa.Schema) -> ElementTree.Element:
    root = ElementTree.Element("VOTABLE", version="1.4", xmlns="http://www.ivoa.net/xml/VOTable/v1.3")
    table = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE", type="results"), "TABLE")
    for field in schema:
        _add(table, field, field.name)
    ElementTree.SubElement(ElementTree.SubElement(table, "DATA"), "PARQUET", type="Parquet-local-XML")
    return root


def _add(table: ElementTree.Element, field: pa.Field, name: str) -> None:
    """Add a column, or those that are nested in it, whose names follow its own after a dot."""
    if pa.types.is_struct(field.type):
        for part in field.type:
            _add(table, part, f"{name}.{part.name}")
        return
    nested = pa.types.is_list(field.type)
    kind = field.type.value_type if nested or pa.types.is_dictionary(field.type) else field.type
    if kind not in _TYPES:
        return
    about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    said = {"name": name, "datatype": _TYPES[kind], "ucd": about.get("ucd"), "unit": _unit(about.get("unit"))}
    said["arraysize"] = "*" if nested or _TYPES[kind] == "char" else None
    element = ElementTree.SubElement(table, "FIELD", {key: value for key, value in said.items() if value})
    if about.get("description"):
        ElementTree.SubElement(element, "DESCRIPTION").text = about["description"]


def _unit(unit: str | None) -> str | None:
    return UNITS.get(unit, unit) if unit else None
