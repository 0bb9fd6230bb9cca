"""Alerts on disk: each once, in order, whatever ends the process; and how far each destination has them.

``outbox.jsonl`` holds one JSON object a line. What a block brought is written by one append, the last line of which
names the block: lines behind the last such line were never whole, and are cut off. An alert's id is a digest of what
happened: market, kind, hash of the block, account or asset, and how often that block had been undone before. So the
same block looked at again adds nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest import foreign
from backtest.errors import LakeError, UserError
from backtest.follow.limits import Happened
from backtest.follow.state import SeenBlock
from backtest.lake import Lake, lock

FOLDER = "follow"
UNDONE = "undone"
_LINE = 1 << 20


@dataclass(slots=True)
class _Known:
    """An alert that was written. ``times``: how often it was undone; ``stands``: not undone now."""

    block: int
    hash: str
    kind: str
    who: str
    asset: str
    id: str
    times: int = 0
    stands: bool = True


@dataclass(frozen=True, slots=True)
class Reached:
    """The block up to which alerts are written."""

    number: int
    hash: str


def folder_of(lake: Lake, market: str) -> Path:
    """Where a market's outbox lies. UserError for a lake that is not in a local folder."""
    if not isinstance(lake.path, Path):
        raise UserError(f"{lake.path} is no local folder", "follow into a lake on a local disk")
    return lake.path / FOLDER / market


