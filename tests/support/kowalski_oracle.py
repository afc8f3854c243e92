"""Kowalski's documents by the rules of its ingester, in plain Python, from the tables of a store or of a matchfile.

Written from what the public ingester does, row by row; shares no code with the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Document = dict[str, Any]

NAN = float("nan")


def three(value: Any) -> float:
    return NAN if value is None else round(float(value), 3)


def hms(ra: float) -> str:
    h = math.floor(ra * 12.0 / 180.0)
    m = math.floor((ra * 12.0 / 180.0 - h) * 60.0)
    s = ((ra * 12.0 / 180.0 - h) * 60.0 - m) * 60.0
    return f"{h:02.0f}:{m:02.0f}:{s:07.4f}"


def dms(dec: float) -> str:
    d = np.floor(abs(dec)) * np.sign(dec)
    m = np.floor(np.abs(dec - d) * 60.0)
    s = np.abs(np.abs(dec - d) * 60.0 - m) * 60.0
    return f"{d:02.0f}:{m:02.0f}:{s:06.3f}"


def source_document(unit: tuple[int, int, int], source: Document, epochs: list[Document]) -> Document:
    """A source and its epochs, with the columns of a matchfile."""
    field, rc, fid = unit
    ra, dec = float(source["ra"]), float(source["dec"])
    document: Document = {
        "matchid": int(source["matchid"]),
        "nobs": int(source["nobs"]),
        "ra": ra,
        "dec": dec,
        **{
            name: three(source[name])
            for name in ("meanmag", "refchi", "refmag", "refmagerr", "refsharp", "vonneumannratio", "iqr")
        },
        "_id": 10**13 + field * 10**9 + rc * 10**7 + fid * 10**6 + int(source["matchid"]),
        "filter": fid,
        "field": field,
        "ccd": rc // 4 + 1,
        "quad": rc % 4 + 1,
        "rc": rc,
        "coordinates": {
            "radec_str": [hms(ra), dms(dec)],
            "radec_geojson": {"type": "Point", "coordinates": [ra - 180.0, dec]},
        },
    }
    base = 10**16 + field * 10**12 + rc * 10**10 + fid * 10**9
    document["data"] = [
        {
            **{name: round(float(epoch[name]), 3) for name in ("chi", "sharp")},
            **{name: round(float(epoch[name]), 5) for name in ("hjd", "mag", "magerr")},
            **{name: float(epoch[name]) for name in ("ra", "dec")},
            **{name: int(epoch[name]) for name in ("catflags", "expid", "programid")},
            "uexpid": base + int(epoch["expid"]),
        }
        for epoch in sorted(epochs, key=lambda epoch: epoch["hjd"])
    ]
    return document


def statistics(epochs: list[Document]) -> Document:
    """Of the clean epochs in order of time, by numpy alone."""
    clean = sorted((e for e in epochs if e["catflags"] == 0 and not math.isnan(e["mag"])), key=lambda e: e["hjd"])
    m = np.array([e["mag"] for e in clean], np.float64)
    row: Document = {"nobs": len(epochs), "meanmag": None, "vonneumannratio": None, "iqr": None}
    if len(m) >= 1:
        quarter, three_quarters = (np.float32(np.percentile(m, q)) for q in (25.0, 75.0))
        row |= {"meanmag": np.float32(m.mean()), "iqr": np.round(three_quarters - quarter, 3)}
    if len(m) >= 2 and m.var() > 0.0:
        row["vonneumannratio"] = np.float32((np.diff(m) ** 2).sum() / (len(m) - 1) / m.var(ddof=1))
    return row


def differences(got: Any, expected: Any, where: str = "") -> list[str]:
    """Every value that is another, or of another type."""
    if type(got) is not type(expected):
        return [f"{where}: {got!r} is {type(got).__name__}, not {expected!r}"]
    if isinstance(expected, dict):
        if got.keys() != expected.keys():
            return [f"{where}: has {sorted(got.keys() ^ expected.keys())} or not"]
        return [line for key in expected for line in differences(got[key], expected[key], f"{where}.{key}")]
    if isinstance(expected, list):
        if len(got) != len(expected):
            return [f"{where}: {len(got)} items, not {len(expected)}"]
        pairs = zip(got, expected, strict=True)
        return [line for i, (a, b) in enumerate(pairs) for line in differences(a, b, f"{where}[{i}]")]
    if isinstance(expected, float):
        same = (math.isnan(got) and math.isnan(expected)) or (
            got == expected and math.copysign(1, got) == math.copysign(1, expected)
        )
        return [] if same else [f"{where}: {got!r}, not {expected!r}"]
    return [] if got == expected else [f"{where}: {got!r}, not {expected!r}"]


Content = dict[str, dict[Any, Document]]
"""Documents by collection and ``_id``: what a database holds."""


def apply(content: Content, lines: Iterable[tuple[str, str, Document]]) -> None:
    """What loading does: lines by collection and action. An epoch is known by its uexpid."""
    for collection, action, line in lines:
        documents = content.setdefault(collection, {})
        if action == "upsert":
            documents[line["_id"]] = line
        elif action == "remove":
            documents.pop(line["_id"], None)
        else:
            document = documents[line["_id"]]
            document.update(line["set"])
            epochs = {epoch["uexpid"]: epoch for epoch in (*document["data"], *line["push"]["data"])}
            document["data"] = sorted(epochs.values(), key=lambda epoch: (epoch["hjd"], epoch["uexpid"]))


def store_documents(tables: dict[str, list[Document]], allowed: Any = lambda exposure: True) -> Content:
    """All documents of a store's tables (objects, detections, exposures), of allowed exposures alone."""
    exposures = {row["exposureid"]: row for row in tables["exposures"] if allowed(row)}
    epochs: dict[int, list[Document]] = {}
    for row in tables["detections"]:
        if row["exposureid"] in exposures:
            epochs.setdefault(row["objectid"], []).append({**row, **_of_exposure(exposures[row["exposureid"]])})
    content: Content = {"sources": {}, "exposures": {}}
    for row in tables["objects"]:
        mine = epochs.get(row["objectid"])
        if mine is None:
            continue
        assert row["status"] == "active"
        unit = (row["field"], row["rcid"], row["fid"])
        document = source_document(unit, {**row, "matchid": row["sourceid"], **statistics(mine)}, mine)
        for epoch in document["data"]:
            _correct_exposure(epoch, exposures, unit)
        if row["generation"] or row["sourceid"] >= 10**6:
            document["_id"] = 10**17 + row["objectid"]
        content["sources"][document["_id"]] = document
    for row in exposures.values():
        document = exposure_document(row)
        content["exposures"][document["_id"]] = document
    return content


