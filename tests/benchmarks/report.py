"""From runs to figures: medians, ratios pair by pair, targets, tables, JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from columns import Sizes
from contenders import BESIDE_PEER, CORES, FREE_WORKER, PEER, ROOT, Results, last_json
from measure import Measurement

MEMORY_TARGET_MIB = 2048
LIMITS = ("limit", "rematch limit")
_PACKAGES = ("ztfmatch", "numpy", "pyarrow", "numba", "dask", "distributed", "obstore", "healpy", "astropy")


@dataclass(frozen=True)
class Figure:
    """One measured figure and what it should reach."""

    name: str
    value: float | None
    target: float | None
    unit: str
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None if it was not measured or has no target."""
        if self.value is None or self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "met": self.met}


def figures(every: Sequence[Results], sizes: Sizes) -> list[Figure]:
    """The figures of the requirements, on the largest input; the peer's on the largest that it was run on."""
    big = max(every, key=lambda r: r.catalogs)
    peered = max((r for r in every if PEER in r.runs), key=lambda r: r.catalogs, default=big)
    matched, two = sizes.per_row()["all"], _wall("append, 2 workers")
    return [
        Figure("append", _rate(big, "append"), 1e6, "detections/s/core"),
        Figure("append, of the limit", _ratio(big, _wall("limit"), _wall("append")), 0.2, ""),
        Figure("append, times hats-import + LSDB", _peer_ratio(peered), 25, "", note=_peer_note(peered)),
        Figure("statistics", _rate(big, "statistics"), 3e6, "detections/s/core"),
        Figure("compaction", _rate(big, "compact"), 2e6, "detections/s/core"),
        Figure("rematch", _rate(big, "rematch"), 1e6, "detections/s/core"),
        Figure("rematch, of the limit", _ratio(big, _wall("rematch limit"), _wall("rematch")), 0.25, ""),
        *(
            Figure(f"{name}, CPU with stars", _ratio(big, _cpu(f"{name}, linked"), _cpu(name)), 1.05, "", at_most=True)
            for name in ("append", "rematch")
        ),
        Figure("verify", _rate(big, "verify"), None, "detections/s/core"),
        Figure("append, 2 workers, times 1 on 1 core", _ratio(big, _wall("append, 1 worker"), two), 1.7, ""),
        Figure("append, 2 workers, times 1 on 2 cores", _ratio(big, _wall(FREE_WORKER), two), None, ""),
        Figure("stored detection", matched, 32, "bytes", at_most=True),
        *(
            Figure(f"peak memory, {results.catalogs} catalogs", _peak(results), MEMORY_TARGET_MIB, "MiB", at_most=True)
            for results in every
        ),
        *(
            Figure(
                f"peak memory of rematch, {results.catalogs} catalogs",
                _peak(results, ("rematch",)),
                MEMORY_TARGET_MIB,
                "MiB",
                at_most=True,
            )
            for results in every
        ),
    ]


def limit_seconds(results: Results, name: str = "limit") -> list[float]:
    """Of each round: what a limit's clock counted, and the start of a process that imports what it needs."""
    limits, starts = results.runs.get(name, []), results.runs.get("start-up", [])
    return [float(last_json(x)["seconds"]) + s.wall_s for x, s in zip(limits, starts, strict=False)]


def seconds_of(results: Results, name: str) -> list[float]:
    """Wall seconds of each round; those of the limit as :func:`limit_seconds` says."""
    return limit_seconds(results, name) if name in LIMITS else [run.wall_s for run in results.runs.get(name, [])]


def detections_of(results: Results, name: str) -> int:
    """How many detections a run of a contender works through."""
    if name.startswith(("rematch", "verify")):
        return results.kept
    return results.stored if name.startswith("statistics") else 0 if name == "start-up" else results.rows


def _wall(name: str) -> Callable[[Results], list[float]]:
    return lambda results: seconds_of(results, name)


def _rate(results: Results, name: str) -> float | None:
    times = seconds_of(results, name)
    return detections_of(results, name) / CORES.get(name, 1) / statistics.median(times) if times else None


def _ratio(
    results: Results, above: Callable[[Results], list[float]], below: Callable[[Results], list[float]]
) -> float | None:
    pairs = [a / b for a, b in zip(above(results), below(results), strict=False)]
    return statistics.median(pairs) if pairs else None


def _cpu(name: str) -> Callable[[Results], list[float]]:
    return lambda results: [run.user_s + run.system_s for run in results.runs.get(name, [])]


def _peer_ratio(results: Results) -> float | None:
    ratio = _ratio(results, _wall(PEER), _wall(BESIDE_PEER))
    return None if ratio is None else ratio * CORES[PEER]


