"""Facts of contracts that no log tells: ERC-20 metadata, the revisions of implementations, constants, and views that
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch.adapters import address, answers, raw_address, selector, text, word
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake, Writer
from backtest.model import Constant, Deployment, Reading
from backtest.tables import RAW_STATE

TOKEN = "raw/chain/Token"
REVISION = "raw/chain/Revision"
CONSTANT = "raw/chain/Constant"
READING = "raw/chain/Reading"
_READINGS_AT_ONCE = 20_000
REFERENCE = "raw/chain/Reference"

# Where EIP-1967 proxies keep the address of their implementation: keccak256("eip1967.proxy.implementation") - 1.
IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"


def fetch_tokens(lake: Lake, writer: Writer, market: str, rpc: Rpc, tokens: Sequence[str], block: int) -> int:
    """Store symbol and decimals, as of ``block``, of the tokens that the lake does not know; how many those were.

    A symbol is a string, or in old tokens bytes32; a token without one goes by its address. One without decimals is a
    FetchError.
    """
    held = [row for row in stored(lake, market, TOKEN) if row["symbol"] != "0x" + row["address"].hex()]
    known = {row["address"] for row in held}  # one without a symbol is asked again
    missing = [token for token in tokens if raw_address(token) not in known]
    decimals = answers(rpc, [(token, selector("decimals()"), block) for token in missing])
    symbols = answers(rpc, [(token, selector("symbol()"), block) for token in missing])
    rows = []
    for token, symbol, data in zip(missing, symbols, decimals, strict=True):
        digits = word(data)
        if digits is None or digits > 255:
            raise FetchError(
                f"{token} has no decimals() at block {block}",
                "check the market's contracts, or use a node with the state of that block",
            )
        rows.append({"address": raw_address(token), "symbol": text(symbol) or token, "decimals": digits})
    return _anew(lake, writer, market, TOKEN, held, rows)


def fetch_revisions(
    lake: Lake, writer: Writer, market: str, rpc: Rpc, deployments: Sequence[Deployment], block: int
) -> int:
    """Store the revision constant of every implementation that the lake does not know; how many those were.

    It is read on the implementation itself, where it is a constant, as of ``block``; -1 where there is none.
    """
    unnamed = [deployment for deployment in deployments if deployment.implementation is None]
    slots = rpc.storage([(deployment.proxy, IMPLEMENTATION_SLOT, deployment.block_number) for deployment in unnamed])
    at_listing = {
        id(d): "0x" + slot[12:].hex() if any(slot) else d.proxy for d, slot in zip(unnamed, slots, strict=True)
    }
    held = [row for row in stored(lake, market, REVISION) if row["revision"] >= 0]
    known = {(row["address"], row["implementation"]) for row in held}  # one without a revision is asked again
    wanted: dict[tuple[bytes, bytes], tuple[str, str]] = {}
    for deployment in deployments:
        implementation = deployment.implementation or at_listing[id(deployment)]
        key = raw_address(deployment.proxy), raw_address(implementation)
        if key not in known:
            wanted.setdefault(key, (implementation, deployment.getter))
    told = answers(
        rpc, [(implementation, selector(f"{getter}()"), block) for implementation, getter in wanted.values()]
    )
    rows = []
    for (proxy, code), data in zip(wanted, told, strict=True):
        revision = word(data)
        rows.append(
            {
                "address": proxy,
                "implementation": code,
                "revision": -1 if revision is None or revision >= 1 << 31 else revision,
            }
        )
    return _anew(lake, writer, market, REVISION, held, rows)


def fetch_constants(
    lake: Lake, writer: Writer, market: str, rpc: Rpc, constants: Sequence[Constant], block: int
) -> int:
    """Store the constants that the lake does not know, as of ``block``; how many those were. Null where the call fails
    or gives no word, which is asked again.
    """
    return sum(
        _constants(lake, writer, market, rpc, [one for one in constants if one.contract == contract], block)
        for contract in (False, True)
    )


def _constants(lake: Lake, writer: Writer, market: str, rpc: Rpc, constants: Sequence[Constant], block: int) -> int:
    """Constants of one kind."""
    if not constants:
        return 0
    dataset, column = (REFERENCE, "target") if constants[0].contract else (CONSTANT, "value")
    held = [row for row in stored(lake, market, dataset) if row[column] is not None]
    known = {(row["address"], row["name"]) for row in held}
    wanted = dict.fromkeys(
        constant for constant in constants if (raw_address(constant.address), constant.getter) not in known
    )
    told = answers(rpc, [(constant.address, selector(f"{constant.getter}()"), block) for constant in wanted])
    rows: list[dict[str, Any]] = []
    for constant, data in zip(wanted, told, strict=True):
        value: int | bytes | None
        if constant.contract:
            target = address(data)
            value = None if target is None else raw_address(target)
        else:
            found = word(data)
            value = found if found is not None and found < 10**38 else None
        rows.append({"address": raw_address(constant.address), "name": constant.getter, column: value})
    return _anew(lake, writer, market, dataset, held, rows)


def fetch_readings(
    lake: Lake, writer: Writer, market: str, rpc: Rpc, wanted: Callable[[], Iterable[Reading]], last: int
) -> int:
    """Store the readings up to a block that the lake does not know, as long as there are some: answers may name others;
    how many those were. Null where the call gives nothing, which is asked again by the next fetch.
    """
    held = [row for row in stored(lake, market, READING) if row["value"] is not None]
    known = {(row["block_number"], row["address"], row["call"]) for row in held}
    done = 0
    while True:
        asked = {
            key: reading
            for reading in wanted()
            if reading.block_number <= last
            and (key := (reading.block_number, raw_address(reading.address), reading.call)) not in known
        }
        if not asked:
            return done
        every = list(asked.items())
        for start in range(0, len(every), _READINGS_AT_ONCE):
            some = every[start : start + _READINGS_AT_ONCE]
            told = answers(rpc, [(each.address, call_data(each), each.block_number) for _, each in some])
            rows = [
                {"block_number": block, "address": address, "call": call, "value": data or None}
                for ((block, address, call), _), data in zip(some, told, strict=True)
            ]
            _anew(lake, writer, market, READING, held, rows)
            held += rows
        known |= asked.keys()
        done += len(asked)


def call_data(reading: Reading) -> str:
    """What ``eth_call`` is given, 0x hex."""
    return selector(reading.function) + "".join(f"{word:064x}" for word in reading.arguments)


def unanswered(lake: Lake, market: str) -> list[str]:
    """What a user should know of contracts that gave no symbol or no revision, one line a kind; none where all did."""
    asked = {
        "symbol(), by whose addresses they go": [
            row["address"] for row in stored(lake, market, TOKEN) if row["symbol"] == "0x" + row["address"].hex()
        ],
        "revision": [row["implementation"] for row in stored(lake, market, REVISION) if row["revision"] < 0],
    }
    return [
        f"{len(silent)} contract{'s' * (len(silent) > 1)} gave no {what}: 0x{min(silent).hex()}"
        + (" and others" if len(silent) > 1 else "")
        + "; backtest check names them (contracts__answered), and the next fetch asks again"
        for what, silent in asked.items()
        if silent
    ]


def stored(lake: Lake, market: str, dataset: str) -> list[dict[str, Any]]:
    """All rows of a dataset; none where the lake has none of it."""
    if dataset not in lake.datasets(market):
        return []
    rows: list[dict[str, Any]] = lake.read(dataset, market).to_pylist()
    return rows


def _anew(
    lake: Lake,
    writer: Writer,
    market: str,
    dataset: str,
    held: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
) -> int:
    """Store ``rows`` beside those ``held``; rows that are neither, which were without an answer, are replaced."""
    before = stored(lake, market, dataset)
    if len(before) == len(held):
        return _append(writer, market, dataset, rows)
    new = [row for row in rows if row not in before]
    if new:
        table = pa.Table.from_pylist([*held, *rows], RAW_STATE[dataset])
        writer.replace(market, dataset, [(dataset, table)], stamp="")
    return len(new)


def _append(writer: Writer, market: str, dataset: str, rows: Sequence[dict[str, Any]]) -> int:
    if rows:
        writer.append(market, dataset, pa.Table.from_pylist(list(rows), RAW_STATE[dataset]))
    return len(rows)
