"""Data files against the digests of their manifest: looked at once a process, before a file's rows are used.

A file is known by where it lies and by what the file system says of it (inode, size, times): one that was changed since
is looked at again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from backtest.errors import LakeError
from backtest.lake import parquet

if TYPE_CHECKING:
    from backtest.lake import FileEntry

_AT_ONCE = min(4, os.cpu_count() or 1)
_seen: dict[str, tuple[object, ...]] = {}


def forget() -> None:
    """Look at every file again when it is next asked for."""
    _seen.clear()


def fault(file: FileEntry) -> str | None:
    """What is wrong with a file, in a clause, or None; a file that was found right is not read again."""
    try:
        state = os.stat(file.path)
        known = (file.sha256, file.rows, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if _seen.get(file.path) == known:
            return None
        if state.st_size != file.bytes:
            return f"{state.st_size} bytes, not {file.bytes}"
        if file.sha256:
            with open(file.path, "rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != file.sha256:
                return f"SHA-256 {found[:16]}..., not {file.sha256[:16]}..."
        rows = parquet.row_count(file.path)
    except FileNotFoundError:
        return "it is gone"
    except OSError as error:
        return error.strerror or str(error)
    except LakeError as error:
        return error.what
    if rows != file.rows:
        return f"{rows} rows, not {file.rows}"
    _seen[file.path] = known
    return None


def faults(files: Sequence[FileEntry]) -> list[tuple[FileEntry, str]]:
    """Every file that is not as its manifest says, with what is wrong with it."""
    if len(files) < 2:
        found = [fault(file) for file in files]
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # hashing and reading leave Python's lock to others
            found = list(pool.map(fault, files))
    return [(file, what) for file, what in zip(files, found, strict=True) if what is not None]


def refusal(file: FileEntry, what: str, lake: object) -> LakeError:
    """Why a file is not read, and what mends it."""
    layer = file.dataset.partition("/")[0]
    remedy = {
        "canonical": f"build them anew: backtest reconstruct --lake {lake} --market {file.market}",
        "results": "restore it from a copy, or delete stored results (backtest runs delete --all) and replay again",
    }.get(layer, "restore it from a copy, or fetch into a new lake")
    if what == "it is gone":
        return LakeError(
            f"{file.path} is gone", f"the lake was compacted meanwhile: refresh() and read again; or {remedy}"
        )
    return LakeError(f"{file.path} is not the file that was written ({what}); nothing was read from it", remedy)
