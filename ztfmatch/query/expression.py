"""Conditions such as ``magrms > 0.1 and nobs > 50``, as Arrow expressions.

A subset of Python's expressions, read by ``ast`` and never evaluated as Python: column names, numbers, texts,
comparisons (also chained, ``in`` and ``not in`` a list), ``and``, ``or``, ``not``, arithmetic, and the functions
``abs``, ``sqrt``, ``log10`` and ``isnull``. As in SQL, a comparison with a null is neither true nor false, and rows
for which the whole is not true are left out. Arithmetic is that of 64-bit floats, whatever the types.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.core.arrays import Mask
from ztfmatch.core.errors import ConfigError, first_line

_ROW: Final = "row number"
_MOST_CHARACTERS: Final = 10_000
_DEEPEST: Final = 50
_NAMED: Final = 20

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}
_FUNCTIONS: Final[dict[str, str]] = {"abs": "abs", "sqrt": "sqrt", "log10": "log10", "isnull": "is_null"}
_ALLOWED: Final = (
    "expected columns, numbers, texts, comparisons, and, or, not, + - * /, abs(), sqrt(), log10(), isnull()"
)


_MIRRORED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
"""What compares the same when the sides change places."""


@dataclass(frozen=True)
class _Truth:
    """When something is true of a row; and of the bounds of columns, when it may be true, or false, of any row."""

    expression: Any
    may_be: Any
    may_not_be: Any

    def __and__(self, other: _Truth) -> _Truth:
        may_not_be = self.may_not_be | other.may_not_be
        return _Truth(self.expression & other.expression, self.may_be & other.may_be, may_not_be)

    def __or__(self, other: _Truth) -> _Truth:
        may_not_be = self.may_not_be & other.may_not_be
        return _Truth(self.expression | other.expression, self.may_be | other.may_be, may_not_be)

    def __invert__(self) -> _Truth:
        return _Truth(~self.expression, self.may_not_be, self.may_be)


@dataclass(frozen=True)
class _Part:
    """A condition that has no ``and`` on top."""

    truth: _Truth
    columns: frozenset[str]
    bounded: frozenset[str]


@dataclass(frozen=True)
class Condition:
    """A condition on the rows of a table: parts that must all be true.

    A sieve for :mod:`ztfmatch.core.io.scan`. What it says of bounds holds for columns with nulls, which no
    comparison lets through, and with NaN, which bounds do not tell of.
    """

    parts: tuple[_Part, ...]

    @property
    def columns(self) -> frozenset[str]:
        """Columns that it needs."""
        return frozenset().union(*(part.columns for part in self.parts))

    @property
    def bounded(self) -> frozenset[str]:
        """Columns whose bounds tell something."""
        return frozenset().union(*(part.bounded for part in self.parts))

    def divided(self, names: Collection[str]) -> tuple[Condition | None, Condition | None]:
        """The parts that need none but some columns, and the others; None where there are none."""
        mine = tuple(part for part in self.parts if part.columns <= set(names))
        others = tuple(part for part in self.parts if not part.columns <= set(names))
        return Condition(mine) if mine else None, Condition(others) if others else None

    def mask(self, table: pa.Table) -> Mask:
        """Whether it is true of each row."""
        return _where(self._whole.expression, table, self.columns)

    def rows(self, table: pa.Table) -> pa.Table:
        """Rows of a table for which it is true."""
        return table.filter(pa.array(self.mask(table)))

    def may_hold(self, bounds: pa.Table) -> Mask:
        """Whether it can be true of any row within bounds, ``min_x`` and ``max_x`` of each column in ``bounded``.

        Bounds are those of the values that are neither null nor NaN, and null where they are unknown.
        """
        return _where(self._whole.may_be, bounds, bounds.column_names)

    @property
    def _whole(self) -> _Truth:
        return functools.reduce(operator.and_, (part.truth for part in self.parts))


def _where(expression: Any, table: pa.Table, columns: Collection[str]) -> Mask:
    """Whether an expression on some columns is true of each row; neither null nor false."""
    numbered = table.append_column(_ROW, pa.array(np.arange(table.num_rows))).select([*columns, _ROW])
    true = np.zeros(table.num_rows, bool)
    true[_unpacked(numbered).filter(expression)[_ROW].to_numpy()] = True
    return true


def _unpacked(rows: pa.Table) -> pa.Table:
    """The same rows, dictionaries as plain values: comparisons need these."""
    kinds = kinds_of(rows.schema)
    return rows.cast(pa.schema([field.with_type(kinds[field.name]) for field in rows.schema]))


def parse_condition(text: str, kinds: Mapping[str, pa.DataType], option: str = "where") -> Condition:
    """Read a condition and check it against the columns that there are.

    Parameters
    ----------
    kinds : mapping of str to DataType
        Columns that it may name.
    option : str
        What the user calls it, for error messages.

    Raises
    ------
    ConfigError
        If it cannot be read, names something that is not a column, or compares what cannot be compared.
    """
    try:
        condition = Condition(tuple(_part(node, kinds) for node in _conjuncts(_parsed(text))))
        condition.mask(pa.schema(kinds.items()).empty_table())
    except _UnreadableError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from None
    except pa.ArrowException as error:
        raise ConfigError(f"{option} {text!r}: {_said(error)}") from None
    return condition


def _conjuncts(node: ast.expr) -> list[ast.expr]:
    """What is joined by ``and`` on top."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _conjuncts(value)]
    return [node]


