"""Canonical rows of an ilk as a fold makes them, whatever its history comes from: accounts, positions, accumulator,
parameters.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.vaults.state import coin_of, collateral_of
from backtest.tables import CANONICAL
from backtest.units import RAY

Place = Mapping[str, Any]
"""Where a row stands: a log or an imported row with seq, block_number, log_index and timestamp."""

_KEY = ("seq", "block_number", "log_index", "timestamp")
BEHIND = ":"
"""Between an urn's address and its ilk, where a market has several."""


class VaultRows:
    """Collects rows of one ilk; balances are kept to know what a row leaves behind. Not strict: the caller says what
    may be negative.

    ``beside``: the first ledger of a market of several ilks, whose rows, accounts and assets this one's join; ``own``:
    the ilk's name in such a market. A vault is an account of its urn's address, with the ilk's name behind it where
    there are several.

    ``SHOWS``: settings that only one version of the liquidation contracts has, which show that it is in force from then
    on. ``FIXED``: the price of a coin that is one unit of the base currency by definition; None: it has a price of its
    own. ``DIGITS``: digits of a price below a base unit.
    """

    SHOWS: ClassVar[Mapping[str, int]] = {}
    FIXED: ClassVar[int | None] = None
    DIGITS: ClassVar[int] = 0

    def __init__(
        self,
        config: MarketConfig,
        collateral: tuple[str, str],
        coin: tuple[str, str],
        *,
        beside: VaultRows | None = None,
        own: str | None = None,
    ) -> None:
        self._market = config.name
        self._own = own
        self._told = 0
        self._assets: list[tuple[str, str]] = [] if beside is None else beside._assets
        self._ids: dict[str, int] = {} if beside is None else beside._ids
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list) if beside is None else beside._rows
        ilk = len(self._assets) // 2
        self.collateral, self.coin = collateral_of(ilk), coin_of(ilk)
        self._assets += [collateral, coin]
        self.ink: dict[int, int] = defaultdict(int)
        self.art: dict[int, int] = defaultdict(int)
        self.params: dict[str, int] = {}
        self.rate = 0

    def account(self, text: str) -> int:
        """The id of an account, new ones in order of appearance."""
        return self._ids.setdefault(text, len(self._ids))

    def vault(self, urn: str) -> int:
        """The account of an urn in this ilk."""
        return self.account(urn if self._own is None else f"{urn}{BEHIND}{self._own}")

    def open(self, place: Place) -> None:
        """The ilk comes into being: an accumulator of one ray (dss ``src/vat.sol`` ``init``)."""
        if self.rate:
            return
        self.set_rate(place, RAY)
        self._add(
            "indexes", place, asset_id=self.collateral, supply_index=RAY, borrow_index=RAY, supply_rate=0, borrow_rate=0
        )
        if self.FIXED is not None:
            self.price(place, self.coin, self.FIXED, source=None, method="fixed", exact=False)

    def set_rate(self, place: Place, rate: int) -> None:
        """The accumulator steps to ``rate``. Yearly rates are zero in ``indexes``: between two steps a debt does not
        grow.
        """
        if rate != self.rate:
            self.rate = rate
            self._add(
                "indexes", place, asset_id=self.coin, supply_index=RAY, borrow_index=rate, supply_rate=0, borrow_rate=0
            )

    def price(
        self, place: Place, asset: int, price: int | None, *, source: str | None, method: str, exact: bool
    ) -> None:
        """A step of the oracle price, in the market's decimals of prices."""
        digits = {}
        if self.DIGITS:
            whole, rest = (None, None) if price is None else divmod(price, 10**self.DIGITS)
            price, digits = whole, {"price_rest": rest}
        self._add("prices", place, asset_id=asset, price=price, source=source, method=method, exact=exact, **digits)

    def param(self, place: Place, name: str, value: int, *, whole: bool = False) -> None:
        """A parameter of the ilk (``whole``: of the market); and the version of the liquidation contracts, where this
        one shows it.
        """
        self.params[name] = value
        asset = None if whole or self._own is None else self.collateral
        self._add("params", place, asset_id=asset, category=None, name=name, value=value)
        system = self.SHOWS.get(name)
        if system is not None and value and self.params.get("liquidation_system", 0) < system:
            self.param(place, "liquidation_system", system)

    def move(
        self,
        place: Place,
        account: int,
        side: str,
        delta: int,
        action: str,
        *,
        amount: int | None = None,
        action_seq: int | None = None,
    ) -> None:
        """``delta`` of ink or art (wad) at a place."""
        if not delta:
            return
        (self.ink if side == "collateral" else self.art)[account] += delta
        self._add(
            "position_events",
            place,
            account_id=account,
            asset_id=self.collateral if side == "collateral" else self.coin,
            side=side,
            delta=delta,
            action=action,
            action_seq=place["seq"] if action_seq is None else action_seq,
            amount=amount,
        )

    def frob(
        self, place: Place, account: int, dink: int, dart: int, action: str, *, paid: int, action_seq: int | None = None
    ) -> None:
        """Both sides of a vault change at once; the side that the action's name is about comes first. ``paid``: coins
        that moved, wad.
        """
        sides = [("collateral", dink, abs(dink)), ("debt", dart, paid)]
        for side, delta, amount in sides[::-1] if action in ("borrow", "repay") else sides:
            self.move(place, account, side, delta, action, amount=amount, action_seq=action_seq)

    def moved(self, row: Place, urn: str, dink: int, dart: int, action: str, *, action_seq: int | None = None) -> None:
        """The same of a log that names an urn. RulesError where it would hold less than nothing."""
        account = self.vault(urn)
        # what the owner gets is rounded down, what it pays up
        self.frob(row, account, dink, dart, action, paid=abs(dart * self.rate // RAY), action_seq=action_seq)
        if self.ink[account] < 0 or self.art[account] < 0:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: vault {urn} would hold less than nothing",
                "logs before it are missing: run backtest check",
            )

    def liquidation(self, place: Place, account: int, liquidator: int, repaid: int, seized: int, art: int) -> None:
        """A bite or bark: debt without penalty, collateral and the normalised debt that left the vault, wad."""
        self._add(
            "liquidations",
            place,
            transaction_hash=place["transaction_hash"] or bytes(32),
            account_id=account,
            liquidator_id=liquidator,
            debt_asset_id=self.coin,
            collateral_asset_id=self.collateral,
            repaid=repaid,
            seized=seized,
            protocol_fee=0,
            receive_collateral_token=False,
            debt_scaled=art,
        )

    def deficit(self, place: Place, account: int, amount: int) -> None:
        """Debt that a liquidation left to the protocol, wad."""
        self._add(
            "deficits",
            place,
            account_id=account,
            asset_id=self.coin,
            amount=amount,
            kind="created",
            liquidation_seq=place["seq"],
        )

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Every canonical table that a fold makes, of what came since this was asked for before; ``prices`` holds what
        the ilk's own logs and rules say.
        """
        self._rows["assets"] = [
            {
                "market": self._market,
                "asset_id": number,
                "asset": asset,
                "symbol": symbol,
                "decimals": 18,
                "collateral_token": None,
                "debt_token": None,
            }
            for number, (asset, symbol) in enumerate(self._assets)
        ]
        self._rows["accounts"] = [
            {"market": self._market, "account_id": number, "account": text}
            for text, number in itertools.islice(self._ids.items(), self._told, None)
        ]
        self._told = len(self._ids)
        for name in (
            "assets",
            "params",
            "indexes",
            "prices",
            "position_events",
            "setting_events",
            "liquidations",
            "deficits",
            "accounts",
        ):
            rows, schema = self._rows.pop(name, []), CANONICAL[name]
            if "seq" in schema.names:
                rows.sort(key=lambda row: row["seq"])
            plain = pa.schema(
                [
                    pa.field(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type, f.nullable)
                    for f in schema
                ]
            )
            yield name, pa.Table.from_pylist(rows, plain).cast(schema)

    def _add(self, table: str, place: Place, **columns: Any) -> None:
        self._rows[table].append({"market": self._market, **{name: place[name] for name in _KEY}, **columns})


def closing(
    rows: Iterable[tuple[str, Place]], seizure: str, liquidations: Collection[str], ilk: str, urn: str
) -> dict[int, int]:
    """Seq of a seizure's log to the seq of the liquidation's, later in its transaction, that names its vault; ``ilk``
    and ``urn`` are the columns of both that do.
    """
    waiting: dict[tuple[Any, ...], list[int]] = {}
    found = {}
    for event, row in rows:
        if event == seizure or event in liquidations:
            place = (row["block_number"], row["transaction_index"], row[ilk], row[urn])
            if event == seizure:
                waiting.setdefault(place, []).append(row["seq"])
            elif waiting.get(place):
                found[waiting[place].pop()] = row["seq"]
    return found
