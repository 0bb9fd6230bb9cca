"""Hand-written Aave V3 histories: logs in emission order, as raw tables in memory or in a lake, and what the fold makes
of them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema, parse_event
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.protocols.aave_v3.events import EVENTS, POOL_ID
from backtest.protocols.aave_v3.fold import fold
from backtest.tables import QUARANTINE, RAW_STATE

SPECS = {spec.name: spec for spec in EVENTS}
RAY = 10**27
GENESIS = 1_700_000_000


def address(name: str) -> str:
    """A made-up address, the same for the same name."""
    return "0x" + hashlib.sha256(name.encode()).hexdigest()[:40]


PROVIDER, POOL, CONFIGURATOR, ORACLE, TREASURY = map(
    address, ("provider", "pool", "configurator", "oracle", "treasury")
)
CONFIG = MarketConfig(
    name="test",
    protocol="aave-v3",
    chain_id=31337,
    start_block=1,
    contracts={"provider": PROVIDER, "pool": POOL, "configurator": CONFIGURATOR, "oracle": ORACLE},
)
_EMITTERS = {"provider": PROVIDER, "pool": POOL, "configurator": CONFIGURATOR, "oracle": ORACLE}


class Logs:
    """A chain being written: ``tx()`` starts a transaction, ``log()`` adds to it. One block a transaction unless
    ``same_block``.
    """

    def __init__(self, config: MarketConfig = CONFIG) -> None:
        self.config = config
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.revisions: list[dict[str, Any]] = []
        self.quarantine: list[dict[str, Any]] = []
        self.block, self.index, self.transaction = 0, -1, 0

    def tx(self, *, same_block: bool = False) -> None:
        if same_block:
            self.transaction += 1
        else:
            self.block, self.index, self.transaction = self.block + 1, -1, 0

    def log(self, event: str, /, at: str = "", **arguments: Any) -> int:
        """Add a log by its argument columns (addresses as text); its place among all logs."""
        spec = SPECS[event]
        self.index += 1
        row: dict[str, Any] = {
            "block_number": self.block,
            "transaction_index": self.transaction,
            "log_index": self.index,
            "transaction_hash": hashlib.sha256(f"{self.block}/{self.transaction}".encode()).digest(),
            "address": _bytes(at or _EMITTERS[spec.emitter]),
        }
        for argument in parse_event(spec.signature).arguments:
            value = arguments.pop(argument.column, _zero(argument.type))
            row[argument.column] = _bytes(value) if argument.type == "address" else value
        assert not arguments, f"{event} has no {sorted(arguments)}"
        self.rows.append((event, row))
        return len(self.rows) - 1

    def quarantined(self, event: str, at: str, reason: str = "data too short") -> None:
        """A log that could not be decoded."""
        self.index += 1
        key = {
            "block_number": self.block,
            "transaction_index": self.transaction,
            "log_index": self.index,
            "transaction_hash": bytes(32),
        }
        self.quarantine.append(
            {**key, "address": _bytes(at), "event": event, "reason": reason, "topics": [], "data": b""}
        )

    # -- the market ------------------------------------------------------------------------------------------------
    def open(self, revision: int = 1) -> None:
        """The pool comes into being."""
        self.tx()
        self.log("ProxyCreated", id=POOL_ID, proxy_address=POOL, implementation_address=address(f"pool {revision}"))
        self.revision(POOL, f"pool {revision}", revision)
        self.log("PriceOracleUpdated", new_address=ORACLE)

    def revision(self, proxy: str, implementation: str, number: int) -> None:
        self.revisions.append(
            {"address": _bytes(proxy), "implementation": _bytes(address(implementation)), "revision": number}
        )

    def upgrade_pool(self, revision: int) -> None:
        self.log("PoolUpgraded", implementation=address(f"pool {revision}"))
        self.revision(POOL, f"pool {revision}", revision)

    def upgrade_token(self, token: str, revision: int) -> None:
        self.log("TokenUpgraded", at=token, implementation=address(f"token {revision}"))
        self.revision(token, f"token {revision}", revision)

    def list_asset(self, name: str, decimals: int = 18) -> None:
        self.log(
            "ATokenInitialized",
            at=a_token(name),
            underlying_asset=asset(name),
            treasury=TREASURY,
            a_token_decimals=decimals,
            a_token_symbol=name,
        )
        self.log(
            "ReserveInitialized",
            asset=asset(name),
            a_token=a_token(name),
            variable_debt_token=debt_token(name),
            stable_debt_token=address(f"stable {name}"),
        )

    # -- results ---------------------------------------------------------------------------------------------------
    def tables(self, rows: Iterable[tuple[str, dict[str, Any]]] | None = None) -> dict[str, pa.Table]:
        """Event to raw table."""
        found: dict[str, list[dict[str, Any]]] = {}
        for event, row in self.rows if rows is None else rows:
            found.setdefault(event, []).append(row)
        return {event: pa.Table.from_pylist(body, event_schema(SPECS[event])) for event, body in found.items()}

    def memory(self) -> Memory:
        return Memory(self)

    def headers(self, first: int = 0, last: int | None = None) -> pa.Table:
        last = self.block if last is None else last
        body = [
            {
                "block_number": n,
                "block_hash": bytes(32),
                "parent_hash": bytes(32),
                "timestamp": time_of(n),
                "base_fee": 7,
            }
            for n in range(max(first, 1), last + 1)
        ]
        return pa.Table.from_pylist(body, RAW_STATE["raw/chain/Header"])

    def write(self, lake: Lake, ranges: Sequence[tuple[int, int]] | None = None) -> None:
        """Commit everything, in these block ranges in this order."""
        with lake.writer() as writer:
            writer.set_market(self.config)
            for place, (first, last) in enumerate(ranges or [(1, self.block)]):
                part = [(event, row) for event, row in self.rows if first <= row["block_number"] <= last]
                data = {f"raw/aave-v3/{event}": table for event, table in self.tables(part).items()}
                data["raw/chain/Header"] = self.headers(first, last)
                if not place:
                    data["raw/chain/Revision"] = pa.Table.from_pylist(self.revisions, RAW_STATE["raw/chain/Revision"])
                writer.commit(
                    self.config.name, data, from_block=first, to_block=last, covers={"aave-v3": (first, last)}
                )


class Memory:
    """``RawEvents`` of ``Logs``; seq is the place of a log."""

    def __init__(self, logs: Logs) -> None:
        order = {(row["block_number"], row["log_index"]): seq for seq, (_, row) in enumerate(logs.rows)}
        self._own = {}
        for event, table in logs.tables().items():
            places = zip(table["block_number"].to_pylist(), table["log_index"].to_pylist(), strict=True)
            self._own[event] = _placed(table, [order[place] for place in places])
        self._state = {"raw/chain/Revision": pa.Table.from_pylist(logs.revisions, RAW_STATE["raw/chain/Revision"])}
        self._quarantine = pa.Table.from_pylist(logs.quarantine, QUARANTINE)

    def table(self, event: str) -> pa.Table:
        if event == "Quarantine":
            return self._quarantine
        if event in RAW_STATE:
            return self._state.get(event, RAW_STATE[event].empty_table())
        return self._own[event] if event in self._own else _placed(event_schema(SPECS[event]).empty_table(), [])

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, pa.Table]]:
        yield {
            event: self._own[event].select(["seq", "timestamp", *names])
            for event, names in columns.items()
            if event in self._own
        }


def _placed(table: pa.Table, seq: list[int]) -> pa.Table:
    times = [time_of(block) for block in table["block_number"].to_pylist()]
    return table.add_column(0, "seq", pa.array(seq, pa.int64())).add_column(1, "timestamp", pa.array(times, pa.int64()))


def time_of(block: int) -> int:
    return GENESIS + 12 * block


def asset(name: str) -> str:
    return address(f"asset {name}")


def a_token(name: str) -> str:
    return address(f"a {name}")


def debt_token(name: str) -> str:
    return address(f"debt {name}")


def _bytes(text: str) -> bytes:
    return bytes.fromhex((text if text.startswith("0x") else address(text))[2:])


def _zero(kind: str) -> Any:
    return {"address": "0x" + "00" * 20, "bool": False, "string": "", "bytes": b"", "bytes32": bytes(32)}.get(kind, 0)


# -- markets and what is made of them ----------------------------------------------------------------------------------

ALICE, BOB, BOT = "alice", "bob", "bot"


def market(revision: int, *assets: str) -> Logs:
    logs = Logs()
    logs.open(revision)
    logs.tx()
    for name in assets or ("WETH", "USDC"):
        logs.list_asset(name)
    return logs


def folded(logs: Logs, config: MarketConfig = CONFIG) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(config, logs.memory()):
        found[name] += table.to_pylist()
    return found


def people(found: dict[str, list[dict[str, Any]]]) -> dict[int, str]:
    names = {address(name): name for name in (ALICE, BOB, BOT, "treasury")}
    return {row["account_id"]: names.get(row["account"], row["account"]) for row in found["accounts"]}


def changes(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, int, str, int, str, int]]:
    """Position changes as (account, asset, side, delta, action, action_seq)."""
    who = people(found)
    return [
        (who[r["account_id"]], r["asset_id"], r["side"], int(r["delta"]), r["action"], r["action_seq"])
        for r in found["position_events"]
    ]


def flags(found: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str, int | None, int, str, int]]:
    who = people(found)
    return [
        (who[r["account_id"]], r["setting"], r["asset_id"], int(r["value"]), r["action"], r["action_seq"])
        for r in found["setting_events"]
    ]


# -- logs of one action, at an index of one ray ------------------------------------------------------------------------


def supply(logs: Logs, who: str, name: str, amount: int, *, first: bool = False) -> int:
    logs.log("ReserveDataUpdated", reserve=asset(name), liquidity_index=RAY, variable_borrow_index=RAY)
    logs.log("Mint", at=a_token(name), caller=who, on_behalf_of=who, value=amount, index=RAY)
    if first:
        logs.log("ReserveUsedAsCollateralEnabled", reserve=asset(name), user=who)
    return logs.log("Supply", reserve=asset(name), user=who, on_behalf_of=who, amount=amount)


def borrow(logs: Logs, who: str, name: str, amount: int) -> int:
    logs.log("Mint", at=debt_token(name), caller=who, on_behalf_of=who, value=amount, index=RAY)
    logs.log("ReserveDataUpdated", reserve=asset(name), liquidity_index=RAY, variable_borrow_index=RAY)
    return logs.log("Borrow", reserve=asset(name), user=who, on_behalf_of=who, amount=amount, interest_rate_mode=2)


def burn(logs: Logs, token: str, who: str, amount: int) -> int:
    return logs.log("Burn", at=token, **{"from": who}, value=amount, index=RAY)


def transfer(logs: Logs, name: str, sender: str, to: str, amount: int) -> int:
    return logs.log("BalanceTransfer", at=a_token(name), **{"from": sender}, to=to, value=amount, index=RAY)


def flag(logs: Logs, who: str, name: str, on: bool) -> int:
    return logs.log("ReserveUsedAsCollateral" + ("Enabled" if on else "Disabled"), reserve=asset(name), user=who)


def liquidation(
    logs: Logs,
    *,
    collateral: str = "WETH",
    debt: str = "USDC",
    takes_tokens: bool = False,
    repaid: int = 5,
    seized: int = 7,
) -> int:
    return logs.log(
        "LiquidationCall",
        collateral_asset=asset(collateral),
        debt_asset=asset(debt),
        user=ALICE,
        debt_to_cover=repaid,
        liquidated_collateral_amount=seized,
        liquidator=BOT,
        receive_a_token=takes_tokens,
    )