def _part(node: ast.expr, kinds: Mapping[str, pa.DataType]) -> _Part:
    reader = _Reader(kinds)
    truth = reader.condition(node)
    return _Part(truth, frozenset(reader.columns), frozenset(reader.bounded))


class _UnreadableError(Exception):
    """What is wrong with a condition."""


def _said(error: Exception) -> str:
    text = first_line(error)
    if "no kernel matching input types" in text:
        types = text.partition("input types ")[2].strip("()")
        return f"values of types {types} do not go together"
    return text


def _parsed(text: str) -> ast.expr:
    if len(text) > _MOST_CHARACTERS:
        raise _UnreadableError(f"{len(text)} characters; expected at most {_MOST_CHARACTERS}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        hint = "; equality is ==" if re.search(r"(?<![=!<>])=(?!=)", text) else ""
        raise _UnreadableError(f"it cannot be read{at}{hint}; {_ALLOWED}") from None


class _Reader:
    """Turns nodes into Arrow expressions."""

    def __init__(self, kinds: Mapping[str, pa.DataType]) -> None:
        self._kinds = kinds
        self._depth = 0
        self.columns: set[str] = set()
        self.bounded: set[str] = set()

    @contextlib.contextmanager
    def _deeper(self) -> Iterator[None]:
        """A part of a part, as deep as parts may be."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnreadableError(f"it is nested more than {_DEEPEST} deep")
        try:
            yield
        finally:
            self._depth -= 1

    def condition(self, node: ast.expr) -> _Truth:
        """Something that is true or not."""
        with self._deeper():
            return self._condition(node)

    def _condition(self, node: ast.expr) -> _Truth:
        if isinstance(node, ast.BoolOp):
            together = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            return functools.reduce(together, [self.condition(part) for part in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isnull":
            return _Truth(self._called(node), _UNKNOWN, _UNKNOWN)
        raise _UnreadableError(f"{ast.unparse(node)!r} is not a condition; {_ALLOWED}")

    def _compared(self, node: ast.Compare) -> _Truth:
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return functools.reduce(operator.and_, [self._pair(*pair) for pair in pairs])

    def _pair(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> _Truth:
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                raise _UnreadableError(f"{ast.unparse(right)!r} after 'in'; expected a list such as [1, 2]")
            known = functools.reduce(operator.or_, [self._pair(left, ast.Eq(), one) for one in right.elts])
            return known if isinstance(comparison, ast.In) else ~known
        kind = type(comparison)
        if kind not in _COMPARISONS:
            raise _UnreadableError("'is' compares nothing here: use == or isnull()")
        if not isinstance(left, ast.Name):
            left, right, kind = right, left, _MIRRORED[kind]
        column, value = self._sides(left, right)
        expression = _COMPARISONS[kind](column, value)
        if isinstance(left, ast.Name) and not self._names_in(right) and _has_bounds(self._kinds[left.id]):
            self.bounded.add(left.id)
            floating = pa.types.is_floating(self._kinds[left.id])
            least, most = (self._sides(left, right, f"{side}_{left.id}")[0] for side in ("min", "max"))
            return _Truth(expression, *_by_bounds(least, most, kind, value, floating))
        return _Truth(expression, _UNKNOWN, _UNKNOWN)

    def _sides(self, left: ast.expr, right: ast.expr, name: str | None = None) -> tuple[Any, Any]:
        """Two values as they are compared: as 64-bit floats where one is an integer and the other is none.

        Arrow would take floats that are too short for objectids. Another column can stand in for the left one.
        """
        values = self.value(left) if name is None else pc.field(name), self.value(right)
        kinds = [self._number_kind(left), self._number_kind(right)]
        if sorted(kinds) != ["float", "integer"]:
            return values
        return values[0].cast(pa.float64(), safe=False), values[1].cast(pa.float64(), safe=False)

    def _number_kind(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            kind = self._kinds[node.id]
            return "integer" if pa.types.is_integer(kind) else "float" if pa.types.is_floating(kind) else "text"
        if isinstance(node, ast.Constant):
            return {int: "integer", float: "float"}.get(type(node.value), "text")
        return "float"

    def _names_in(self, node: ast.expr) -> bool:
        return any(isinstance(part, ast.Name) and part.id in self._kinds for part in ast.walk(node))

    def value(self, node: ast.expr) -> Any:
        """A number, a text or a column."""
        with self._deeper():
            return self._value(node)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int | float | str)
            and not isinstance(node.value, bool)
        ):
            return _scalar(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _apply("negate", self.number(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _apply(_ARITHMETIC[type(node.op)], self.number(node.left), self.number(node.right))
        if isinstance(node, ast.Call):
            return self._called(node)
        raise _UnreadableError(f"{ast.unparse(node)!r} is not a value; {_ALLOWED}")

    def number(self, node: ast.expr) -> Any:
        """A value to compute with."""
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text or (isinstance(node, ast.Name) and pa.types.is_string(self._kinds.get(node.id, pa.null()))):
            raise _UnreadableError(f"{ast.unparse(node)} is a text; nothing can be computed with it")
        return self.value(node).cast(pa.float64(), safe=False)

    def _called(self, node: ast.Call) -> Any:
        name = getattr(node.func, "id", ast.unparse(node.func))
        if name not in _FUNCTIONS:
            raise _UnreadableError(f"no function {name!r}; there are {', '.join(_FUNCTIONS)}")
        if len(node.args) != 1 or node.keywords:
            raise _UnreadableError(f"{name}() takes one value")
        return _apply(_FUNCTIONS[name], self.value(node.args[0]) if name == "isnull" else self.number(node.args[0]))

    def _column(self, name: str) -> Any:
        if name not in self._kinds:
            near = difflib.get_close_matches(name, self._kinds, 3)
            some = ", ".join(list(self._kinds)[:_NAMED]) + (" ..." if len(self._kinds) > _NAMED else "")
            more = f"did you mean {' or '.join(near)}?" if near else f"there are {some} (all: 'ztfmatch schema')"
            raise _UnreadableError(f"no column {name!r}; {more}")
        self.columns.add(name)
        return pc.field(name)


_UNKNOWN: Final = pc.scalar(True)


def _has_bounds(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _by_bounds(least: Any, most: Any, comparison: type[ast.cmpop], value: Any, floating: bool) -> tuple[Any, Any]:
    """When a column compared to a value may be true, and may be false, of any row, by the column's bounds.

    Arrow compares the bounds as it does the rows, with the same rounding, which keeps their order. A NaN, which no
    bounds tell of, is different from everything and stands in no other relation.
    """
    unknown, nan = least.is_null() | most.is_null(), pc.scalar(floating)
    if comparison in (ast.Eq, ast.NotEq):
        equal = (least <= value) & (most >= value) | unknown
        unequal = ~((least == value) & (most == value)) | unknown | nan
        return (equal, unequal) if comparison is ast.Eq else (unequal, equal)
    compare = _COMPARISONS[comparison]
    high, low = (most, least) if comparison in (ast.Gt, ast.GtE) else (least, most)
    return compare(high, value) | unknown, ~compare(low, value) | unknown | nan


def _scalar(value: float | str) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _UnreadableError(f"{value} does not fit 64 bits")
    return pc.scalar(value)


def _apply(function: str, *values: Any) -> Any:
    return pc.Expression._call(function, list(values))  # noqa: SLF001 (pyarrow names no other way for any function)


def kinds_of(fields: Sequence[pa.Field]) -> dict[str, pa.DataType]:
    """Columns and their types, dictionaries unpacked."""
    return {field.name: getattr(field.type, "value_type", field.type) for field in fields}
