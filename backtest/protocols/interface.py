"""What a protocol is: data and pure functions, no I/O, no clock.

A protocol says which events it needs, how they fold into the canonical tables, who may be liquidated and what a
liquidation does. It does not say when someone liquidates or at what price the collateral is sold: that belongs to the
liquidation mechanism and the liquidator model (``backtest.replay``). The engine never looks inside a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field
from typing_extensions import override

from backtest.markets import MarketConfig
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    Constant,
    Deployment,
    EventSpec,
    HistoricalLiquidation,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
    Reading,
    SettingChange,
    Side,
    SourceChange,
)

if TYPE_CHECKING:
    from backtest.protocols.claims import Claim, Tables
    from backtest.protocols.folding import Running
    from backtest.protocols.loop import CompiledRules
    from backtest.protocols.mechanism import Mechanism
    from backtest.protocols.storage import Steps, StoredAccount, Subject

State = TypeVar("State")
Ints = npt.NDArray[np.int64]


class LinearExposure(Struct, frozen=True):
    """An account is safe while ``constant + sum(weights[a] * price[a]) >= 0`` (base units; weights in base units per
    base-unit price).

    ``relative_error`` bounds the float error relative to the sum of the absolute terms; inside it the exact rule
    decides. ``debt[a]`` (>= 0) is the part of ``weights[a]`` that grows with the asset's borrow index, the rest grows
    with its supply index; an asset not listed is debt where its weight is negative. The screen ages the form by the
    indexes instead of asking again. ``until`` is a timestamp up to which that holds (None: always), for debts that grow
    by a rate of their own. ``follows``: what it holds of each asset counts in proportion to that asset's
    ``LendingProtocol.collateral_share``.
    """

    weights: Mapping[AssetId, float]
    constant: float = 0.0
    relative_error: float = 1e-6
    debt: Mapping[AssetId, float] = field(default_factory=dict)
    until: int | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Exposures:
    """Linear exposures of some accounts as columns; the terms of each are its rows from ``start`` on.

    ``amount`` is not negative: what an asset's price counts for (the part that grows with its supply index), or against
    (``owed``). ``until``: as in ``LinearExposure``, of all of them; ``follows``: of each account, None: of none. See
    ``LendingProtocol.exposures``.
    """

    account: Ints
    start: Ints
    asset: Ints
    owed: npt.NDArray[np.bool_]
    amount: npt.NDArray[np.float64]
    constant: npt.NDArray[np.float64]
    relative_error: float
    until: int | None = None
    follows: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class BoxExposure:
    """For rules that are not linear: the account cannot be eligible while every listed price stays inside [low,
    high].
    """

    box: Mapping[AssetId, tuple[float, float]]


Exposure = LinearExposure | BoxExposure


class LiquidationTerms(Struct, frozen=True):
    """At what health, and with what gain, a collateral is liquidated; both wad, None where there is none.

    ``threshold``: how much of the collateral's value counts towards health. ``bonus``: what the liquidator gets for
    each unit of value that it repays, one and the gain (1.05e18 is 5 %); None too where an auction finds it.
    """

    threshold: int | None
    bonus: int | None = None


class Pair(Struct, frozen=True):
    """One way to liquidate an account now: repay ``debt_asset``, receive ``collateral_asset``."""

    debt_asset: AssetId
    collateral_asset: AssetId


class Order(Struct, frozen=True):
    """What a liquidator asks for. ``repay`` None asks for as much as the rules allow (a contract's
    ``type(uint256).max``).

    Where a protocol's call names it so: ``repay_scaled`` is the debt to repay as the protocol stores it, ``seize`` the
    collateral to take (native units). At most one of the three is given; a protocol whose calls know only ``repay``
    ignores the others.

    ``agreed``: a mechanism that is not the protocol's own has set both ``repay`` and ``seize`` (what leaves the
    account, a protocol's fee included). Close factor, bonus and auctions of the protocol do not apply; every other
    check, its fee and its rounding of what it stores do.

    ``early``, with ``agreed``: the account need not be liquidatable, since its owner sells by itself (a protocol that
    can says so, ``LendingProtocol.early``); no fee is taken.

    Two of the three, of a call of history alone: it is known in both, and which of a protocol's ways gives both is
    the protocol's to find.
    """

    account: AccountId
    pair: Pair
    liquidator: AccountId
    repay: int | None = None
    receive_collateral_token: bool = False
    repay_scaled: int | None = None
    seize: int | None = None
    agreed: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The order would revert; ``reason`` is the contract's error in words.

    ``instead`` is a smaller repayment that would go through, where only the size was wrong and there is one.
    ``unpaid``: the collateral and how much of it (native units) a liquidation would take and the market cannot pay out.
    """

    reason: str
    instead: int | None = None
    unpaid: tuple[AssetId, int] | None = None


