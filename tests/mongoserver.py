"""A stand-in for a MongoDB server on the loopback, which real drivers talk to in MongoDB's own wire protocol.

It knows the few commands and operators that a load uses, with the semantics of MongoDB's manual, and refuses all
others, so that nothing passes here for want of being understood. MongoDB's server is in no package registry; with
ZTFMATCH_TEST_MONGO_URI the same tests run against a real one.
"""

from __future__ import annotations

import contextlib
import copy
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bson import BSON, decode, encode, int64
from bson.codec_options import CodecOptions

Document = dict[str, Any]

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013


class Refused(Exception):
    """A command fails with this code."""

    def __init__(self, code: int, message: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code, self.labels = code, labels


class HangUp(Exception):
    """The connection breaks without an answer."""


@dataclass
class Fault:
    """What happens to the next commands of a name: some pass, some fail, before or after they were carried out."""

    command: str
    passing: int = 0
    failing: int = 1
    after: bool = False
    """The command is carried out, and its answer is lost."""
    code: int | None = None
    """Answered with this error; None hangs up."""


@dataclass
class Databases:
    """What the server holds."""

    collections: dict[str, dict[Any, Document]] = field(default_factory=dict)
    """By database.collection; documents by _id, in the order in which they came."""
    indexes: dict[str, list[Document]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, command: Document) -> Document:
        """Carry out a command."""
        name = next(iter(command))
        with self.lock:
            self.commands.append(name)
            fault = self._fault(name)
            if fault is not None and not fault.after:
                self._break(fault)
            found = getattr(self, f"_{name.lower()}", None)
            if found is None:
                raise Refused(59, f"no such command: '{name}'")
            reply: Document = found(command)
            if fault is not None:
                self._break(fault)
            return {**reply, "ok": 1.0}

    def _fault(self, name: str) -> Fault | None:
        for fault in self.faults:
            if fault.command == name and fault.failing:
                if fault.passing:
                    fault.passing -= 1
                    return None
                fault.failing -= 1
                return fault
        return None

    @staticmethod
    def _break(fault: Fault) -> None:
        if fault.code is None:
            raise HangUp
        raise Refused(fault.code, "scripted")

    def _hello(self, command: Document) -> Document:
        return {
            "helloOk": True, "isWritablePrimary": True, "ismaster": True, "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "minWireVersion": 0, "maxWireVersion": 21,
            "readOnly": False, "logicalSessionTimeoutMinutes": 30,
        }  # fmt: skip

    _ismaster = _hello

    def _ping(self, command: Document) -> Document:
        return {}

    _endsessions = _ping

    def _collection(self, command: Document) -> dict[Any, Document]:
        return self.collections.setdefault(f"{command['$db']}.{next(iter(command.values()))}", {})

    def _createindexes(self, command: Document) -> Document:
        there = self.indexes.setdefault(f"{command['$db']}.{command['createIndexes']}", [])
        for index in command["indexes"]:
            if index["name"] not in [one["name"] for one in there]:
                there.append(index)
        return {}

    def _count(self, command: Document) -> Document:
        if command.get("query"):
            raise Refused(9, "count with a query")
        return {"n": len(self._collection(command))}

    def _find(self, command: Document) -> Document:
        documents = self._collection(command)
        batch = [documents[one] for one in _ids(command.get("filter", {}), documents) if one in documents]
        if command.get("projection") == {"_id": 1}:
            batch = [{"_id": document["_id"]} for document in batch]
        elif command.get("projection"):
            raise Refused(9, f"projection {command['projection']}")
        limit = abs(command.get("limit", 0))
        batch = copy.deepcopy(batch[:limit] if limit else batch)
        return {"cursor": {"id": int64.Int64(0), "ns": f"{command['$db']}.{command['find']}", "firstBatch": batch}}

    def _insert(self, command: Document) -> Document:
        documents = self._collection(command)
        for document in command["documents"]:
            if document["_id"] in documents:
                raise Refused(11000, "E11000 duplicate key error")
            documents[document["_id"]] = document
        return {"n": len(command["documents"])}

    def _delete(self, command: Document) -> Document:
        documents, n = self._collection(command), 0
        for one in command["deletes"]:
            for name in [name for name in _ids(one["q"], documents) if name in documents][: one["limit"] or None]:
                del documents[name]
                n += 1
        return {"n": n}

    def _update(self, command: Document) -> Document:
        documents, n, modified, upserted = self._collection(command), 0, 0, []
        for index, one in enumerate(command["updates"]):
            if set(one) - {"q", "u", "upsert", "multi"} or one.get("multi"):
                raise Refused(9, f"update with {set(one)}")
            found = [name for name in _ids(one["q"], documents) if name in documents]
            if len(_ids(one["q"], documents)) != 1:
                raise Refused(9, "update of other than one _id")
            if found:
                before = documents[found[0]]
                documents[found[0]] = _updated(before, one["u"])
                n, modified = n + 1, modified + (documents[found[0]] != before)
            elif one.get("upsert"):
                name = one["q"]["_id"]
                documents[name] = _updated({"_id": name}, one["u"])
                n, upserted = n + 1, [*upserted, {"index": index, "_id": name}]
        return {"n": n, "nModified": modified, **({"upserted": upserted} if upserted else {})}


def _ids(query: Document, documents: dict[Any, Document]) -> list[Any]:
    """The ``_id`` that a query asks for."""
    if not query:
        return list(documents)
    if set(query) != {"_id"}:
        raise Refused(9, f"query {query}")
    wanted = query["_id"]
    if not isinstance(wanted, dict):
        return [wanted]
    if set(wanted) != {"$in"}:
        raise Refused(9, f"query {query}")
    return list(wanted["$in"])


def _updated(document: Document, update: Document) -> Document:
    """A document after a replacement, or after $set, $push with $each and $sort, and $pull by $in of a field."""
    if not any(name.startswith("$") for name in update):
        if update.get("_id", document["_id"]) != document["_id"]:
            raise Refused(66, "the _id is immutable")
        return {"_id": document["_id"], **copy.deepcopy(update)}
    new = copy.deepcopy(document)
    paths = [path for changes in update.values() for path in changes]
    if len(paths) != len(set(paths)):
        raise Refused(40, "updating a path twice would create a conflict")
    for operator, changes in copy.deepcopy(update).items():
        for path, value in changes.items():
            if "." in path or path == "_id":
                raise Refused(9, f"path {path}")
            _apply(new, operator, path, value)
    return new


def _apply(document: Document, operator: str, path: str, value: Any) -> None:
    if operator == "$set":
        document[path] = value
    elif operator == "$pull" and path in document:
        ((name, condition),) = value.items()
        if set(condition) != {"$in"}:
            raise Refused(9, f"$pull {value}")
        document[path] = [item for item in document[path] if item.get(name) not in condition["$in"]]
    elif operator == "$push":
        if set(value) != {"$each", "$sort"}:
            raise Refused(9, f"$push {value}")
        items = [*document.get(path, []), *value["$each"]]
        for name, direction in reversed(value["$sort"].items()):
            items.sort(key=lambda item: item[name], reverse=direction < 0)
        document[path] = items
    elif operator != "$pull":
        raise Refused(9, f"unknown modifier {operator}")


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, HangUp, struct.error):
            while True:
                length, request, _, opcode = _HEADER.unpack(self._read(_HEADER.size))
                body = self._read(length - _HEADER.size)
                if opcode == _OP_MSG:
                    payload = struct.pack("<iB", 0, 0) + encode(self._carry_out(_message(body)))
                    kind = _OP_MSG
                elif opcode == _OP_QUERY:
                    start = body.index(b"\0", 4) + 1 + 8
                    payload = struct.pack("<iqii", 8, 0, 0, 1) + encode(self._carry_out(decode(body[start:])))
                    kind = _OP_REPLY
                else:
                    return
                self.request.sendall(_HEADER.pack(_HEADER.size + len(payload), 0, request, kind) + payload)

    def _carry_out(self, command: Document) -> Document:
        try:
            return self.server.databases.answer(command)  # type: ignore[attr-defined]
        except Refused as error:
            labels = {"errorLabels": list(error.labels)} if error.labels else {}
            return {"ok": 0.0, "errmsg": str(error), "code": error.code, "codeName": "Scripted", **labels}

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            part = self.request.recv(count - len(content))
            if not part:
                raise ConnectionError
            content += part
        return content


def _message(body: bytes) -> Document:
    """The command of an OP_MSG: its document, and the sequences of documents that belong to it."""
    command: Document = {}
    sequences: Document = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        size = struct.unpack_from("<i", body, at)[0]
        part = body[at : at + size]
        at += size
        if kind == 0:
            command = BSON(part).decode(CodecOptions(document_class=dict))
        else:
            end = part.index(b"\0", 4)
            sequences[part[4:end].decode()] = list(_sequence(part[end + 1 :]))
    return {**command, **sequences}


def _sequence(content: bytes) -> Iterator[Document]:
    at = 0
    while at < len(content):
        size = struct.unpack_from("<i", content, at)[0]
        yield decode(content[at : at + size])
        at += size


@contextlib.contextmanager
def mongo_server() -> Iterator[tuple[str, Databases]]:
    """URI of a running server, and what it holds."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        databases = Databases()

    with Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"mongodb://127.0.0.1:{server.server_address[1]}/kowalski?directConnection=true", server.databases
        finally:
            server.shutdown()
            thread.join()
