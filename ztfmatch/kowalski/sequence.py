"""Which exports to load into the collections of a tag: the newest full one, then those that continue it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.plain import Json
from ztfmatch.kowalski.manifest import MANIFEST, Manifest, Span, read_manifest
from ztfmatch.kowalski.schema import SOURCES
from ztfmatch.kowalski.tasks.scope import json_text


@dataclass(frozen=True)
class Export:
    """A finished export."""

    storage: Storage
    manifest: Manifest

    @property
    def span(self) -> Span:
        """What it goes from and to."""
        return self.manifest.span


def find_exports(place: str) -> list[Export]:
    """Finished exports at a place: itself, or the directories in it; in their order.

    Raises
    ------
    ConfigError
        If there is none.
    """
    root = Storage.at(place)
    directories = [path.removesuffix(MANIFEST) for path, _ in root.list("") if path.endswith(MANIFEST)]
    places = [Storage.at(f"{root.root}/{name}".rstrip("/")) for name in sorted(directories)]
    exports = [Export(one, manifest) for one in places if (manifest := read_manifest(one)) is not None]
    if not exports:
        raise ConfigError(f"{place} holds no finished export of 'ztfmatch export kowalski'")
    return sorted(exports, key=lambda export: export.span.name)


@dataclass(frozen=True)
class State:
    """What the collections of a tag hold."""

    store: str
    scope: Json
    snapshot: int | None
    """The snapshot whose documents they are; None before the first full export is complete."""
    loading: str | None
    """Name of the export that is being loaded."""
    done: int = 0
    """How many of its files, in the order of its manifest, are in."""
    manifest: str | None = None
    """Digest of its manifest: made again with other files, it is loaded from the first."""


def collection_name(collection: str, tag: str) -> str:
    """Name of a collection, as Kowalski has it: ZTF_sources_20210401."""
    return f"ZTF_{collection}_{tag}"


def next_export(exports: Sequence[Export], state: State | None, tag: str) -> Export | None:
    """The export to be loaded into the collections of a tag; None if all are.

    Parameters
    ----------
    exports : sequence of Export
        At least one.
    state : State or None
        None where nothing was ever loaded.

    Raises
    ------
    ConfigError
        If no export continues what is loaded.
    """
    collection, place = collection_name(SOURCES, tag), exports[0].storage.root
    if state is None:
        return _full(exports, collection)
    mine = [export for export in exports if export.span.store == state.store]
    if not mine:
        raise ConfigError(
            f"{collection} holds documents of another store ({state.store}) than {place} ({exports[0].span.store}): "
            "choose another --tag"
        )
    if state.loading is None:
        return _following(mine, state, collection)
    for export in mine:
        if export.span.name == state.loading and export.span.scope == state.scope:
            return export
    raise ConfigError(
        f"{collection} is in the middle of export {state.loading}, which is not in {mine[0].storage.root}'s directory: "
        "bring it there"
    )


def _full(exports: Sequence[Export], collection: str) -> Export:
    """The newest full export."""
    full = [export for export in exports if export.span.since is None]
    if not full:
        raise ConfigError(
            f"{collection} is empty and {exports[0].storage.root} goes on from snapshot {exports[0].span.since}: load "
            "a full export first"
        )
    newest = [export for export in full if export.span.name == full[-1].span.name]
    if len(newest) > 1:
        places = ", ".join(export.storage.root for export in newest)
        raise ConfigError(f"which full export is to be loaded, {places}? Name one of them")
    return full[-1]


def _following(exports: Sequence[Export], state: State, collection: str) -> Export | None:
    newer = [export for export in exports if export.span.snapshot > (state.snapshot or 0)]
    fitting = [export for export in newer if (export.span.since, export.span.scope) == (state.snapshot, state.scope)]
    if fitting:
        return fitting[-1]
    if newer:
        raise ConfigError(
            f"{collection} holds snapshot {state.snapshot} of {json_text(state.scope)}; of the newer exports "
            f"({', '.join(export.span.name for export in newer[:5])}) none goes on from there: export --since "
            f"{state.snapshot} with the same --only, or load a full export under another --tag"
        )
    _check_scope(exports, state, collection)
    return None


def _check_scope(exports: Sequence[Export], state: State, collection: str) -> None:
    """Refuse what is of another filter than the documents, and not from before them: it is not in."""
    others = [export for export in exports if export.span.scope != state.scope]
    if len(others) < len(exports):
        others = [export for export in others if export.span.snapshot == state.snapshot]
    if others:
        raise ConfigError(
            f"{collection} holds snapshot {state.snapshot} of {json_text(state.scope)}; {others[-1].storage.root} is "
            f"of {json_text(others[-1].span.scope)}: load it under another --tag"
        )