class Fill(Struct, frozen=True):
    """What an order does. Amounts in native units; ``changes`` are all effects on the book, in order.

    ``deficits`` are debts written off by the protocol; ``rules`` names the revision whose rules decided;
    ``rules_tested`` is true where that revision is tested against its bytecode.

    ``repaid_by_others``: as much of ``repaid`` as a pool of the protocol pays, or the other borrowers take over, in the
    liquidator's place. ``reward``: what the liquidator is given of the debt asset (native units) beside what it seizes.
    ``step``: which of the protocol's ways of liquidating at once it is (``LendingProtocol.gas_units``).
    """

    order: Order
    repaid: int
    seized: int
    protocol_fee: int
    changes: tuple[PositionChange | SettingChange | IndexUpdate | ParamChange, ...]
    deficits: tuple[tuple[AssetId, int], ...] = ()
    rules: str = ""
    rules_tested: bool = False
    repaid_by_others: int = 0
    reward: int = 0
    step: str = "liquidate"

    @property
    def paid(self) -> int:
        """What the liquidator itself pays of the debt asset, native units."""
        return self.repaid - self.repaid_by_others


@dataclass(frozen=True, slots=True)
class Together:
    """Liquidations of several accounts at one moment: the most profitable of each account, again and again, as long as
    one pays. Columns have one row a liquidation, those of an account in order: of accounts one after another, where
    none depends on another's, or (``ordered``) as they are taken.

    See ``LendingProtocol.together``.

    Attributes:
        profit: base units after the cost, both sides rounded against the liquidator. repaid, seized, protocol_fee:
            native units.
        health_before, health_after: wad; None without debt.
        deficits: liquidation, asset and native amount of debts written off.
        positions: what all of them change in scaled balances: account, asset, side, sum of changes. settings: as in
            ``SettingChange``, in order.
        on_offer: accounts that can be liquidated on, though it does not pay or is not allowed any more.
        refused: account and reason of quotes that were refused.
        rules: as in ``Fill``, with whether they are tested.
        fill: the fill of a liquidation, by row.
    """

    account: list[AccountId]
    debt_asset: list[AssetId]
    collateral_asset: list[AssetId]
    profit: list[int]
    repaid: list[int]
    seized: list[int]
    protocol_fee: list[int]
    health_before: list[int]
    health_after: list[int | None]
    deficits: list[tuple[int, AssetId, int]]
    positions: list[tuple[AccountId, AssetId, Side, int]]
    settings: list[tuple[AccountId, str, AssetId, int]]
    on_offer: list[AccountId]
    refused: list[tuple[AccountId, str]]
    rules: tuple[str, bool]
    fill: Callable[[int], Fill]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Spreads:
    """What settling at once would cost and bring, of every pair of several accounts at one moment that an order would
    fill: as much as the rules allow, or a refusal's ``instead``. Columns have one row a pair, those of an account one
    after another.

    See ``LendingProtocol.spreads``.

    Attributes:
        paid: what buying what is repaid costs, rounded up. brought: what selling what is seized brings, rounded down;
            both base units, as a ``Book`` values them.
        rest: accounts that it cannot tell of. Of the others those without a row have nothing on offer.
        refused: account and reason of quotes that were refused.
    """

    account: Ints
    debt_asset: Ints
    collateral_asset: Ints
    paid: Ints
    brought: Ints
    rest: frozenset[AccountId]
    refused: Sequence[tuple[AccountId, str]]


class AccountView(Struct, frozen=True):
    """An account in base-currency units, for reporting and for mechanisms. ``health`` is wad-scaled, None without debt.

    ``borrowing_power_base`` is the most that the account may owe when it borrows or withdraws (collateral times
    loan-to-value); ``category`` the group of parameters that it chose (an e-mode), 0 for none.
    """

    collateral_base: int
    debt_base: int
    health: int | None
    borrowing_power_base: int = 0
    category: int = 0


