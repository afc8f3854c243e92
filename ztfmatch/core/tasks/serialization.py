"""Tasks as bytes, for workers that read them from files; decoding never executes anything.

A task is a map of its fields (msgpack), its function the name of one in a ``tasks`` package of ztfmatch: both are held
to what the function declares that it takes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec
import numpy as np

from ztfmatch.core.plain import Json
from ztfmatch.core.tasks.staging import Function, Task

_NAME: Final = r"(ztfmatch(?:\.[a-z0-9_]+)*\.tasks\.[a-z0-9_]+):([a-z][a-z0-9_]*)"


def name_of(function: Function[Any]) -> str:
    """Name of a task function, which :func:`function_of` finds it by."""
    return f"{function.__module__}:{getattr(function, '__name__', '')}"


def function_of(name: str) -> Function[Any]:
    """The task function of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    parts = re.fullmatch(_NAME, name)
    try:
        function = None if parts is None else vars(importlib.import_module(parts[1])).get(parts[2])
    except ImportError:
        function = None
    if parts is None or not inspect.isfunction(function) or name_of(function) != name:
        raise ValueError(f"{name!r} is no task of ztfmatch")
    _taken_by(function)
    return function


def shared_fields(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Fields that have the same value in all of some tasks of a kind, such as the files of the ledger."""
    first: Any = tasks[0]
    names = (field.name for field in fields(first))
    return tuple(name for name in names if all(_is_same(getattr(first, name), getattr(t, name)) for t in tasks))


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and not isinstance(one, np.ndarray) and bool(one == other))


def encode_task(task: Any, only: Collection[str] | None = None, without: Collection[str] = ()) -> bytes:
    """A task, or some of its fields."""
    names = [field.name for field in fields(task) if only is None or field.name in only]
    values = {name: getattr(task, name) for name in names if name not in without}
    return msgspec.msgpack.encode(values, enc_hook=_plain)


def decode_task(function: Function[Any], *parts: bytes) -> Task:
    """A task, of its fields in some parts.

    Raises
    ------
    ValueError
        If they are not the fields of what the function takes.
    """
    values: Json = {}
    for part in parts:
        values |= msgspec.msgpack.decode(part, type=Json)
    task: Task = msgspec.convert(values, _taken_by(function), dec_hook=_restored)
    return task


def _taken_by(function: Function[Any]) -> Any:
    """Type of the tasks of a function."""
    taken = next(iter(typing.get_type_hints(function).values()), None)
    if not is_dataclass(taken) or "key" not in {field.name for field in fields(taken)}:
        raise ValueError(f"{name_of(function)} takes no task")
    return taken


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": value.shape, "bytes": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a task has a {type(value).__name__}, which no file of tasks can hold")


def _restored(kind: Any, value: Any) -> Any:
    """What msgspec does not know how to make: arrays, paths, and one of several dataclasses with a common base."""
    base = typing.get_origin(kind) or kind
    if issubclass(base, np.ndarray):
        return np.frombuffer(value["bytes"], value["dtype"]).reshape(value["shape"]).copy()
    if issubclass(base, PurePath):
        return Path(value)
    for one in base.__subclasses__():
        if {field.name for field in fields(one)} == value.keys():
            return msgspec.convert(value, one, dec_hook=_restored)
    raise ValueError(f"no {base.__name__} has the fields {', '.join(value)}")
