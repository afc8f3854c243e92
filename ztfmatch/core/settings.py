"""Settings checked against their declared types: from TOML files, and of dataclasses made in Python.

What a value must be stands in its declaration, as in ``Annotated[float, Meta(ge=1.0, description="at least 1.0")]``;
msgspec checks it, and what was expected is told in the words of ``description``. An error is one line with the key, the
value and what was expected.
"""

from __future__ import annotations

import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.plain import Json

Settings = TypeVar("Settings")

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "date": "a date",
}
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, description="at least 1")]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0, description="at least 0")]
Positive = Annotated[float, msgspec.Meta(gt=0.0, description="above 0")]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0, description="0 to 1")]
"""What values must be."""


def within(low: float, high: float) -> msgspec.Meta:
    """A range that values must be in, both ends included."""
    return msgspec.Meta(ge=low, le=high, description=f"{low} to {high}")


_WRAPPERS: Final = (Annotated, typing.Union, types.UnionType)


def read_toml(path: Path, what: str, error: type[Exception] = ConfigError) -> Json:
    """Content of a TOML file.

    Parameters
    ----------
    what : str
        What the file is, as the error begins.
    error : type
        Raised if it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(f"{what} {path} cannot be read: {failure.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise error(f"{what} {path}: not TOML: {failure}") from None


def checked(
    table: Mapping[str, Any], kind: type[Settings], error: type[Exception] = ConfigError, place: str = ""
) -> Settings:
    """Settings of a table, as a dataclass whose fields are the keys.

    Parameters
    ----------
    kind : type
        The dataclass.
    error : type
        Raised if a key is unknown or missing, or a value is not as its field declares it, and for a ValueError that the
        dataclass raises as it is made.
    place : str
        What the error begins with.
    """
    try:
        _check_table(table, kind, "")
        return msgspec.convert(table, kind, dec_hook=_restored)
    except ValueError as failure:  # msgspec's is one, with the place behind what the dataclass said
        raise error(place + str(failure).partition(" - at `$")[0]) from None


class WithPaths:
    """Base of dataclasses with paths, which may be given as texts; several of them also as a list, or one alone."""

    def __post_init__(self) -> None:
        """Make paths of texts."""
        own: Any = self
        for name, declared in _hints(type(own)).items():
            if name in own.__dataclass_fields__:
                object.__setattr__(own, name, _as_declared(getattr(own, name), _bare(declared)))


def _as_declared(value: Any, kind: Any) -> Any:
    """A value, or paths where these are declared."""
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if typing.get_args(kind)[:1] != (Path,):
        return value
    return tuple(_as_declared(one, Path) for one in ([value] if isinstance(value, str | Path) else value))


class Validated(WithPaths):
    """Base of settings."""

    def validate(self) -> None:
        """Check every setting, and that they do not contradict each other.

        Raises
        ------
        ConfigError
        """
        check(self)
        self._validate()

    def _validate(self) -> None:
        """Check what fields do not declare."""


def check(settings: Any) -> None:
    """Check the fields of a dataclass that declare what they must be.

    Raises
    ------
    ConfigError
    """
    for name, declared in _hints(type(settings)).items():
        if _description(declared):
            _check_value(_plain(getattr(settings, name)), declared, name)


def checked_value(value: Any, declared: Any, name: str) -> Any:
    """A value that a function was given, without NumPy's types.

    Raises
    ------
    ConfigError
        If it is not as ``declared`` (a type, perhaps annotated) says.
    """
    plain = _plain(value)
    _check_value(plain, declared, name)
    return plain


def _plain(value: Any) -> Any:
    """The value without NumPy's types, which a notebook may give."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "dtype") else value


def _check_table(table: Mapping[str, Any], kind: Any, where: str) -> None:
    """Check keys and values of a table; msgspec alone reads over unknown keys, and does not tell values."""
    hints = _hints(kind)
    for key in table:
        if key not in hints:
            raise ConfigError(f"unknown key {key!r}{where}; there are: {', '.join(hints)}")
    for field in fields(typing.get_origin(kind) or kind):
        declared = hints[field.name]
        if field.name in table:
            _check_value(table[field.name], declared, field.name, where)
        elif field.default is MISSING and field.default_factory is MISSING:
            described = _description(declared)
            raise ConfigError(f"{field.name} is missing{where}{described and f'; expected {described}'}")


def _check_value(value: Any, declared: Any, name: str, where: str = "") -> None:
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{name}{where} is nan; expected {_description(declared) or 'a number'}")
    bare = _bare(declared)
    inner = next(iter(typing.get_args(bare)), None)
    if is_dataclass(typing.get_origin(bare) or bare) and isinstance(value, Mapping):
        return _check_table(value, bare, f" in [{name}]")
    if is_dataclass(inner) and isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        for item in value:
            _check_table(item, inner, f" in [[{name}]]")
    try:
        msgspec.convert(value, declared, dec_hook=_restored)
    except msgspec.ValidationError as failure:
        said, _, at = str(failure).partition(" - at `$")
        if item := re.fullmatch(r"\[(\d+)\]`", at):
            name, value, declared = f"{name}[{item[1]}]", value[int(item[1])], inner
        raise ConfigError(f"{name}{where} is {value!r}; expected {_expected(said, declared)}") from None


def _restored(kind: Any, value: Any) -> Any:
    """What msgspec does not know how to make: paths."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def _expected(said: str, declared: Any) -> str:
    """What a value should have been: its type, where msgspec says that it has another, and what its field declares."""
    described, bare = _description(declared), _bare(declared)
    if typing.get_origin(bare) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(bare)))}"
    wanted, _, bound = said.removeprefix("Expected `").replace("int | float", "float").partition("`")
    words = " or ".join(_WORDS.get(name, name) for name in wanted.removesuffix(" | null").split(" | "))
    if not bound.startswith(", got "):
        return described or words + bound
    return described if described.startswith(words) else f"{words}, {described}" if described else words


def _bare(kind: Any) -> Any:
    """Type without its annotations, and without None as an alternative."""
    return _bare(typing.get_args(kind)[0]) if typing.get_origin(kind) in _WRAPPERS else kind


def _description(kind: Any) -> str:
    """What a declaration says of its values; empty if nothing."""
    notes = (note.description for note in getattr(kind, "__metadata__", ()) if isinstance(note, msgspec.Meta))
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) in _WRAPPERS else None
    return next(notes, None) or (_description(inner) if inner else "")


def _hints(kind: Any) -> Mapping[str, Any]:
    """Declared types of fields, those of a generic dataclass with its arguments."""
    generic = typing.get_origin(kind)
    if generic is None:
        return typing.get_type_hints(kind, include_extras=True)
    given = dict(zip(generic.__parameters__, typing.get_args(kind), strict=True))
    return {name: given.get(hint, hint) for name, hint in typing.get_type_hints(generic, include_extras=True).items()}
