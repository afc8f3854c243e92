"""Measure ztfmatch against the limit of the machine and against its peers: ``python tests/benchmarks/run.py``.

See README.md beside this file. Prints tables and writes JSON; takes minutes, and is no test.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from columns import sizes_of
from contenders import Bench, Settings
from report import figures, table_of_columns, table_of_figures, table_of_runs, to_json


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--catalogs", type=int, nargs="+", default=[100, 1000], help="inputs, in catalogs of 17,000 rows"
    )
    parser.add_argument("--repeat", type=int, default=3, help="counted rounds of each contender")
    parser.add_argument("--with-peers", action="store_true", help="run hats-import + LSDB too")
    parser.add_argument("--peer-catalogs", type=int, nargs="+", default=[100], help="inputs that the peer is run on")
    parser.add_argument("--peer-repeat", type=int, default=1, help="runs of the peer")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has hats-import and lsdb")
    parser.add_argument("--ztfmatch", default=f"{shlex.quote(sys.executable)} -m ztfmatch", help="command to measure")
    parser.add_argument("--workdir", type=Path, help="where data and stores go, kept for the next time (2 GB)")
    parser.add_argument("--json", type=Path, help="write all runs there")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="contenders to run; all without it")
    parser.add_argument("--columns", action="store_true", help="print the bytes per row of every column")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and report."""
    arguments = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="ztfmatch-benchmark-") as temporary:
        workdir = (arguments.workdir or Path(temporary)).absolute()
        settings = Settings(
            workdir,
            tuple(shlex.split(arguments.ztfmatch)),
            arguments.repeat,
            arguments.peer_python,
            arguments.peer_repeat,
            tuple(arguments.only),
            lambda text: print(text, file=sys.stderr, flush=True),
        )
        _measure(settings, arguments)


def _measure(settings: Settings, arguments: argparse.Namespace) -> None:
    benches = [Bench(settings, catalogs) for catalogs in sorted(set(arguments.catalogs))]
    for bench in benches:
        bench.prepare()
        bench.rounds()
        if arguments.with_peers and bench.results.catalogs in arguments.peer_catalogs:
            bench.peers()
    every = [bench.results for bench in benches]
    sizes = sizes_of(benches[-1].finished, "detections")
    rows = figures(every, sizes)
    for results in every:
        print(table_of_runs(results), end="\n\n")
    if arguments.columns:
        print(table_of_columns(sizes), end="\n\n")
    print(table_of_figures(rows))
    content = to_json(every, rows, sizes, {name: str(value) for name, value in vars(arguments).items()})
    text = json.dumps(content, indent=1)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    else:
        print("\n" + text)


if __name__ == "__main__":
    main()
