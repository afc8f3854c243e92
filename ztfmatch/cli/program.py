"""The program as a group of commands: its help in sections, ``help COMMAND``, and defaults from a file.

Defaults of options come, the first that says something, from the command line, the environment
(``ZTFMATCH_APPEND_WORKERS``), and a TOML file: ``[append] workers = 8``, or ``[defaults]`` for every command that has
the option. The file is named by ``ZTFMATCH_CONFIG``, else ``~/.config/ztfmatch/config.toml`` if that is there. What
names no option is an error in the file, and a warning in the environment, which may be another version's.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections import UserDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from ztfmatch.cli.common import InOrder
from ztfmatch.core.plain import Json

CONFIG_VARIABLE: Final = "ZTFMATCH_CONFIG"
DEFAULTS: Final = "defaults"

_NEVER_DEFAULT: Final = ("help", "version")


class Commands(UserDict[str, click.Command]):
    """Commands by name, imported when they are asked for: all of them take a third of what a short command takes."""

    def __getitem__(self, name: str) -> click.Command:
        """One of them, whose options know their variables."""
        found: Any = self.data[name]
        if isinstance(found, str):
            module, _, function = found.partition(".")
            found = self.data[name] = getattr(importlib.import_module(f"ztfmatch.cli.{module}"), function)
            _name_variables(found, ("ZTFMATCH", name))
        return found  # type: ignore[no-any-return]


class Program(InOrder):
    """All commands, in sections.

    :meth:`add_sections` gives titles, and the commands below them in order of the work.
    """

    commands: Commands

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = Commands()
        self._sections: dict[str, Sequence[str]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[str]]) -> None:
        """Add commands below titles, each as the module in ``ztfmatch.cli`` and its function."""
        for title, places in sections.items():
            named: Mapping[str, Any] = {place.partition(".")[2].rstrip("_"): place for place in places}
            self._sections[title] = tuple(named)
            self.commands.data.update(named)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """``help COMMAND`` is ``COMMAND --help``; defaults of commands are read before they parse."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        elif not {"-h", "--help", "-V", "--version"} & set(args):
            ctx.default_map = _default_map(self, ctx)
            _check_environment(self)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands below their titles."""
        with formatter.section("Commands"):
            formatter.write_text("'ztfmatch help COMMAND' explains one.")
        widest = max(len(name) for name in self.commands)
        width = max(formatter.width - widest - 6, 40)
        for title, names in self._sections.items():
            rows = [(name, self.commands[name].get_short_help_str(width)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), said) for name, said in rows])


def _name_variables(command: click.Command, words: tuple[str, ...]) -> None:
    """Let each option take its default from the variable of its name: ``ZTFMATCH_VIEW_DELTA_SNAPSHOT``."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            _name_variables(below, (*words, name))
        return
    by_param = {param.name: name for name, param in _options(command).items()}
    for param in command.params:
        if isinstance(param, click.Option) and param.name in by_param and param.envvar is None:
            param.envvar = "_".join((*words, by_param[param.name])).replace("-", "_").upper()


def _check_environment(program: click.Group) -> None:
    """Warn of variables that begin as those of a command's options, and are none's."""
    begun = tuple(f"ZTFMATCH_{name.replace('-', '_').upper()}_" for name in program.commands)
    if set_ := {name for name in os.environ if name.startswith(begun)}:
        known = _variables(program)
        for name in sorted(set_ - known):
            near = "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, known, 1))
            click.echo(f"ztfmatch: {name} is set, and no option has this variable{near}", err=True)


def _variables(command: click.Command) -> set[str]:
    """Variables of a command's options, and of those of all commands below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    own = {str(param.envvar) for param in command.params if param.envvar}
    return own.union(*map(_variables, below))


def config_file() -> Path | None:
    """The file of defaults, if there is one.

    Raises
    ------
    UsageError
        If ``ZTFMATCH_CONFIG`` names none.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise click.UsageError(f"{CONFIG_VARIABLE} is {named}; there is no such file.")
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    usual = Path(home) / "ztfmatch" / "config.toml"
    return usual if usual.is_file() else None


def _default_map(program: click.Group, ctx: click.Context) -> Json | None:
    path = config_file()
    if path is None:
        return None
    from ztfmatch.core.errors import ConfigError
    from ztfmatch.core.settings import read_toml

    try:
        said = read_toml(path, "defaults")
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    general = said.pop(DEFAULTS, {})
    if not isinstance(general, dict):
        raise click.UsageError(f"{path}: [{DEFAULTS}] is {general!r}; expected a table of options.")
    used: set[str] = set()
    made = _of_group(program, ctx, said, general, (str(path), used))
    for name in general.keys() - used:
        raise click.UsageError(f"{path}: [{DEFAULTS}] {name}: no command has such an option.")
    return made


def _of_group(group: click.Group, ctx: click.Context, said: Json, general: Json, file: tuple[str, set[str]]) -> Json:
    """Defaults of a group's commands, by the names that click has for parameters."""
    path, used = file
    for name, value in said.items():
        if name not in group.commands or not isinstance(value, dict):
            raise click.UsageError(f"{path}: [{name}] is not a command; expected such as [append], or [{DEFAULTS}].")
    made: Json = {}
    for name, command in group.commands.items():
        own = said.get(name, {})
        if isinstance(command, click.Group):
            made[name] = _of_group(command, ctx, own, general, file)
            continue
        options = _options(command)
        for key in own:
            if _plain(key) not in options:
                raise click.UsageError(f"{path}: [{name}] {key}: the command has no such option.")
        shared = {key: value for key, value in general.items() if _plain(key) in options}
        used.update(shared)
        made[name] = {}
        for key, value in {**shared, **own}.items():
            param = options[_plain(key)]
            where = f"{path}: [{name if key in own else DEFAULTS}] {key}"
            made[name][str(param.name)] = _checked(param, value, where)
    return made


def _checked(param: click.Option, value: Any, where: str) -> Any:
    """A value of the file for an option; one is a list of it, where an option may be given more than once.

    Raises
    ------
    UsageError
        If it is a list and the option takes one value, or not whole and the option counts: click would take some text
        or number for it.
    """
    if param.multiple and not isinstance(value, list):
        return [value]
    if isinstance(value, list | dict) and not param.multiple and param.nargs == 1:
        raise click.UsageError(f"{where} is {value!r}; expected one value, as on the command line.")
    if isinstance(value, bool | float) and isinstance(param.type, type(click.INT)):
        raise click.UsageError(f"{where} is {str(value).lower()}; expected a whole number.")
    return value


def _options(command: click.Command) -> dict[str, click.Option]:
    """Options of a command by their names on the command line, without dashes."""
    found: dict[str, click.Option] = {}
    for param in command.params:
        if isinstance(param, click.Option) and param.name not in _NEVER_DEFAULT:
            found |= {_plain(word.lstrip("-")): param for word in param.opts if word.startswith("--")}
    return found


def _plain(name: str) -> str:
    return name.replace("_", "-")
