"""One question to a node: which events of which contracts, how its reply is judged, and what its reply should have
held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch import bloom
from backtest.fetch.decode import LogColumns, decode, topic0
from backtest.fetch.rpc import Header, Log
from backtest.foreign import shown
from backtest.model import EventSpec

Pair = tuple[str, str]  # (address, topic 0)
_REMEDY = "use another node"


@dataclass(frozen=True)
class Question:
    """``emitters``: role to addresses (lower-case); ``specs``: the events, each of one role; ``key``: the second topic
    that all of their logs must have (0x hex), where only some of a contract's logs are meant.
    """

    emitters: Mapping[str, Sequence[str]]
    specs: Sequence[EventSpec]
    key: str | None = None
    addresses: Sequence[str] = field(init=False)
    topics: Sequence[str] = field(init=False)
    pairs: frozenset[Pair] = field(init=False)

    def __post_init__(self) -> None:
        pairs = {(address, topic0(spec)) for spec in self.specs for address in self.emitters.get(spec.emitter, ())}
        object.__setattr__(self, "pairs", frozenset(pairs))
        object.__setattr__(self, "addresses", sorted({address for address, _ in pairs}))
        object.__setattr__(self, "topics", sorted({topic for _, topic in pairs}))

    def filter(self, first: int, last: int, addresses: Sequence[str] | None = None) -> dict[str, Any]:
        """The parameter of eth_getLogs."""
        return {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": list(addresses or self.addresses),
            "topics": self.topics_filter(self.topics),
        }

    def topics_filter(self, topics: Sequence[str]) -> list[list[str]]:
        """These first topics, and the key where there is one."""
        return [list(topics), *([[self.key]] if self.key else [])]

    def judge(self, logs: Sequence[Log], first: int, last: int) -> tuple[LogColumns, int]:
        """(the logs that were meant, in chain order and once each; how many came twice).

        A filter asks for every combination of its addresses and topics; combinations of no role are left out here.

        Raises:
            FetchError: a log is malformed, outside the range, not asked for, retracted, or contradicts another one.
        """
        try:
            columns = LogColumns.of(logs)
        except ValueError as error:
            log = next((log for log in logs if _fails(LogColumns.of, [log])), logs[0])
            raise _malformed(log.block_number, log.address, error) from None
        if not len(columns):
            return columns, 0
        low, high = int(columns.block.min()), int(columns.block.max())
        if low < first or high > last:
            raise FetchError(
                f"asked for logs of blocks {first} to {last}, the node sent one of block"
                f" {low if low < first else high}",
                _REMEDY,
            )
        if columns.removed:
            block = next(int(log.block_number, 16) for log in logs if log.removed)
            raise FetchError(
                f"the node sent a retracted log of block {block}: the chain is being reorganised",
                "ask for more confirmations",
            )
        if self.key and {topic and topic.lower() for topic in set(columns.topics[1])} != {self.key}:
            row, topic = next(
                (row, topic) for row, topic in enumerate(columns.topics[1]) if not topic or topic.lower() != self.key
            )
            raise FetchError(
                f"the node sent a log of block {columns.block[row]} that was not asked for: its second topic is"
                f" {shown(str(topic), 80)}",
                _REMEDY,
            )
        if set(zip(columns.addresses, columns.topics[0], strict=True)) - self.pairs:
            columns = self._meant(columns)
        return _in_order(columns)

    def decode(self, logs: LogColumns, namespace: str) -> dict[str, pa.Table]:
        """See ``backtest.fetch.decode.decode``; FetchError where a log is malformed."""
        try:
            return decode(logs, self.specs, namespace, self.emitters)
        except ValueError as error:
            row = next(
                (
                    row
                    for row in range(len(logs))
                    if _fails(decode, logs.take([row]), self.specs, namespace, self.emitters)
                ),
                0,
            )
            raise _malformed(str(logs.block[row]), logs.addresses[row], error) from None

    def _meant(self, columns: LogColumns) -> LogColumns:
        columns = replace(
            columns, addresses=[address.lower() for address in columns.addresses]
        )  # some nodes send checksum case
        addresses, topics = set(self.addresses), set(self.topics)
        for row, (address, topic) in enumerate(zip(columns.addresses, columns.topics[0], strict=True)):
            if address not in addresses or topic not in topics:
                raise FetchError(
                    f"the node sent a log of block {columns.block[row]} that was not asked for: {shown(address, 80)},"
                    f" topic {shown(topic, 80)}",
                    _REMEDY,
                )
        keep = [
            row for row, pair in enumerate(zip(columns.addresses, columns.topics[0], strict=True)) if pair in self.pairs
        ]
        return columns.take(keep)


def _malformed(block: str, address: str, error: ValueError) -> FetchError:
    number = str(int(block, 16)) if re.fullmatch("0x[0-9a-fA-F]{1,16}", block) else shown(block, 80)
    return FetchError(f"a log of block {number}, of {shown(address, 80)}, breaks the RPC's format: {error}", _REMEDY)


def _fails(work: Callable[..., object], *args: object) -> bool:
    try:
        work(*args)
    except ValueError:
        return True
    return False


def _in_order(columns: LogColumns) -> tuple[LogColumns, int]:
    order = np.lexsort((columns.log_index, columns.block))
    if (order[1:] < order[:-1]).any():
        columns = columns.take(order)
    together = columns.block[1:] == columns.block[:-1]
    same = together & (columns.log_index[1:] == columns.log_index[:-1])
    # Log indexes count through a block: a later transaction's logs have higher ones. Some versions of some clients
    # count anew in each transaction, and such logs have no order.
    fallen = together & ~same & (columns.transaction_index[1:] < columns.transaction_index[:-1])
    if fallen.any():
        row = int(np.flatnonzero(fallen)[0])
        raise FetchError(
            f"the node counts log indexes within each transaction: in block {columns.block[row]}, log"
            f" {columns.log_index[row]} is of transaction {columns.transaction_index[row]} and log"
            f" {columns.log_index[row + 1]} of transaction {columns.transaction_index[row + 1]}",
            "use another node, or another version of its client",
        )
    if not same.any():
        return columns, 0
    for row in np.flatnonzero(same).tolist():
        if columns.row(row) != columns.row(row + 1):
            raise FetchError(
                f"the node sent two different logs as log {columns.log_index[row]} of block {columns.block[row]}",
                _REMEDY,
            )
    return columns.take(np.flatnonzero(~np.append(False, same))), int(same.sum())


# --------------------------------------------------------------------------------------------------------------------


class Omissions:
    """Finds blocks to ask for again, because their bloom has room for logs of ours that did not come. See
    ``backtest.fetch.bloom``.

    A bloom does not count: that one of two logs with the same address and topic was left out it cannot show. ``mode``:
    "auto" looks for pairs of which no log came, except in saturated blooms; "always" takes every block that may have
    logs of ours, whether some came or not; "never" takes none.
    """

    def __init__(self, question: Question, mode: str) -> None:
        self._question = question
        self._mode = mode
        self._address_bits = {address: bloom.positions(bytes.fromhex(address[2:])) for address in question.addresses}
        self._topic_bits = {topic: bloom.positions(bytes.fromhex(topic[2:])) for topic in question.topics}
        self._pairs = sorted(question.pairs)
        self._address_of = np.array([question.addresses.index(address) for address, _ in self._pairs], dtype=np.int64)
        self._topic_of = np.array([question.topics.index(topic) for _, topic in self._pairs], dtype=np.int64)

    def suspects(self, headers: Sequence[Header], logs: LogColumns) -> tuple[dict[int, list[Pair]], int]:
        """(blocks whose blooms may hold logs that are not in ``logs``, with the pairs to ask for; saturated blooms
        skipped).

        Raises:
            FetchError: a log came that its block's bloom rules out.
        """
        if self._mode == "never" or not headers:
            return {}, 0
        try:
            table = bloom.bits([header.logs_bloom for header in headers])
        except ValueError as error:
            raise FetchError(
                f"a header of blocks {headers[0].number} to {headers[-1].number} is malformed: {error}", _REMEDY
            ) from None
        empty = ~table.any(axis=1)
        may_address = bloom.contains(table, [self._address_bits[address] for address in self._question.addresses])
        may_topic = bloom.contains(table, [self._topic_bits[topic] for topic in self._question.topics])
        possible = may_address[:, self._address_of] & may_topic[:, self._topic_of]
        if self._question.key:
            possible &= bloom.contains(table, [bloom.positions(bytes.fromhex(self._question.key[2:]))])
        row_of = {int(header.number, 16): row for row, header in enumerate(headers)}
        column_of = {pair: column for column, pair in enumerate(self._pairs)}
        came = np.zeros(possible.shape, bool)
        for block, address, topic in set(zip(logs.block.tolist(), logs.addresses, logs.topics[0], strict=True)):
            if block in row_of:
                came[row_of[block], column_of[address, topic]] = True
        denied = (came & ~possible).any(axis=1) & ~empty  # a chain that leaves blooms empty says nothing by them
        if denied.any():
            block = int(headers[int(np.flatnonzero(denied)[0])].number, 16)
            raise FetchError(f"the node sent a log of block {block} that the block's own bloom rules out", _REMEDY)
        if self._mode == "always":
            doubtful, full = possible | came, np.zeros(len(headers), bool)
        else:
            full = bloom.saturated(table, len(self._pairs))
            doubtful = possible & ~came & ~full[:, None]
        rows = np.flatnonzero(doubtful.any(axis=1)).tolist()
        pairs = {
            int(headers[row].number, 16): [self._pairs[column] for column in np.flatnonzero(doubtful[row]).tolist()]
            for row in rows
        }
        return pairs, int(full.sum())
