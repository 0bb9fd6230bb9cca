"""Where the bytes of a lake lie: a local folder, or a bucket of an object store (``backtest.lake.bucket``).

Keys are relative paths with ``/``. ``put`` and ``put_if_absent`` are atomic and durable: after they return the bytes
survive a power cut, before that nobody sees any of them.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from backtest import foreign
from backtest.errors import LakeError
from backtest.lake import lock

_UNFINISHED = ".unfinished"


class Storage(Protocol):
    """What a lake needs of a store.

    ``path`` is the store as a user writes it. ``grace``: seconds for which what no manifest names is kept, since
    without a lock it may be what another writer is about to publish.
    """

    path: Path | str
    grace: int

    def create(self) -> None:
        """Make it ready for a first manifest; LakeError where that cannot be, or where it holds something else."""

    def remove(self, manifest: str) -> None:
        """Undo ``create``: the manifest of an empty lake goes, and what nothing names."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers out meanwhile, where the store can; LakeError naming the holder. Where it cannot,
        ``put_if_absent`` alone decides.
        """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write the whole object; an object of the same name is replaced."""

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Write the whole object unless there is one already; False if there is. Of two callers exactly one gets
        True.
        """

    def read(self, key: str) -> bytes:
        """The whole object; FileNotFoundError if there is none."""

    def list(self, prefix: str, *, older_than: int = 0) -> list[str]:
        """All keys below a folder, sorted, unfinished writes included (``is_unfinished`` tells them). ``older_than``:
        seconds since the last change, at least.
        """

    def delete(self, key: str) -> None:
        """Remove an object; no error if there is none."""

    def location(self, key: str) -> str:
        """What Parquet readers open, once it is provided: an absolute path."""

    def provide(self, locations: Iterable[str]) -> None:
        """Make these locations readable: a remote store copies what is not here yet. LakeError where one is gone."""

    def renew(self, location: str) -> bool:
        """Copy it from the store again; False where it is no copy but the thing itself."""


def open_storage(path: str | Path) -> Storage:
    """The store that a path or an address names."""
    if "\0" in str(path):
        raise LakeError(f"{foreign.shown(str(path))}: a path holds no NUL", "check the path of the lake")
    # One slash as well: pathlib, which reads paths on the command line, folds two into one.
    if remote := re.fullmatch(r"s3:/{1,2}([^/]+)/?(.*)", str(path)):
        from backtest.lake.bucket import Bucket

        return Bucket(remote[1], remote[2].strip("/"))
    return LocalStorage(Path(path).expanduser().absolute())


def is_unfinished(key: str) -> bool:
    """Whether a key is what an interrupted write left behind."""
    return _UNFINISHED in key.rsplit("/", 1)[-1]


class LocalStorage:
    """A folder of a local disk."""

    grace = 0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path: Path | str = root
        self._durable: set[Path] = set()
        self._made: list[Path] = []
        """Folders that were not there before, innermost first."""

    def create(self) -> None:
        self._made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(
                f"cannot make a lake at {self.root}: {error.strerror}", "choose a folder that can be written"
            ) from error
        strangers = [
            entry.name for entry in self.root.iterdir() if entry.name not in ("manifest", "data", "writer.lock")
        ]
        if strangers:
            raise LakeError(
                f"{self.root} is not a lake and not empty ('{strangers[0]}')", "give an empty or new folder"
            )

    def remove(self, manifest: str) -> None:
        self.delete(manifest)
        for name in ("data", "manifest"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / "writer.lock").unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else by now
            for folder in self._made:
                folder.rmdir()

    def exclusive(self) -> AbstractContextManager[None]:
        return lock.exclusive(self.root / "writer.lock")

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
            try:
                handle = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise LakeError(
                    f"cannot sync {folder}: {error.strerror or error}; the last write may not survive a power cut",
                    "check the disk, then run again",
                ) from error
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

    def list(self, prefix: str, *, older_than: int = 0) -> list[str]:
        found = [path for path in (self.root / prefix).rglob("*") if path.is_file()]
        if older_than:
            found = [path for path in found if time.time() - path.stat().st_mtime >= older_than]
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def location(self, key: str) -> str:
        return str(self.root / key)

    def provide(self, locations: Iterable[str]) -> None:
        """Everything is here."""

    def renew(self, location: str) -> bool:
        return False


def _cannot_write(path: Path, error: OSError) -> LakeError:
    return LakeError(
        f"cannot write {path}: {error.strerror or error}",
        "nothing was committed; free space or fix permissions, then run again",
    )
