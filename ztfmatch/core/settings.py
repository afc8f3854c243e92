"""Settings held to the types that declare them: those of a TOML file, and those of a dataclass made in Python.

What a value must be stands in its declaration, as in ``Annotated[float, Meta(ge=1.0, description="at least 1.0")]``;
msgspec checks it, and what was expected is told in the words of ``description``. An error is one line with the key, the
value and what was expected.
"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ztfmatch.core.errors import ConfigError

Settings = TypeVar("Settings")

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_Path = tuple[str | int, ...]


def read_toml(path: Path, what: str, error: type[Exception] = ConfigError) -> dict[str, Any]:
    """Content of a TOML file.

    Parameters
    ----------
    path : Path
    what : str
        What the file is, as the error begins.
    error : type
        Raised if it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(f"{what} {path} cannot be read: {failure.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise error(f"{what} {path}: not TOML: {failure}") from None


def checked(
    table: Mapping[str, Any], kind: type[Settings], error: type[Exception] = ConfigError, place: str = ""
) -> Settings:
    """Settings of a table, as a dataclass whose fields are the keys.

    Parameters
    ----------
    table : mapping
    kind : type
        The dataclass.
    error : type
        Raised if a key is unknown or missing, or a value is not as its field declares it, and for a ValueError that the
        dataclass raises as it is made.
    place : str
        What the error begins with.
    """
    try:
        _check_keys(table, kind, "")
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as failure:
        raise error(f"{place}{_told(failure, table, kind)}") from None
    except ValueError as failure:
        raise error(f"{place}{failure}") from None


def check(settings: Any) -> None:
    """Check the fields of a dataclass that declare what they must be.

    Raises
    ------
    ConfigError
    """
    for name, kind in _hints(type(settings)).items():
        value = _plain(getattr(settings, name))
        if not _description(kind):
            continue
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as failure:
            raise ConfigError(_told(failure, {name: value}, type(settings), (name,))) from None


def _plain(value: Any) -> Any:
    """The value without NumPy's types, which a notebook may give."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "dtype") else value


def _check_keys(table: Any, kind: Any, where: str) -> None:
    """Refuse keys that a dataclass, or one within it, does not have: msgspec reads over them."""
    kind = _bare(kind)
    if is_dataclass(kind) and isinstance(table, Mapping):
        known = _hints(kind)
        for key, value in table.items():
            if key not in known:
                raise ValueError(f"unknown key {key!r}{where}; there are: {', '.join(known)}")
            _check_keys(value, known[key], f" in [[{key}]]" if isinstance(value, list) else f" in [{key}]")
    elif isinstance(table, list):
        for item in table:
            _check_keys(item, _declared(kind, 0), where)


def _told(failure: msgspec.ValidationError, table: Mapping[str, Any], kind: Any, above: _Path = ()) -> str:
    """What msgspec found wrong in a table, with the value and in our words."""
    said, _, at = str(failure).partition(" - at `$")
    path = (*above, *(name or int(number) for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", at)))
    missing = re.fullmatch(r"Object missing required field `(\w+)`", said)
    if not missing and not re.match(r"Expected `|Invalid ", said):
        return said  # by the dataclass itself
    value, declared = table, kind
    for step in path:
        value, declared = value[step], _declared(declared, step)  # type: ignore[index]  # msgspec has been there
    if missing:
        name, where = _name((*path, missing[1]))
        described = _description(_declared(declared, missing[1]))
        return f"{name} is missing{where}{described and f'; expected {described}'}"
    name, where = _name(path)
    return f"{name}{where} is {value!r}; expected {_expected(said, declared)}"


def _name(path: _Path) -> tuple[str, str]:
    """Name of a value, and of the table that it is in, as TOML writes it; no words for the file's own."""
    at = max(i for i, step in enumerate(path) if isinstance(step, str))
    name = "".join(f"[{step}]" if isinstance(step, int) else step for step in path[at:])
    if not at:
        return name, ""
    return name, f" in [[{path[0]}]]" if isinstance(path[1], int) else f" in [{path[0]}]"


def _expected(said: str, kind: Any) -> str:
    """What a value should have been: its type, where msgspec says that it has another, and what its field declares."""
    described, bare = _description(kind), _bare(kind)
    if typing.get_origin(bare) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(bare)))}"
    wanted, _, bound = said.removeprefix("Expected `").replace("int | float", "float").partition("`")
    words = " or ".join(_WORDS.get(name, name) for name in wanted.removesuffix(" | null").split(" | "))
    if not bound.startswith(", got "):
        return described or words + bound
    return words if not described else described if described.startswith(words) else f"{words}, {described}"


def _declared(kind: Any, step: str | int) -> Any:
    """Type of a field of a dataclass, or of what a list holds."""
    bare = _bare(kind)
    return _hints(bare)[step] if isinstance(step, str) else next(iter(typing.get_args(bare)), Any)


def _bare(kind: Any) -> Any:
    """Type without its annotations, and without None as an alternative."""
    while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
        kind = typing.get_args(kind)[0]
    return kind


def _description(kind: Any) -> str:
    """What a declaration says of its values; empty if nothing."""
    while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
        for note in getattr(kind, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and note.description:
                return note.description
        kind = typing.get_args(kind)[0]
    return ""


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
