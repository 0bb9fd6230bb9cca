"""What a request asks for, seen from outside: which blocks, how much, whether its answer is the same whoever gives it.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from backtest.fetch.dialects import STATE_METHODS

Call = tuple[str, Sequence[Any]]
HEADER, BLOCK = "eth_getHeaderByNumber", "eth_getBlockByNumber"
_PLACE = {"eth_call": 1, "eth_getCode": 1, "eth_getBalance": 1, "eth_getStorageAt": 2, HEADER: 0, BLOCK: 0}
"""Where among its parameters a method has its block."""
_CONSTANT = frozenset(("eth_chainId",))


class Asked:
    """One call, or several that are sent as a batch. ``literal``: by the very method that it names, where nodes differ
    in how they are asked for headers.
    """

    def __init__(self, calls: Sequence[Call], literal: bool = False) -> None:
        self.calls, self.literal = calls, literal

    def __repr__(self) -> str:
        return in_words(*self.calls[0]) + (f" and {len(self.calls) - 1} more" if len(self.calls) > 1 else "")

    def body(self, headers: str = HEADER) -> dict[str, Any] | list[dict[str, Any]]:
        """As JSON-RPC; ``headers``: the method by which this node is asked for headers alone."""
        if self.literal:
            headers = HEADER
        if len(self.calls) == 1:
            method, params = _spoken(self.calls[0], headers)
            return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(_spoken(call, headers) for call in self.calls)
        ]

    @property
    def kind(self) -> Literal["logs", "batch", "call"]:
        """How long it takes depends on this."""
        if len(self.calls) > 1:
            return "batch"
        return "logs" if self.calls[0][0] == "eth_getLogs" else "call"

    @cached_property
    def methods(self) -> frozenset[str]:
        return frozenset(method for method, _ in self.calls)

    @cached_property
    def blocks(self) -> tuple[int, int] | None:
        """The lowest and the highest block whose number it names; None where it names none."""
        found = [block for method, params in self.calls for block in _blocks(method, params)]
        return (min(found), max(found)) if found else None

    @cached_property
    def fixed(self) -> bool:
        """Whether every call is of blocks that it names: then all providers must say the same."""
        return all(
            method in _CONSTANT or bool(_blocks(method, params)) or _by_hash(method, params)
            for method, params in self.calls
        )

    @property
    def width(self) -> int:
        """Blocks of the range of an ``eth_getLogs``; 1 for anything else."""
        if len(self.calls) > 1 or self.calls[0][0] != "eth_getLogs" or self.blocks is None:
            return 1
        return self.blocks[1] - self.blocks[0] + 1

    def halves(self) -> tuple[Asked, Asked] | None:
        """The same in two questions; None for what cannot be parted."""
        middle = len(self.calls) // 2
        if middle:
            return Asked(self.calls[:middle], self.literal), Asked(self.calls[middle:], self.literal)
        if self.width == 1 or self.blocks is None:
            return None
        (method, (question,)), (low, high) = self.calls[0], self.blocks
        cut = (low + high) // 2
        parts = {"toBlock": hex(cut)}, {"fromBlock": hex(cut + 1)}
        first, second = (Asked([(method, [{**question, **part}])]) for part in parts)
        return first, second

    @property
    def of_state(self) -> bool:
        return not STATE_METHODS.isdisjoint(self.methods)


def _spoken(call: Call, headers: str) -> Call:
    """The call as this node understands it."""
    if call[0] != HEADER or headers == HEADER:
        return call
    return headers, [*call[1], False]


def _number(value: Any) -> list[int]:
    return [int(value, 16)] if isinstance(value, str) and value.startswith("0x") and len(value) <= 18 else []


def _by_hash(method: str, params: Sequence[Any]) -> bool:
    return method == "eth_getLogs" and "blockHash" in params[0]


def _blocks(method: str, params: Sequence[Any]) -> list[int]:
    if method == "eth_getLogs":
        ends = [_number(params[0].get(end)) for end in ("fromBlock", "toBlock")]
        return [*ends[0], *ends[1]] if all(ends) else []
    place = _PLACE.get(method)
    return [] if place is None or place >= len(params) else _number(params[place])


def in_words(method: str, params: Sequence[Any]) -> str:
    """A call in words, with its block numbers readable."""
    if method == "eth_getLogs":
        filter_ = params[0]
        where = (
            f"block {filter_['blockHash']}"
            if "blockHash" in filter_
            else f"blocks {int(filter_['fromBlock'], 16)} to {int(filter_['toBlock'], 16)}"
        )
        addresses = filter_["address"]
        return f"eth_getLogs of {where}, {addresses[0]}" + (
            f" and {len(addresses) - 1} other addresses" if len(addresses) > 1 else ""
        )
    shown = [
        p["to"] if isinstance(p, dict) and "to" in p else f"block {_number(p)[0]}" if _number(p) else str(p)
        for p in params
        if not isinstance(p, bool)
    ]
    return f"{method}({', '.join(shown)[:200]})"
