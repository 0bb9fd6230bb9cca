"""What a replay hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal

from msgspec import Struct

from backtest.auctions.bidding import Bid
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, State
from backtest.replay.deferred import Deferred
from backtest.replay.response import CollateralSale, PricePoint

Stage = Literal["whole", "opened", "auction"]
"""A liquidation that settles at once; one that takes collateral and debt from the account and begins an auction; a step
of that auction.
"""


class Waterfall(Struct, frozen=True, kw_only=True):
    """Where what a liquidation gives away goes, base units. Sources: ``bonus + basis + reward``; the rest is what
    becomes of them, exactly.

    ``bonus``: what leaves the account beyond the debt repaid, at oracle prices. ``basis``: what the same is worth more
    at market prices (or, negative, less). ``reward``: what the protocol pays for the call.
    ``protocol_fee`` to ``oracle_share``: see the fields of ``scenario.Costs`` and ``scenario.Oev``; ``bid`` is what
    block builders, the express lane or the auctioneer get; ``private`` are costs that differ from searcher to searcher.
    ``rent`` is what stays with the searcher, negative where it lost.
    """

    bonus: int = 0
    basis: int = 0
    reward: int = 0
    protocol_fee: int = 0
    slippage: int = 0
    sandwich: int = 0
    gas: int = 0
    funding: int = 0
    private: int = 0
    bid: int = 0
    protocol_share: int = 0
    oracle_share: int = 0
    rent: int = 0


Ending = Literal["taken", "expired", "missed"]


class Spell(Struct, frozen=True, kw_only=True):
    """A stretch of looks at which the same came of one account's opportunity, which is numbered by ``opportunity`` and
    may have several of them.

    The offer is the best at the first look: its pair, amounts (``repaid`` in native units) and ``profit``, base units
    after costs and before bids. ``ending``: taken; expired (``reason``: owner acted, or price back);
    missed, with the reason. ``liquidation`` is the ordinal of that which took it.
    """

    opportunity: int
    account: AccountId
    begins: Clock
    ends: Clock
    looks: int
    debt_asset: AssetId
    collateral_asset: AssetId
    repaid: int
    repaid_base: int
    seized_base: int
    profit_base: int
    ending: Ending
    reason: str = ""
    liquidation: int | None = None
    bids: tuple[Bid, ...] = ()


class Liquidation(Struct, frozen=True, kw_only=True):
    """One step of a liquidation. ``*_base`` are base units at the oracle price then, rounded down; health is
    wad-scaled.

    ``seq`` is the last event before it (the liquidation itself where history's is re-enacted). ``profit_base`` is after
    the liquidator's costs where a model knows them. ``matches_history`` is None for a liquidation that is the model's
    own.
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
    made_by_override: bool = False
    """An override, not a price, made the account liquidatable: it was healthy right before and not right after."""
    stage: Stage = "whole"
    lot: int | None = None
    """Number of the auction that it opens or belongs to, within the replay."""
    waterfall: Waterfall = Waterfall()
    """Where its bonus goes; its rent is ``profit_base``."""

    @property
    def takes(self) -> bool:
        """It takes something from the account: what is counted as a liquidation."""
        return self.stage != "auction"

    @property
    def ends(self) -> bool:
        """A liquidator gets the collateral in this step."""
        return self.stage != "opened"


class Deficit(Struct, frozen=True, kw_only=True):
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
    """A historical liquidation that the rules explain otherwise: ``ours`` (repaid, seized, fee), or the reason of a
    refusal.
    """

    past: HistoricalLiquidation
    ours: tuple[int, int, int] | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTotals:
    """The market at the end of a block, base units at oracle prices, summed over accounts by the exact rules.

    ``bad_debt_base`` is debt beyond collateral of accounts that owe more than they hold; ``deficit_base`` what the
    replay's liquidations wrote off so far.
    """

    clock: Clock
    collateral_base: int
    debt_base: int
    liquidatable_debt_base: int
    bad_debt_base: int
    deficit_base: int
    borrowing_power_base: int
    """The most that all accounts together may owe: collateral times loan-to-value."""
    accounts_liquidatable: int
    accounts_unpriced: int
    """Accounts that use an asset without a price: left out of the sums."""


Outcome = Literal["skipped", "shrunk", "cut", "changed", "made", "dropped", "forgone"]
"""What became of a user's action that was not made as in history: refused by the rules; refused and shrunk to what they
allow; cut to what was there; of another size because the user responds, or because the action empties a balance that
differs. Of owners who decide by themselves: made, though not in history; dropped, though made in history; decided
on and forgone, since it cannot be done.
"""


@dataclass(slots=True)
class ActionCount:
    """Users' actions of one kind with one outcome and reason. ``value_base``: what was not made (skipped, shrunk, cut,
    dropped, forgone), by how much it differs (changed), or what was made; base units at oracle prices, rounded down.
    """

    action: str
    outcome: Outcome
    reason: str
    unfunded: bool
    """Of accounts that received collateral in liquidations which the replay leaves out: history's liquidators,
    treasuries.
    """
    count: int = 0
    value_base: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLiquidatable:
    """An account that an override itself made liquidatable: healthy right before it took effect, not right after."""

    account: AccountId
    clock: Clock
    debt_base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far an override reaches when it takes effect: accounts with debt whose health or borrowing power it changed,
    of all with debt.
    """

    override: str
    accounts: int
    of: int
    in_emode: int
    """Accounts with debt in an e-mode, left alone by an override of the base parameters."""
    at_end: bool = False
    """Measured at the end of the window, against history's values there, since nobody had debt when it took effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The outcome as it stands at one moment: the end of the window, or some time later (``label``: end, +1h, +1d,
    +7d).

    Sums run from the scenario's first block; base units at the oracle price of each execution. ``realised`` bad debt
    was written off; ``open`` is debt beyond collateral of accounts that owe more than they hold; ``peak`` is the most
    that both were together, at ``peak_clock``, looked at after each decision and at each sampled block. ``equity`` is
    collateral minus debt by account, ``outside`` what an account took out of the market beyond what it took in history,
    at the prices of this moment (accounts where that is not nothing): a borrow that is refused leaves equity, and
    nothing is won by it.
    """

    label: str
    clock: Clock
    totals: MarketTotals
    liquidations: int
    deficits: int
    repaid_base: int
    seized_base: int
    protocol_fee_base: int
    realised_bad_debt_base: int
    open_bad_debt_base: int
    peak_bad_debt_base: int
    peak_clock: Clock
    equity: Mapping[AccountId, int]
    outside: Mapping[AccountId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCheck:
    """Recomputed interest against history's before the model acts: rate updates compared, how many differ, and the
    largest difference (ray).
    """

    updates: int
    differing: int
    largest: int


@dataclass(frozen=True, slots=True)
class Unpaid:
    """Collateral of an account that a liquidation would have taken and the market had not enough of to pay out: the
    most at any look, in native units and, at the oracle's price then, base units.
    """

    account: AccountId
    asset: AssetId
    amount: int
    value_base: int


class MitigationEffect(Struct, frozen=True, kw_only=True):
    """What one mitigation of a scenario (its ``place`` in the list) did, counted.

    ``effect``: withheld, made smaller, passed (liquidations: ``number`` accounts, each with the most debt of a look;
    passed are those that it had no say in, whose price or size is not the call's); refused, acted, parted (accounts and
    their debt); moved (prices or parameters: how many); paid, shared, unpaid (written-off debt: how many). ``detail``
    says of what, where that is one of several. ``value_base``: base units.
    """

    place: int
    kind: str
    effect: str
    detail: str = ""
    number: int = 0
    value_base: int = 0


@dataclass(kw_only=True)
class Replay(Generic[State]):
    """The outcome. ``book`` is the market at the end of the window.

    Attributes:
        left_out: historical liquidations from the scenario's first block on, which the model replaces.
        refused: orders that would have reverted, by reason; an account counts once for each reason.
        unpaid: liquidations that the market could not pay, of the window; by account and asset.
        actions: users' actions that were not made as in history, counted; ``actions_made`` counts all that came up.
        liquidations: those of the window; what happens between its end and later horizons is in ``horizons`` only.
        horizons: the outcome at the end of the window, and later where the data allow. ``short_of``: labels for which
            they do not.
        made_liquidatable: accounts that overrides themselves made liquidatable. reach: how many accounts each override
            touched.
        rules: revisions that decided liquidations, and whether each is tested against bytecode.
        overrides: how many parameter values each override set. mitigations: what each mitigation did.
        spells: what came of each opportunity, in order of their ends. costs: in sentences, what costs and competition
            rest on.
        points: where prices answer, the three prices of each asset that does, whenever one changed; sales: what
            liquidators got to sell.
    """

    book: Book[State]
    from_clock: Clock
    liquidations: Deferred[Liquidation] = field(default_factory=Deferred)
    deficits: Deferred[Deficit] = field(default_factory=Deferred)
    totals: list[MarketTotals] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    left_out: int = 0
    events: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    unpaid: list[Unpaid] = field(default_factory=list)
    actions: list[ActionCount] = field(default_factory=list)
    actions_made: int = 0
    horizons: list[Horizon] = field(default_factory=list)
    short_of: tuple[str, ...] = ()
    made_liquidatable: list[MadeLiquidatable] = field(default_factory=list)
    reach: list[Reach] = field(default_factory=list)
    rate_check: RateCheck | None = None
    rules: dict[str, bool] = field(default_factory=dict)
    spells: Deferred[Spell] = field(default_factory=Deferred)
    costs: list[str] = field(default_factory=list)
    overrides: Mapping[str, int] = field(default_factory=dict)
    points: list[PricePoint] = field(default_factory=list)
    sales: list[CollateralSale] = field(default_factory=list)
    mitigations: list[MitigationEffect] = field(default_factory=list)
