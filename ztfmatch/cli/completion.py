"""The command completion: shell completion of commands and options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from ztfmatch.cli import options
from ztfmatch.cli.common import Command, emit

_PLACES: Final = {
    "bash": ("XDG_DATA_HOME", "~/.local/share", "bash-completion/completions/ztfmatch"),
    "zsh": ("XDG_DATA_HOME", "~/.local/share", "zsh/site-functions/_ztfmatch"),
    "fish": ("XDG_CONFIG_HOME", "~/.config", "fish/completions/ztfmatch.fish"),
}
"""Where each shell looks: the variable, its default, and the path below."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(_PLACES)))
@options.flag("--install", "Install it where the shell finds it, instead of printing it.")
@options.as_json
@click.pass_context
def completion(ctx: click.Context, shell: str, install: bool, as_json: bool) -> None:
    """Print or install command completion for a SHELL.

    An installed script takes effect in new shells. zsh needs its directory in fpath.

    \b
    Examples:
      ztfmatch completion bash --install
      ztfmatch completion zsh
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}.")
    script = kind(ctx.find_root().command, {}, "ztfmatch", "_ZTFMATCH_COMPLETE").source()
    variable, usual, below = _PLACES[shell]
    path = Path(os.environ.get(variable) or Path(usual).expanduser()) / below
    if install:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
        where = f", where {path.parent} is in their fpath" if shell == "zsh" else ""
        emit({"shell": shell, "path": str(path)}, as_json, [f"Written: {path}; new shells complete{where}."])
    else:
        emit({"shell": shell, "script": script}, as_json, [script])
