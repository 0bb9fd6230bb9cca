"""What a replay hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation
from backtest.protocols import Fill, State
from backtest.replay.book import Book
from backtest.replay.users import Clamped


@dataclass(frozen=True, slots=True, kw_only=True)
class Liquidation:
    """One step of a liquidation. ``*_base`` are base units at the oracle price then, rounded down; health is wad-scaled.

    ``seq`` is the last event before it (the liquidation itself where history's is re-enacted). ``profit_base`` is after the
    liquidator's costs where a model knows them. ``matches_history`` is None for a liquidation that is the model's own.
    """

    ordinal: int
    seq: int
    clock: Clock
    fill: Fill
    step: str
    repaid_base: int
    seized_base: int
    protocol_fee_base: int
    profit_base: int
    health_before: int | None
    health_after: int | None
    matches_history: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deficit:
    """Debt of one asset that the protocol wrote off in a liquidation (its ordinal), native units."""

    liquidation: int
    seq: int
    clock: Clock
    account: AccountId
    asset: AssetId
    amount: int
    amount_base: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A historical liquidation that the rules explain otherwise: ``ours`` (repaid, seized, fee), or the reason of a refusal."""

    past: HistoricalLiquidation
    ours: tuple[int, int, int] | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The market at the end of a block, base units at oracle prices, summed over accounts by the exact rules.

    ``bad_debt_base`` is debt beyond collateral of accounts that owe more than they hold; ``deficit_base`` what the replay's
    liquidations wrote off so far.
    """

    clock: Clock
    collateral_base: int
    debt_base: int
    liquidatable_debt_base: int
    bad_debt_base: int
    deficit_base: int
    accounts_liquidatable: int
    accounts_unpriced: int
    """Accounts that use an asset without a price: left out of the sums."""


@dataclass(kw_only=True)
class Replay(Generic[State]):
    """The outcome. ``book`` is the market at the end of the window.

    Attributes:
        left_out: historical liquidations from the scenario's first block on, which the model replaces.
        refused: orders that would have reverted, by reason; an account counts once for each reason.
        clamped: users' actions that no longer fitted the book, by action.
        unfunded: the same of accounts that received collateral in the liquidations left out (history's liquidators).
        rules: revisions that decided liquidations, and whether each is tested against bytecode.
        overrides: how many parameter values each override set.
    """

    book: Book[State]
    from_clock: Clock
    liquidations: list[Liquidation] = field(default_factory=list)
    deficits: list[Deficit] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    left_out: int = 0
    events: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    clamped: Mapping[str, Clamped] = field(default_factory=dict)
    unfunded: Mapping[str, Clamped] = field(default_factory=dict)
    rules: dict[str, bool] = field(default_factory=dict)
    overrides: Mapping[str, int] = field(default_factory=dict)