def _peer_note(results: Results) -> str:
    """Input, and the ratio of CPU times, which other users of the machine disturb less."""
    theirs, ours = (results.runs.get(name, []) for name in (PEER, BESIDE_PEER))
    pairs = [(a.user_s + a.system_s) / (b.user_s + b.system_s) for a, b in zip(theirs, ours, strict=False)]
    by_cpu = f"; {statistics.median(pairs):.3g} by CPU time" if pairs else ""
    return f"{results.catalogs} catalogs{by_cpu}"


def _peak(results: Results, ours: tuple[str, ...] = ("append", "statistics", "compact")) -> float | None:
    """Largest process of any run of these."""
    runs = [run for name, runs in results.runs.items() if name.startswith(ours) and name not in LIMITS for run in runs]
    return max((max(run.main_rss_mib, run.worker_rss_mib or 0) for run in runs), default=None)


def table_of_runs(results: Results) -> str:
    """Every contender of one input: medians, spread, memory."""
    title = f"{results.catalogs} catalogs, {results.rows:,} detections, {results.stored:,} of them matched"
    times_head = f"{'wall s':>8} {'(min..max)':>15}{'CPU s':>8}{'detections/s/core':>19}{'/CPU s':>12}"
    lines = [title, f"{'':32}{times_head}{'MiB main':>10}{'MiB worker':>12}"]
    for name, runs in results.runs.items():
        times = seconds_of(results, name)
        cpu = statistics.median(run.user_s + run.system_s for run in runs)
        per_cpu = 0 if name in LIMITS else detections_of(results, name) / cpu
        rate, workers = _rate(results, name), [run.worker_rss_mib for run in runs if run.worker_rss_mib]
        lines.append(
            f"{name:32}{statistics.median(times):8.2f} {f'({min(times):.2f}..{max(times):.2f})':>15}"
            f"{'-' if name in LIMITS else f'{cpu:.2f}':>8}{f'{rate:,.0f}' if rate else '-':>19}"
            f"{f'{per_cpu:,.0f}' if per_cpu else '-':>12}"
            f"{max(run.main_rss_mib for run in runs):10.0f}{f'{max(workers):.0f}' if workers else '-':>12}"
        )
    lines += [f"{name:32} skipped: {why}" for name, why in results.skipped.items()]
    return "\n".join(lines)


def say(rows: Sequence[Figure], runs: Any, file: Path | None) -> None:
    """Print figures; keep them in a file, if it is given, with the runs and what they were measured on."""
    print(table_of_figures(rows))
    if file:
        content = {
            "machine": machine(),
            "versions": versions(),
            "runs": runs,
            "figures": [row.to_json() for row in rows],
        }
        file.write_text(json.dumps(content, indent=1) + "\n")


def table_of_figures(rows: Sequence[Figure]) -> str:
    """Targets and what was measured."""
    lines = [f"{'figure':40}{'measured':>12}  {'target':>14}  {'':6}unit"]
    for row in rows:
        value = "-" if row.value is None else _short(row.value)
        verdict = {True: "met", False: "MISSED", None: "-"}[row.met]
        target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {_short(row.target)}"
        note = f" ({row.note})" if row.note else ""
        lines.append(f"{row.name:40}{value:>12}  {target:>14}  {verdict:6} {row.unit}{note}".rstrip())
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table_of_columns(sizes: Sizes) -> str:
    """Bytes per row of every column."""
    lines = [f"{'column of detections':24}{'bytes/row':>10}  encodings"]
    lines += [f"{name:24}{size:10.3f}  {sizes.encodings.get(name, '')}" for name, size in sizes.per_row().items()]
    return "\n".join(lines)


def to_json(
    every: Sequence[Results], rows: Sequence[Figure], sizes: Sizes, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was measured, and on what."""
    return {
        "machine": machine(),
        "versions": versions(),
        "arguments": arguments,
        "figures": [row.to_json() for row in rows],
        "bytes_per_detection": sizes.per_row(),
        "inputs": [
            {
                "catalogs": results.catalogs,
                "rows": results.rows,
                "stored": results.stored,
                "skipped": results.skipped,
                "runs": {name: [_run_json(name, run) for run in runs] for name, runs in results.runs.items()},
            }
            for results in every
        ],
    }


def _run_json(name: str, run: Measurement) -> dict[str, Any]:
    own = {"own": last_json(run)} if name in (*LIMITS, PEER) else {}
    return {**run.to_json(), **own}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = ""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "platform": platform.platform(),
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "load_average": os.getloadavg(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, and the commit."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {**found, "commit": git.stdout.strip()}