class SafePrices(Struct, frozen=True):
    """Oracle prices of one asset (the oracle's own integers) at which an account passes the protocol's check, all else
    as it is: from ``least_up`` on, or up to ``most_down``, both inclusive and exact. See
    ``LendingProtocol.safe_prices``.
    """

    least_up: int | None = None
    most_down: int | None = None


@dataclass(frozen=True, slots=True)
class Amounts:
    """A column of whole numbers of up to 124 bits: ``high`` (None: zeros) times 2**62 plus ``low``, which is within
    2**62 of zero.
    """

    low: Ints
    high: Ints | None = None

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Amounts:
        """Some rows."""
        return Amounts(self.low[rows], None if self.high is None else self.high[rows])

    def minus(self, other: Amounts) -> Amounts:
        """The differences."""
        if self.high is None and other.high is None:
            return Amounts(self.low - other.low)
        high, theirs = (np.zeros_like(self.low) if part is None else part for part in (self.high, other.high))
        return Amounts(self.low - other.low, high - theirs)

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        """Above zero."""
        return self.low > 0 if self.high is None else (self.high > 0) | ((self.high == 0) & (self.low > 0))

    @property
    def negative(self) -> npt.NDArray[np.bool_]:
        """Below zero."""
        return self.low < 0 if self.high is None else (self.high < 0) | ((self.high == 0) & (self.low < 0))

    def differs(self, other: Amounts) -> npt.NDArray[np.bool_]:
        """Where one number is not the other."""
        apart = self.minus(other)
        return apart.positive | apart.negative

    def integers(self) -> list[int]:
        """As Python has them."""
        low: list[int] = self.low.tolist()
        if self.high is None:
            return low
        return [(high << 62) + rest for high, rest in zip(self.high.tolist(), low, strict=True)]

    def total(self) -> int:
        """The sum."""
        return _sum(self.low) + (0 if self.high is None else _sum(self.high) << 62)


def _sum(values: Ints) -> int:
    """The sum, which may take more than 64 bits."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


@dataclass(frozen=True, slots=True)
class Views:
    """The views of every account that holds anything, as columns in id order: base units (the low 62 bits), health as
    (low, high) words, 0 without debt.

    ``high``: what base units of collateral, debt and power have above (3 x accounts; see ``Amounts``); None: nothing.
    ``rest``: accounts that do not fit, in id order; None where a price is missing. See ``LendingProtocol.views``.
    """

    account: Ints
    collateral_base: Ints
    debt_base: Ints
    borrowing_power_base: Ints
    health: npt.NDArray[np.uint64]
    category: Ints
    rest: Mapping[AccountId, AccountView | None]
    high: Ints | None = None

    @property
    def collateral(self) -> Amounts:
        """Base units."""
        return Amounts(self.collateral_base, None if self.high is None else self.high[0])

    @property
    def debt(self) -> Amounts:
        """Base units."""
        return Amounts(self.debt_base, None if self.high is None else self.high[1])

    @property
    def power(self) -> Amounts:
        """Base units that the account may owe."""
        return Amounts(self.borrowing_power_base, None if self.high is None else self.high[2])


@dataclass(frozen=True, slots=True)
class Action:
    """One call of a user as history records it, to be made again in a book that may differ. ``changes`` are its effects
    then.

    Where interest is recomputed, a change of a parameter comes as an action of its own named ``parameter``.

    ``emptied`` are the places in ``changes`` of position changes that left history's balance at zero: here they empty
    it too, however much it holds. ``amount`` (native units) is asked for instead of the recorded one where it is given,
    by users who respond or whose action is shrunk; an action that empties ignores it.
    """

    name: str
    changes: tuple[PositionChange | SettingChange | ParamChange, ...]
    emptied: frozenset[int] = frozenset()
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Acted:
    """What an action does here: all effects on the book, in order, and the native units that it moved.

    ``view`` is its account afterwards, for an action that raises the account's risk (borrow, withdraw, transfer away,
    collateral switched off, e-mode changed) while it has debt; None for any other.
    """

    account: AccountId
    changes: tuple[PositionChange | SettingChange | IndexUpdate | ParamChange, ...]
    amount: int = 0
    view: AccountView | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """What accounts hold and have set when a replay begins, their history being left out: each balance (account, asset,
    side, as the protocol stores it) and each setting (account, name, asset, value, block of the last change) once.

    ``moved``: native units that the calls which are left out moved, by asset, side and action; None where one of them
    does not say it. The book is history's from block ``until`` on.
    """

    balances: Sequence[tuple[AccountId, AssetId, Side, int]]
    settings: Sequence[tuple[AccountId, str, AssetId | None, int, int]]
    moved: Sequence[tuple[AssetId, Side, str, int | None]] = ()
    until: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """What an account holds of one asset: stored (scaled) and, accrued to a moment, in native units."""

    asset: AssetId
    collateral_scaled: int
    debt_scaled: int
    collateral: int
    debt: int
    collateral_enabled: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the numbers that a protocol's own view says of an account, exact. ``unit``: base (units of the base
    currency), bps, wad, ray, rad, shares, what 1 means where it is a flag, or the symbol of the asset whose native
    units it is in; ``value`` None where there is none.
    """

    name: str
    value: int | None
    unit: str


