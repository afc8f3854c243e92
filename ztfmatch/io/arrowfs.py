"""A store as a file system for Arrow's scanner, so that tables in an object store are read lazily."""

from __future__ import annotations

from typing import Any, NoReturn

from pyarrow import fs

from ztfmatch.io.storage import Storage


class StorageHandler(fs.FileSystemHandler):  # type: ignore[misc]
    """What a scanner of named files needs: to open one; the files are immutable, so nothing is written."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageHandler) and other.storage == self.storage

    def __hash__(self) -> int:
        return hash(self.storage)

    def get_type_name(self) -> str:
        """Kind of file system."""
        return "ztfmatch"

    def normalize_path(self, path: str) -> str:
        """Paths are used as they are."""
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        """Every path that a snapshot names is a file."""
        return [fs.FileInfo(path, fs.FileType.File) for path in paths]

    def open_input_file(self, path: str) -> Any:
        """A seekable file."""
        return self.storage.open_input(path)

    open_input_stream = open_input_file

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("a store is read only by this way")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse


def file_system_of(storage: Storage) -> Any:
    """Arrow's file system over a store's paths."""
    return fs.PyFileSystem(StorageHandler(storage))
