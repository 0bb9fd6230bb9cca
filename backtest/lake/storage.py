"""Where the bytes of a lake lie. Five operations, so that another store (S3) can take the place of a local folder.

Keys are relative paths with ``/``. ``put`` and ``put_if_absent`` are atomic and durable: after they return the bytes
survive a power cut, before that nobody sees any of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from backtest.errors import LakeError

_UNFINISHED = ".unfinished"


class Storage(Protocol):
    """What a lake needs of a store."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the whole object; an object of the same name is replaced."""

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the whole object unless there is one already; False if there is. Of two callers exactly one gets True."""

    def read(self, key: str) -> bytes:
        """The whole object; FileNotFoundError if there is none."""

    def list(self, prefix: str) -> list[str]:
        """All keys below a folder, sorted, unfinished writes included (``is_unfinished`` tells them)."""

    def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""

    def location(self, key: str) -> str:
        """What Parquet readers open: an absolute path."""


def is_unfinished(key: str) -> bool:
    """Whether a key is what an interrupted write left behind."""
    return _UNFINISHED in key.rsplit("/", 1)[-1]


class LocalStorage:
    """A folder of a local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[Path] = set()

    def _write(self, key: str, data: bytes | memoryview) -> Path:
        """The bytes, synced, under a name that no reader looks for."""
        target = self.root / key
        unfinished = target.with_name(f"{target.name}{_UNFINISHED}-{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _cannot_write(target, error) from error
        return unfinished

    def _sync_folders(self, folder: Path) -> None:
        """Make a new name durable: the folder that has it, and those above, which may be new themselves."""
        while True:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            self._durable.add(folder)
            if folder == self.root or folder.parent in self._durable:
                return
            folder = folder.parent

    def put(self, key: str, data: bytes | memoryview) -> None:
        unfinished = self._write(key, data)
        try:
            os.replace(unfinished, self.root / key)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise _cannot_write(self.root / key, error) from error
        self._sync_folders((self.root / key).parent)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        unfinished = self._write(key, data)
        try:
            os.link(unfinished, self.root / key)
        except FileExistsError:
            return False
        except OSError as error:
            raise _cannot_write(self.root / key, error) from error
        finally:
            unfinished.unlink(missing_ok=True)
        self._sync_folders((self.root / key).parent)
        return True

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def list(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        return sorted(path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def location(self, key: str) -> str:
        return str(self.root / key)


def _cannot_write(path: Path, error: OSError) -> LakeError:
    return LakeError(f"cannot write {path}: {error.strerror or error}", "nothing was committed; free space or fix permissions, then run again")