class RawEvents(Protocol):
    """Read access to a market's raw events. An event of the own protocol goes by its name (``Mint``), any other dataset
    by its full name (``raw/chain/Revision``). Event tables have, before their own columns, ``seq`` (int64, dense over
    all events of the market in chain order) and ``timestamp`` (int64, of the block); facts read by calls have their own
    columns only.
    """

    @property
    def parameters(self) -> Mapping[str, str]:
        """The market's own parameters (``MarketConfig.parameters``)."""
        ...

    def table(self, event: str) -> pa.Table:
        """All rows of one raw dataset, sorted by (block_number, log_index); empty with its schema if there are none."""
        ...

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """The history of some events cut into consecutive block ranges of about ``rows`` rows: event name to sorted
        table.

        ``columns``: event name to the columns wanted beside ``seq`` and ``timestamp``; other events are left out.
        """
        ...


class LendingProtocol(Protocol[State]):
    """One protocol. Implementations derive from this class and are stateless; all functions are pure except ``apply``,
    ``open_accounts`` and ``settle_together``, which update the state they are given.

    A member with a body is an ability: what stands here says "I cannot" (None, empty), and the engine then does
    without it. Every override is marked ``@override`` and public members that are not declared here are refused, so
    that a misspelt ability is an error and not a silent "cannot".
    """

    name: str
    events: Sequence[EventSpec]
    # Names of the events that mark a liquidation: fetch reads all prices at the end of their blocks.
    liquidation_events: Sequence[str]
    # Parameters that exposures depend on: a change of any other makes no account liquidatable.
    exposure_parameters: frozenset[str]
    # The one of an asset that ``collateral_share`` depends on; empty: exposures follow none.
    share_parameter: str = ""
    # Parameters that a fill may change and other orders depend on (market-wide limits).
    order_parameters: frozenset[str]

    # Parameters that a scenario may override (words of ``scenario.PARAMETERS``), and the stored units of one of each.
    parameters: Mapping[str, int]
    # What their numbers mean in this protocol's contracts, where the words leave it open: for the reference.
    parameters_said: str = ""

    # How its rules are known to be right where none of them is tested against bytecode, shown beside exact numbers:
    # "by vectors".
    evidence: str = ""
    # Sentences that hold for every result of this protocol, printed with it.
    assumptions: Sequence[str] = ()
    # By step of a liquidation (``Opportunity.step``), how much gas its call uses; where it is not there, scenarios that
    # ask for gas have to say so.
    gas_units: Mapping[str, int] = MappingProxyType({})
    # Seconds from a market price to the oracle's, where only market prices are known.
    oracle_delay: int = 0
    # Where many markets share contracts: the names of ``MarketConfig.parameters`` that tell them apart;
    # ``backtest fetch`` takes them as options.
    market_parameters: Sequence[str] = ()
    # What the fold reads of each dataset that users import (``raw/import/*``), dataset to columns beside the key;
    # prices and checkpoints are read for every protocol. Empty: imported positions cannot be folded and are refused.
    imported_columns: Mapping[str, frozenset[str]] = MappingProxyType({})
    # Whether ``quote`` knows orders about healthy accounts (``Order.early``).
    early: bool = False
    # Whether an account's scaled balances and settings may be moved to another one by changes of both.
    parts_accounts: bool = False
    # Names that raw/import/Parameter may hold.
    imported_parameters: frozenset[str] = frozenset()

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if strangers := {name for name in vars(cls) if not name.startswith("_")} - _declared():
            raise TypeError(f"{cls.__name__}: a protocol has no member {', '.join(sorted(strangers))}")

    def describe(self, parameters: Mapping[str, str], known: Sequence[MarketConfig]) -> MarketConfig | None:
        """With ``market_parameters``: a market that no description ships of, in the contracts of those that do
        (``known``, one at least). UserError for a wrong value.
        """
        return None

    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why the market's own checks would refuse these parameters of one asset or one category (names as in
        ``parameters``); None: they pass. Absent names are not set.
        """
        ...

    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The terms that these parameters (stored units, those of the whole market among them) of one asset, of one
        category, or of the market come to. Absent names are not set.
        """
        return LiquidationTerms(None)

    # -- fetch ---------------------------------------------------------------------------------------------------
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """Emitting contracts per role known after reading ``raw``, a superset of ``contracts``; fetch repeats until
        stable.
        """
        ...

    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """Which source the market's oracle took each asset's price from, in chain order, over all of ``raw``."""
        ...

    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """Implementations behind the market's proxies whose revision constant fetch must read, in chain order."""
        ...

    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """Constants of contracts that fetch must read, in the order in which the history names them."""
        ...

    def readings(self, raw: RawEvents) -> Iterable[Reading]:
        """Views that fetch must read at blocks; asked again with the answers until all that it names is known."""
        return ()

    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """Addresses of the ERC-20 tokens whose symbol and decimals fetch must read: the underlying assets."""
        ...

    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterable[Claim]:
        """What the contracts must return at the end of these blocks if the canonical tables are right: of the market as
        a whole, and of these accounts (id to address). Empty: nothing is compared beyond prices and headers.
        """
        return ()

    def stored(self, subject: Subject) -> Steps[StoredAccount[State]] | None:
        """Steps that read an account from the storage of the market's contracts (see ``storage``), for proofs that need
        no history. None: the protocol names no slots of its state.
        """
        return None

    # -- reconstruct ---------------------------------------------------------------------------------------------
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """Chunks of canonical tables (name, rows), in chain order and deterministic: every table of
        ``backtest.tables.CANONICAL`` but events and blocks, which reconstruction makes for all protocols alike;
        ``prices`` only so far as the protocol's own logs and rules say them, beside what its price sources give.
        """
        ...

    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]] | None:
        """``fold`` of a history that goes on: ``raw.segments`` gives only the logs behind those that ``running`` has
        seen, ``raw.table`` all up to the last of them. Accounts that came before may be left out; what else is not of
        a segment comes whole again. None: cannot, whoever follows a chain folds the whole history anew.
        """
        return None

    # -- replay --------------------------------------------------------------------------------------------------
    def open(self, market: Market, *, recompute: bool = False) -> State:
        """The empty state of a market: explicit, owned by one replay.

        With ``recompute`` interest follows this book: the engine passes on no IndexUpdate of history, and the changes
        of ``act`` and ``quote`` hold those that the calls cause here. UserError where the protocol or the history
        cannot do that.
        """
        ...

    def apply(self, state: State, event: MarketEvent) -> None:
        """Apply one canonical event or effect. ``HistoricalLiquidation`` is not applied here: the engine re-enacts
        it.
        """
        ...

    def open_accounts(self, state: State, opening: Opening) -> bool:
        """Put accounts into a state that knows none of them, as their changes would, and say True; False: cannot, and
        nothing changed.

        A protocol can where an account's past may be replayed in short: its balances are the sums of their changes
        whatever else happened between, its settings the last ones, and what a liquidation does depends on no sum over
        accounts.
        """
        return False

    def accounts(self, state: State) -> Iterable[AccountId]:
        """Accounts that hold anything, in id order."""
        ...

    def exposure(self, state: State, account: AccountId, now: Clock) -> Exposure | None:
        """When an account needs an exact look; None: never (no debt)."""
        ...

    def exposures(self, state: State, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """Linear exposures of many accounts at once: safe nowhere where ``exposure`` is not. May leave accounts out."""
        return None

    def collateral_share(self, state: State, asset: AssetId, value: int | None = None) -> float | None:
        """What an exposure that ``follows`` is in proportion to, with what it holds of an asset, where
        ``share_parameter`` of it is this; None: as it is. A change of it that is known in advance then asks nobody
        for an exposure anew. None: no exposure follows.
        """
        return None

    def owner_of(self, account: str) -> str:
        """Whose an account is, by its address alone: of a sub-account its owner's address; itself where the address
        does not tell.
        """
        return account

    def owner_in(self, state: State, account: AccountId) -> str | None:
        """The same where the market's logs have to say it; None: the address says it."""
        return None

    def view(self, state: State, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """The account's totals and exact health by the rules in force; PriceMissing where a price is missing."""
        ...

    def figures(self, state: State, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """An account in the words of the protocol's own contracts: what their view of it returns at ``now``;
        PriceMissing where it would revert. Empty: the protocol tells none.
        """
        return ()

    def views(self, state: State, prices: Prices, now: Clock) -> Views | None:
        """The views of a whole book, equal to ``view`` of each account."""
        return None

    def safe_prices(
        self, state: State, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """At which oracle prices of one asset the account may not be liquidated, the other assets' prices as given.

        An owner's call that raises risk ends in an account that passes this check at least, so that it bounds the
        price as a liquidation does from the other side. None: the check does not depend on that price, or where it
        turns cannot be told.
        """
        return None

    def weight(self, state: State, account: AccountId, asset: AssetId) -> int | None:
        """How much of a collateral's value counts towards health (wad), for mechanisms that aim at one."""
        return None

    def holdings(self, state: State, account: AccountId, now: Clock) -> Sequence[Holding]:
        """What the account holds, in asset order, assets with a balance only."""
        ...

    def pairs(self, state: State, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """Every pair an eligible account may be liquidated with now, in asset order; empty if it is not eligible."""
        ...

    def quote(self, state: State, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """What the order would do. Changes nothing; the engine applies ``Fill.changes``.

        Depends on the account, prices, time and market-wide state alone; a fill that moves market-wide state on which
        other orders depend says so by a ParamChange (``order_parameters``) among its changes.
        """
        ...

    def mechanism(self, cost: int) -> Mechanism[State] | None:
        """The protocol's own way of settling a liquidation, new for each replay, where it takes time; ``cost`` is what
        a call costs whoever makes it, base units. None: it settles at once, pair by pair, by ``quote``.
        """
        return None

    def together(
        self,
        state: State,
        accounts: Sequence[AccountId],
        prices: Prices,
        now: Clock,
        liquidator: AccountId,
        *,
        cost: int,
        calls: Mapping[AccountId, int],
        most: int,
    ) -> Together | None:
        """What ``pairs`` and ``quote`` of many accounts come to at one moment, where the liquidator receives the
        underlying and a refusal's ``instead`` is taken; None: cannot tell, ask one by one. Each call costs the
        liquidator ``cost`` base units, and each account is called at most ``most`` times, ``calls`` of them before.
        """
        return None

    def spreads(self, state: State, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
        """What settling each pair of these accounts (increasing) would cost and bring; None: cannot tell, ask one by
        one.
        """
        return None

    def shortfall(self, state: State, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> int | None:
        """By how much these accounts (increasing) owe more than they hold, base units in sum, as ``view`` of each says;
        whoever holds something without a price counts nothing. None: ask one by one.
        """
        return None

    def settle_together(self, state: State, found: Together) -> None:
        """The effect on the state of the changes of all fills of ``found``."""
        for row in range(len(found.account)):
            for change in found.fill(row).changes:
                self.apply(state, change)

    def compiled_rules(self, state: State, now: Clock) -> CompiledRules | None:
        """What the compiled loop of a replay needs of the book as it is at ``now`` (see ``loop``): its columns, which
        the loop changes, and the rules as machine code. None: no such loop here, or not now.
        """
        return None

    def act(self, state: State, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """What a user's action does in this book, checked by the contract's rules; ``Refusal`` where it would revert.
        Changes nothing.

        In the book of history it is history's own changes. An amount larger than what is there is cut to it, or
        refused, as the contract does.
        """
        ...

    def observed_order(self, state: State, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """The order that, by the rules, explains a historical liquidation."""
        ...

    def relived(self, state: State, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Sequence[MarketEvent]:
        """What a historical liquidation did that none of the changes beside it says. Changes nothing.

        Raises:
            RulesError: the rules do not explain it.
        """
        return ()


@cache
def _declared() -> frozenset[str]:
    """The members that a protocol may have."""
    return frozenset({*vars(LendingProtocol), *LendingProtocol.__annotations__})