def _of_exposure(exposure: Document) -> Document:
    """What an epoch has of its exposure; an unknown expid is the exposure's key until the end."""
    expid = exposure["expid"] if exposure["expid"] is not None else exposure["exposureid"]
    return {"expid": expid, "programid": exposure["programid"] if exposure["programid"] is not None else 0}


def _correct_exposure(epoch: Document, exposures: dict[int, Document], unit: tuple[int, int, int]) -> None:
    """What Kowalski has no rule for: exposures without a number or without a program."""
    if epoch["expid"] > 10**14:
        exposureid = epoch["expid"]
        epoch |= {"expid": exposureid // 100, "uexpid": 10**18 + exposureid}
    epoch["programid"] = epoch["programid"] or None


SINGLE = {
    "airmass": "airmass", "clrcoeff": "clrcoeff", "clrcounc": "clrcounc", "diq": "seeing", "exptime": "exptime",
    "limitmag": "maglimit", "magzp": "magzp", "magzprms": "magzprms", "magzpunc": "magzpunc",
    **{name: name for name in ("clrmed", "clrrms", "gmedian", "ipac_pub_date", "zpclrcov", "zpmed")},
}  # fmt: skip
INTEGER = {
    "fieldid": "field", "filterid": "fid", "fracday": "fracday", "infobits": "infobits", "nps1matches": "nmatches",
    "nstars": "nstars", "programid": "programid", "rcid": "rcid",
}  # fmt: skip


def exposure_document(row: Document) -> Document:
    """A row of the ledger under the names of a matchfile, whose floats have 32 bits."""
    field, rc, fid = row["field"], row["rcid"], row["fid"]
    row = row | {"exptime": 30.0 if row["exptime"] is None else row["exptime"]}
    singles = {name: NAN if row[column] is None else float(np.float32(row[column])) for name, column in SINGLE.items()}
    expid = row["expid"]
    known = 10**16 + field * 10**12 + rc * 10**10 + fid * 10**9
    return {
        **singles,
        **{name: row[column] for name, column in INTEGER.items()},
        "nsources": row["nmatched"] if row["nsources"] is None else row["nsources"],
        "ntransients": row["norphans"] if row["ntransients"] is None else row["ntransients"],
        "obsmjd": row["obsmjd"],
        "obshjd": NAN if row["obshjd"] is None else row["obshjd"],
        "programpi": (row["programpi"] or "").encode(),
        "expid": row["exposureid"] // 100 if expid is None else expid,
        "pcolor": (row["pcolor"] or "").encode(),
        "matchfile": f"ztf_{field:06d}_{' gri'[fid].join(['z', ''])}_c{row['ccdid']:02d}_q{row['qid']}_match.pytable",
        "_id": 10**18 + row["exposureid"] if expid is None else known + expid,
        "filter": fid,
        "field": field,
        "ccd": row["ccdid"],
        "quad": row["qid"],
        "rc": rc,
    }
