"""Hand-made histories: a builder that writes canonical tables as reconstruction would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from backtest.model import Asset, AssetId, Market
from backtest.replay.timeline import Timeline
from backtest.tables import CANONICAL
from backtest.units import RAY

WETH, USDC = AssetId(0), AssetId(1)
"""Assets of ``opened``."""
ETH = 10**18
"""One WETH, native units."""
USD = 10**8
"""One dollar, base units."""


def market(*assets: tuple[str, int], accounts: int = 8, name: str = "sketch", protocol: str = "sketch") -> Market:
    """A market with these (symbol, decimals), and accounts 0x00.., 0x01.., in the order of their addresses."""
    listed = tuple(Asset(AssetId(i), f"0x{i:040x}", symbol, decimals) for i, (symbol, decimals) in enumerate(assets))
    return Market(
        name=name, protocol=protocol, chain_id=1, assets=listed, accounts=tuple(f"0x{i:040x}" for i in range(accounts))
    )


class History:
    """Each call is one log, in a transaction of its own unless inside ``transaction()``; blocks are 12 seconds
    apart.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CANONICAL}
        self._block = self._transaction = self._log = self._time = 0
        self._seq = -1
        self._open = False
        self.block(1)

    def block(self, number: int, timestamp: int | None = None) -> History:
        """Go to a block."""
        assert number > self._block
        self._time = timestamp if timestamp is not None else number * 12
        self._block, self._transaction, self._log = number, -1, -1
        self.rows["blocks"].append({"block_number": number, "timestamp": self._time, "base_fee": None})
        return self

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The logs inside belong to one transaction."""
        self._transaction += 1
        self._open = True
        yield
        self._open = False

    def price(self, asset: int, price: int | None) -> History:
        return self._add("prices", asset_id=asset, price=price, source=None, method="feed", exact=True)

    def param(self, name: str, value: int, asset: int | None = None, category: int | None = None) -> History:
        return self._add("params", asset_id=asset, category=category, name=name, value=value)

    def index(
        self, asset: int, supply: int = RAY, borrow: int = RAY, supply_rate: int = 0, borrow_rate: int = 0
    ) -> History:
        return self._add(
            "indexes",
            asset_id=asset,
            supply_index=supply,
            borrow_index=borrow,
            supply_rate=supply_rate,
            borrow_rate=borrow_rate,
        )

    def position(
        self, account: int, asset: int, side: str, delta: int, action: str = "supply", action_seq: int | None = None,
        amount: int | None = None,
    ) -> History:  # fmt: skip
        seq = self._seq + 1 if action_seq is None else action_seq
        return self._add(
            "position_events",
            account_id=account,
            asset_id=asset,
            side=side,
            delta=delta,
            action=action,
            action_seq=seq,
            amount=abs(delta) if amount is None else amount,
        )

    def setting(
        self, account: int, setting: str, value: int, asset: int | None = None, action: str = "other"
    ) -> History:
        return self._add(
            "setting_events",
            account_id=account,
            setting=setting,
            asset_id=asset,
            value=value,
            action=action,
            action_seq=self._seq + 1,
        )

    def traded(self, asset: int, price: int | None, source: str | None = "0xpool") -> History:
        """A market price; an imported one without ``source``."""
        return self._add("market_prices", asset_id=asset, price=price, source=source)

    def pool(
        self, tick: int, liquidity: int, *, upper: int | None = None, sqrt_price: int | None = None, pool: int = 0
    ) -> History:
        """A mint or burn with ``upper``, else where a swap left the pool."""
        event = "swap" if upper is None else "mint" if liquidity >= 0 else "burn"
        price = None if sqrt_price is None else sqrt_price.to_bytes(32, "big")
        return self._add(
            "pool_events", pool_id=pool, event=event, tick=tick, upper=upper, liquidity=liquidity, sqrt_price=price
        )

    def liquidation(
        self, account: int, liquidator: int, debt: int, collateral: int, repaid: int, seized: int, fee: int = 0
    ) -> History:
        return self._add(
            "liquidations",
            transaction_hash=bytes(32),
            account_id=account,
            liquidator_id=liquidator,
            debt_asset_id=debt,
            collateral_asset_id=collateral,
            repaid=repaid,
            seized=seized,
            protocol_fee=fee,
            receive_collateral_token=False,
        )

    def deficit(self, account: int, asset: int, amount: int, liquidation_seq: int) -> History:
        return self._add(
            "deficits",
            account_id=account,
            asset_id=asset,
            amount=amount,
            kind="created",
            liquidation_seq=liquidation_seq,
        )

    @property
    def now(self) -> int:
        """The block's timestamp."""
        return self._time

    @property
    def next_seq(self) -> int:
        return self._seq + 1

    def tables(self) -> dict[str, pa.Table]:
        """The canonical tables."""
        out = {}
        for name, rows in self.rows.items():
            schema = CANONICAL[name]
            plain = pa.schema(
                [pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema]
            )
            out[name] = pa.Table.from_pylist([{"market": self.market.name, **row} for row in rows], plain).cast(schema)
        return out

    def timeline(self) -> Timeline:
        return Timeline.of(self.tables())

    def _add(self, table: str, **columns: Any) -> History:
        if not self._open:
            self._transaction += 1
        self._seq += 1
        self._log += 1
        key = {"seq": self._seq, "block_number": self._block, "log_index": self._log, "timestamp": self._time}
        self.rows["events"].append(
            {
                **key,
                "transaction_index": self._transaction,
                "transaction_hash": bytes(32),
                "address": "0x",
                "event": table,
            }
        )
        self.rows[table].append({**key, **columns})
        return self


def opened(accounts: int = 8) -> History:
    """WETH at 2000 $, threshold 80 %, bonus 5 %; USDC at 1 $."""
    h = History(market(("WETH", 18), ("USDC", 6), accounts=accounts))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    return h.price(WETH, 2000 * USD).price(USDC, USD)


def borrower(h: History, account: int, eth: int, usdc: int) -> History:
    """An account with this many whole WETH that owes this many whole USDC."""
    return h.position(account, WETH, "collateral", eth * ETH).position(account, USDC, "debt", usdc * 10**6, "borrow")
