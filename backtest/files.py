"""Users' files as bytes or text: regular files only, of bounded size. What they mean is said elsewhere
(``backtest.foreign``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from backtest import foreign
from backtest.errors import UserError

TEXT_LIMIT = 16 << 20


def open_bytes(path: Path) -> BinaryIO:
    """A file of any size, to be read in parts. UserError, one line, for no file and no regular file (a device, a pipe,
    a folder).
    """
    where = foreign.shown(str(path))
    if "\0" in str(path):
        raise UserError(f"{where}: a path holds no NUL", "check the path")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise UserError(f"cannot read {where}: {error.strerror}", "check the path") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{where} is not a regular file", "name a file: devices, pipes and folders are not read")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole file. UserError as ``open_bytes``, and for more than ``limit`` bytes."""
    with open_bytes(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(
            f"{foreign.shown(str(path))} is larger than {limit >> 20} MiB", "is it the file that you meant?"
        )
    return data


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str:
    """The whole file as UTF-8 text. UserError as ``read_bytes``, and where it is no text."""
    data = read_bytes(path, limit)
    try:
        return foreign.text(data)
    except foreign.Unreadable as error:
        raise UserError(f"{foreign.shown(str(path))}: {error}", "give a text file in UTF-8") from None