class Outbox:
    """The alerts of one market. One process at a time; close it."""

    def __init__(self, lake: Lake, market: str, chain_id: int) -> None:
        self.folder = folder_of(lake, market)
        self.market, self._chain = market, chain_id
        self.alerts = 0
        """Written so far, undone ones and those that undo included."""
        self.size = 0
        """Bytes of whole blocks in the file."""
        self.reached: Reached | None = None
        self._known: dict[tuple[str, str, str, str], _Known] = {}
        self._stack = ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(lock.exclusive(self.folder / "follow.lock"))
            self.path = self.folder / "outbox.jsonl"
            self._file = self._stack.enter_context(self.path.open("ab+"))
            self._read()
        except OSError as error:
            self._stack.close()
            raise LakeError(
                f"cannot write {self.folder}: {error.strerror or error}", "free space or fix permissions"
            ) from None
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Let go of the files."""
        self._stack.close()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- reading --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Whole blocks; what follows the last one is taken off."""
        waiting: list[dict[str, Any]] = []
        end = at = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            at += len(line)
            if not line.endswith(b"\n"):
                break
            row = self._row(line, number)
            if row["kind"] != "block":
                waiting.append(row)
                continue
            for each in waiting:
                self._take(each)
            waiting, end = [], at
            self.reached = Reached(row["block"], row["block_hash"])
        if end != at:
            os.ftruncate(self._file.fileno(), end)
            os.fsync(self._file.fileno())
        self._file.seek(0, os.SEEK_END)
        self.size = end

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            if len(line) > _LINE:
                raise foreign.Unreadable("the line is too long")
            row = foreign.json_value(line)
            if not isinstance(row, dict):
                raise foreign.Unreadable("it is no alert")
            texts = ["kind", "block_hash"]
            texts += ["id", "who"] if row["kind"] != "block" else []
            texts += ["of", "undoes"] if row["kind"] == UNDONE else []
            if type(row["block"]) is not int or any(type(row[name]) is not str for name in texts):
                raise foreign.Unreadable("it is no alert")
        except (foreign.Unreadable, KeyError) as error:
            what = error if isinstance(error, foreign.Unreadable) else "it is no alert"
            raise LakeError(
                f"{self.path}, line {number}: {what}",
                "restore it from a copy, or move the file away: alerts then begin anew",
            ) from None
        return row

    def _take(self, row: Mapping[str, Any]) -> None:
        self.alerts += 1
        undoes = row["kind"] == UNDONE
        key = row["of"] if undoes else row["kind"], row["who"], row.get("asset", ""), row["block_hash"]
        known = self._known.get(key)
        if undoes:
            if known is None or not known.stands:
                raise LakeError(f"{self.path} undoes an alert that it does not hold", "restore it from a copy")
            known.stands, known.times = False, known.times + 1
        elif known is None:
            self._known[key] = _Known(row["block"], key[3], key[0], key[1], key[2], row["id"])
        else:
            known.stands, known.id = True, row["id"]

    def lines(self) -> Iterator[bytes | None]:
        """Alerts in order as written, one JSON object each, and None where there are no more yet."""
        with open(self.path, "rb") as file:
            while True:
                if file.tell() >= self.size:
                    yield None
                    continue
                line = file.readline(_LINE)
                if b'"kind":"block"' not in line:
                    yield line

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, block: SeenBlock, happened: Iterable[Happened]) -> int:
        """What a block brought, as far as it is not written yet; how many alerts. Durable when it returns."""
        rows = []
        for each in happened:
            known = self._known.get((each.kind, each.who, each.asset, block.hash))
            if known is None or not known.stands:
                rows.append(self._alert(block, each, known.times if known else 0))
        return self._append(rows, block)

    def retract(self, standing: Mapping[int, str], fork: Reached) -> int:
        """Undo every alert of a block that is not on the chain any more; ``standing``: hash by number, of blocks that
        are; ``fork``: the block up to which all is written then. How many were undone.
        """
        rows = []
        for known in list(self._known.values()):
            on_chain = standing.get(known.block)
            if known.stands and on_chain is not None and on_chain != known.hash:
                rows.append(
                    {
                        "id": self._id(UNDONE, known.id, known.hash, known.times),
                        "kind": UNDONE,
                        "of": known.kind,
                        "undoes": known.id,
                        "who": known.who,
                        **({"asset": known.asset} if known.asset else {}),
                        "block": known.block,
                        "block_hash": known.hash,
                        "market": self.market,
                        "chain": self._chain,
                    }
                )
        return self._append(rows, fork) if rows else 0

    def blocks(self) -> list[int]:
        """Blocks with alerts that stand, and are remembered."""
        return sorted({known.block for known in self._known.values() if known.stands})

    def _alert(self, block: SeenBlock, happened: Happened, times: int) -> dict[str, Any]:
        return {
            "id": self._id(happened.kind, happened.who, happened.asset, block.hash, times),
            "kind": happened.kind,
            "who": happened.who,
            **({"asset": happened.asset} if happened.asset else {}),
            **happened.told,
            "block": block.number,
            "block_hash": block.hash,
            "time": block.timestamp,
            "market": self.market,
            "chain": self._chain,
        }

    def _id(self, *what: object) -> str:
        body = json.dumps([self.market, self._chain, *what], separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()[:32]

    def _append(self, rows: Sequence[dict[str, Any]], block: SeenBlock | Reached) -> int:
        mark = {"kind": "block", "block": block.number, "block_hash": block.hash}
        data = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in (*rows, mark)).encode()
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise LakeError(
                f"cannot write {self.path}: {error.strerror or error}",
                "free space, then run it again: no alert is lost",
            ) from None
        for row in rows:
            self._take(row)
        self.reached, self.size = Reached(block.number, block.hash), self.size + len(data)
        return len(rows)

    def forget(self, before: int) -> None:
        """Alerts of blocks before this one are final, and not looked up again."""
        self._known = {key: known for key, known in self._known.items() if known.block >= before}


class Cursor:
    """How many alerts a destination has, on disk. ``trying``: one was being handed over when the process ended."""

    def __init__(self, folder: Path, name: str, start: int) -> None:
        """``start``: where a destination that is new begins."""
        path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.sent"
        self.done, self.trying = start, False
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        found = os.pread(self._handle, 64, 0).decode(errors="replace").split()
        if found:
            try:
                self.done, self.trying = foreign.integer(found[0], bits=62), found[1:] == ["trying"]
            except foreign.Unreadable as error:
                os.close(self._handle)
                raise LakeError(
                    f"{path}: {error}", "delete it: the destination then begins with the next alert"
                ) from None
        self.put(self.done, self.trying)

    def put(self, done: int, trying: bool) -> None:
        """Outlives the process when it returns; without ``trying`` a power cut too."""
        self.done, self.trying = done, trying
        os.pwrite(self._handle, f"{done:020d} {'trying' if trying else 'done  '}\n".encode(), 0)
        if not trying:
            os.fsync(self._handle)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)
