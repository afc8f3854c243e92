"""Conditions as a person writes them, ``magrms > 0.1 and nobs > 50``, as Arrow expressions.

A subset of Python's expressions, read by ``ast`` and never evaluated as Python: column names, numbers, texts,
comparisons (also chained, ``in`` and ``not in`` a list), ``and``, ``or``, ``not``, arithmetic, and the functions
``abs``, ``sqrt``, ``log10`` and ``isnull``. As in SQL, a comparison with a null is neither true nor false, and rows
for which the whole is not true are left out. Arithmetic is that of 64-bit floats, whatever the types.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ztfmatch.errors import ConfigError

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


@dataclass(frozen=True)
class Condition:
    """A condition on the rows of a table.

    Attributes
    ----------
    text : str
    expression : pyarrow.compute.Expression
        For ``Table.filter`` and scanners; dictionaries in the table must be unpacked.
    columns : frozenset of str
        That it needs.
    """

    text: str
    expression: Any
    columns: frozenset[str]

    def rows(self, table: pa.Table) -> pa.Table:
        """Rows of a table for which it is true."""
        return table.filter(self.expression)


def parse_condition(text: str, kinds: Mapping[str, pa.DataType], option: str = "where") -> Condition:
    """Read a condition and check it against the columns that there are.

    Parameters
    ----------
    text : str
    kinds : mapping of str to DataType
        Columns that it may name.
    option : str
        What the user calls it, for error messages.

    Raises
    ------
    ConfigError
        If it cannot be read, names something that is no column, or compares what cannot be compared.
    """
    try:
        reader = _Reader(kinds)
        expression = reader.condition(_parsed(text))
        pa.schema(kinds.items()).empty_table().filter(expression)
    except _UnreadableError as error:
        raise ConfigError(f"{option} {text!r}: {error}") from None
    except pa.ArrowException as error:
        raise ConfigError(f"{option} {text!r}: {_said(error)}") from None
    return Condition(text, expression, frozenset(reader.columns))


class _UnreadableError(Exception):
    """What is wrong with a condition."""


def _said(error: Exception) -> str:
    text = str(error).splitlines()[0]
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

    def condition(self, node: ast.expr) -> Any:
        """Something that is true or not."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnreadableError(f"it is nested more than {_DEEPEST} deep")
        try:
            return self._condition(node)
        finally:
            self._depth -= 1

    def _condition(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part) for part in node.values]
            together = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            whole = parts[0]
            for part in parts[1:]:
                whole = together(whole, part)
            return whole
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isnull":
            return self._called(node)
        raise _UnreadableError(f"{ast.unparse(node)!r} is no condition; {_ALLOWED}")

    def _compared(self, node: ast.Compare) -> Any:
        left, whole = node.left, None
        for comparison, right in zip(node.ops, node.comparators, strict=True):
            part = self._pair(left, comparison, right)
            whole = part if whole is None else whole & part
            left = right
        return whole

    def _pair(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                raise _UnreadableError(f"{ast.unparse(right)!r} after 'in'; expected a list such as [1, 2]")
            value = self.value(left)
            parts = [value == self.value(one) for one in right.elts]
            known = parts[0]
            for part in parts[1:]:
                known = known | part
            return known if isinstance(comparison, ast.In) else ~known
        if type(comparison) not in _COMPARISONS:
            raise _UnreadableError("'is' compares nothing here: use == or isnull()")
        return _COMPARISONS[type(comparison)](self.value(left), self.value(right))

    def value(self, node: ast.expr) -> Any:
        """A number, a text or a column."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _UnreadableError(f"it is nested more than {_DEEPEST} deep")
        try:
            return self._value(node)
        finally:
            self._depth -= 1

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
        raise _UnreadableError(f"{ast.unparse(node)!r} is no value; {_ALLOWED}")

    def number(self, node: ast.expr) -> Any:
        """A value to compute with."""
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text or (isinstance(node, ast.Name) and pa.types.is_string(self._kinds.get(node.id, pa.null()))):
            raise _UnreadableError(f"{ast.unparse(node)} is a text; nothing can be computed with it")
        return self.value(node).cast(pa.float64())

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
            more = f"did you mean {' or '.join(near)}?" if near else f"there are {some}"
            raise _UnreadableError(f"no column {name!r}; {more}")
        self.columns.add(name)
        return pc.field(name)


def _scalar(value: float | str) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _UnreadableError(f"{value} does not fit 64 bits")
    return pc.scalar(value)


def _apply(function: str, *values: Any) -> Any:
    return pc.Expression._call(function, list(values))  # noqa: SLF001 (pyarrow names no other way for any function)


def kinds_of(fields: Sequence[pa.Field]) -> dict[str, pa.DataType]:
    """Columns and their types, dictionaries unpacked."""
    return {field.name: getattr(field.type, "value_type", field.type) for field in fields}
