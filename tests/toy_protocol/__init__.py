"""The pawnshop as a ``LendingProtocol``: the least that a protocol has to say, and nothing of the engine's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType

import pyarrow as pa
from typing_extensions import override

from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    Constant,
    Deployment,
    EventSpec,
    HistoricalLiquidation,
    Market,
    MarketEvent,
    PositionChange,
    Prices,
    SourceChange,
)
from backtest.protocols.claims import Claim, Tables, balances, changes
from backtest.protocols.interface import (
    AccountView,
    Acted,
    Action,
    Exposure,
    Figure,
    Fill,
    Holding,
    LendingProtocol,
    LiquidationTerms,
    Order,
    Pair,
    RawEvents,
    Refusal,
)
from backtest.units import BPS, WAD
from tests.toy_protocol import rules
from tests.toy_protocol.fold import EVENTS, fold
from tests.toy_protocol.rules import PAIR, USDX, Shop


class Pawnshop(LendingProtocol[Shop]):
    """Stateless."""

    name = "pawnshop"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Seized",)
    exposure_parameters = frozenset({"liquidation_threshold"})
    order_parameters: frozenset[str] = frozenset()
    parameters: Mapping[str, int] = MappingProxyType({"liquidation_threshold": 1, "liquidation_bonus": 1})

    # -- fetch ---------------------------------------------------------------------------------------------------------

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        return contracts  # the market's description names them all

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        return ()  # its own logs say the price

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        return ()

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        return ()

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        rows = changes(tables)
        for block in blocks:
            held = balances(rows, block)
            for account, address in accounts.items():
                value, shop = held.get((account, USDX, "debt"), 0), config.contracts["shop"]
                yield Claim(f"debt of {address}", block, shop, "owed(address)", value, (int(address, 16),))

    # -- reconstruct ---------------------------------------------------------------------------------------------------

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        return fold(config, raw)

    # -- replay --------------------------------------------------------------------------------------------------------

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        if values.get("liquidation_threshold", 0) * values.get("liquidation_bonus", BPS) > BPS * BPS:
            return "a threshold that the bonus makes more than all"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        threshold, bonus = values.get("liquidation_threshold"), values.get("liquidation_bonus")
        return LiquidationTerms(threshold * WAD // BPS if threshold else None, bonus * WAD // BPS if bonus else None)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> Shop:
        if recompute:
            raise UserError("rates = 'recomputed': a pawnshop has no interest", "use rates = 'historical'")
        return Shop()

    @override
    def apply(self, state: Shop, event: MarketEvent) -> None:
        rules.apply(state, event)

    @override
    def accounts(self, state: Shop) -> Iterable[AccountId]:
        return sorted(state.held.keys() | state.owed.keys())

    @override
    def exposure(self, state: Shop, account: AccountId, now: Clock) -> Exposure | None:
        return rules.exposure(state, account)

    @override
    def view(self, state: Shop, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        return rules.view(state, account, prices)

    @override
    def figures(self, state: Shop, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        seen = rules.view(state, account, prices)
        owed = state.owed.get(account, 0)
        return (
            Figure("pledged", state.held.get(account, 0), "ETH"),
            Figure("owed", owed, "USDX"),
            Figure("health", seen.health, "wad"),
        )

    @override
    def holdings(self, state: Shop, account: AccountId, now: Clock) -> Sequence[Holding]:
        return rules.holdings(state, account)

    @override
    def weight(self, state: Shop, account: AccountId, asset: AssetId) -> int:
        return state.params["liquidation_threshold"] * WAD // BPS

    @override
    def pairs(self, state: Shop, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        return rules.pairs(state, account, prices)

    @override
    def quote(self, state: Shop, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        return rules.quote(state, order, prices, now)

    @override
    def act(self, state: Shop, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """``Shop.sol``: nobody gives up more than there is, and whoever takes out must be safe afterwards."""
        change = action.changes[0]
        assert isinstance(change, PositionChange)
        after, risky = deepcopy(state), action.name in ("borrow", "withdraw")
        held = (state.held if action.name in ("supply", "withdraw") else state.owed).get(change.account, 0)
        amount = abs(change.delta) if action.amount is None else action.amount
        if action.name in ("repay", "withdraw"):
            amount = held if 0 in action.emptied or (action.name == "repay" and amount > held) else amount
            if amount > held:
                return Refusal("more than there is")
        made = replace(change, delta=amount if change.delta > 0 else -amount)
        rules.apply(after, made)
        seen = rules.view(after, change.account, prices) if risky else None
        if seen is not None and seen.health is not None and seen.health < WAD:
            return Refusal("unsafe")
        return Acted(change.account, (made,), amount, seen if seen is not None and seen.debt_base else None)

    @override
    def observed_order(self, state: Shop, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        return Order(past.account, PAIR, past.liquidator, past.repaid)


PAWNSHOP = Pawnshop()
