"""The vocabulary shared by every protocol: frozen values, no I/O, no behaviour beyond naming things.

Amounts are Python integers in the token's own decimals ("native units"); *scaled* amounts are what a protocol stores
(native units divided by an index). An account and an asset are named by the dense ids that reconstruction gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NewType

from backtest.errors import ScenarioError

AccountId = NewType("AccountId", int)
AssetId = NewType("AssetId", int)
PoolId = NewType("PoolId", int)

Side = Literal["collateral", "debt"]
AUTHORIZE = "authorize"
"""The action of an owner who lets somebody act for it, or no longer: it raises no risk, and nothing checks its health.
"""


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset of one market. ``asset`` is the lower-case 0x address; ``decimals`` are the token's."""

    id: AssetId
    asset: str
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool in which tokens of a market are traded, as far as it never changes. Addresses are lower-case 0x text.

    Attributes:
        kind: whose rules it follows: ``uniswap-v3``.
        tokens: addresses of token 0 and token 1, with their ``decimals``; ``assets``: which assets of the market they
            are, None: none.
        fee: parts of a million of what is put in.
        spacing: ticks between two that may be initialized.
        prices: address of the token whose market price this pool tells, and that is sold into it.
    """

    id: PoolId
    address: str
    kind: str
    tokens: tuple[str, str]
    decimals: tuple[int, int]
    assets: tuple[AssetId | None, AssetId | None]
    fee: int
    spacing: int
    prices: str

    @property
    def quote(self) -> int:
        """Which of its tokens, 0 or 1, the other one is priced in."""
        return 1 - self.tokens.index(self.prices)


# --------------------------------------------------------------------------------------------------------------------
# Raw events: what a protocol declares, what a fetcher decodes.


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event that a protocol needs.

    Attributes:
        name: dataset name, unique within the protocol (an overloaded event gets a name of its own).
        signature: as in Solidity with ``indexed`` and argument names, for example
            ``"Supply(address indexed reserve, address user, uint256 amount)"``.
        emitter: the role of the emitting contract within a market (``pool``, ``token``, ``feed``, ...).
        wide: arguments stored as 32 big-endian bytes because they may need more than 38 digits; all other 256-bit
            integers become DECIMAL(38, 0), and a log that does not fit is quarantined.
        key: where one contract emits for many markets, the name of the market's parameter (``MarketConfig.parameters``)
            whose value the first indexed argument has; only such logs are asked for. All events of an emitter have the
            same key.
        note: an anonymous log of a call (``LogNote``), whose ``signature`` is the function's: its first topic is the
            selector at the left of the word, its data are the call data. "arguments": the other topics are the first
            three arguments; "sender": they are the caller and the first two arguments, and the dataset has the caller
            as its first own column, ``sender``.
    """

    name: str
    signature: str
    emitter: str
    wide: frozenset[str] = frozenset()
    key: str | None = None
    note: Literal["arguments", "sender"] | None = None


@dataclass(frozen=True, slots=True)
class SourceChange:
    """From this log on, ``oracle`` (the market's oracle then in force) takes the price of ``asset`` from ``source``.

    Addresses are lower-case 0x text; ``source`` is the zero address where the asset has none. A new oracle for the
    market gives one change per asset that it prices, at the log that made it the market's.

    ``getter``: how the oracle is asked; a signature without arguments asks the oracle for its one price. ``fixed``: the
    price by definition (the market's own unit of account): nothing is asked. ``others``: sources of fallback oracles,
    asked in this order where the one before has no answer above zero; ``untold``: after all of them an oracle is asked
    whose sources no log tells. ``about``: the address that a getter of one address is asked with, where that is not the
    asset's; ``arguments``: the words that a getter of several arguments is asked with; ``place``: which word of its
    answer is the price. ``times``: what the oracle says, times this, is the price in the market's ``price_decimals``.
    """

    block_number: int
    log_index: int
    asset: str
    source: str
    oracle: str
    getter: str = "getAssetPrice(address)"
    fixed: int | None = None
    others: tuple[str, ...] = ()
    untold: bool = False
    about: str | None = None
    times: int = 1
    arguments: tuple[int, ...] = ()
    place: int = 0


@dataclass(frozen=True, slots=True)
class Deployment:
    """Code that a proxy runs from a position on, whose revision a fetcher must read (``raw/chain/Revision``).

    ``implementation`` is None where no log names it (a token as it was listed): then it is what the proxy's EIP-1967
    slot holds at the end of ``block_number``. ``getter`` is the name of the constant, for example POOL_REVISION.
    """

    proxy: str
    implementation: str | None
    getter: str
    block_number: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A view without arguments of a contract that never changes, which a fetcher must read (``raw/chain/Constant``).

    ``contract``: it returns the address of another contract (``raw/chain/Reference``).
    """

    address: str
    getter: str
    contract: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A view that no log tells and that may change, which a fetcher must read at the end of a block
    (``raw/chain/Reading``).

    ``function`` is its signature, ``getAssetInfo(uint8)``; ``arguments`` are words, negative ones modulo 2^256.
    """

    block_number: int
    address: str
    function: str
    arguments: tuple[int, ...] = ()

    @property
    def call(self) -> str:
        """The function with its arguments, as it is stored: ``getAssetInfo(uint8) 3``."""
        return " ".join((self.function, *map(str, self.arguments)))


# --------------------------------------------------------------------------------------------------------------------
# Canonical events, in the order of ``seq``: what reconstruction produces and replay consumes.


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at (block, log index). ``seq`` is dense within a market; ``timestamp`` is the block's, in
    seconds.
    """

    seq: int
    block_number: int
    log_index: int
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChange(Event):
    """``delta`` scaled units were added to (or, negative, taken from) one side of an account.

    ``action`` is what the user did (supply, withdraw, borrow, repay, transfer, liquidation, treasury); all changes of
    one action share ``action_seq``, the seq of the event that closes it. ``amount`` is what the call moved in native
    units, not negative; None where history does not say.
    """

    account: AccountId
    asset: AssetId
    side: Side
    delta: int
    action: str
    action_seq: int
    amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange(Event):
    """An account's own setting: ``collateral_enabled`` (per asset, 0 or 1) or ``emode`` (category id)."""

    account: AccountId
    setting: str
    asset: AssetId | None
    value: int
    action: str
    action_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUpdate(Event):
    """Stored indexes (ray) and yearly rates (ray) of one asset as of this event's timestamp."""

    asset: AssetId
    supply_index: int
    borrow_index: int
    supply_rate: int
    borrow_rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceUpdate(Event):
    """The oracle price of one asset from here on, base currency per whole token with ``Market.price_decimals``
    decimals; None where the oracle would revert.
    """

    asset: AssetId
    price: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPrice(Event):
    """What one asset trades at from here on, in the units of ``PriceUpdate``; None where it is not known any more."""

    asset: AssetId
    price: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChange(Event):
    """Something that happened to a pool, or the sum of what had happened to it before a market's history begins.

    With ``sqrt_price`` (X96) it is where a swap or the initialization left the pool: at ``tick``, with ``liquidity``
    active. Without, ``liquidity`` was added to (or, negative, taken from) the range of ticks from ``tick`` up to below
    ``upper``.
    """

    pool: PoolId
    tick: int
    liquidity: int
    upper: int | None = None
    sqrt_price: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamChange(Event):
    """A parameter took ``value``. ``asset`` and ``category`` say of what; both None: of the market as a whole."""

    name: str
    value: int
    asset: AssetId | None = None
    category: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoricalLiquidation(Event):
    """A liquidation that happened: the external facts (who, which pair, how much) that an ``observed`` replay
    re-enacts.

    ``repaid`` and ``seized`` are native units; ``seized`` is what the liquidator got, ``protocol_fee`` what the
    treasury got. ``debt_scaled`` is what was repaid as the protocol stores it, where its log says so.
    """

    account: AccountId
    liquidator: AccountId
    debt_asset: AssetId
    collateral_asset: AssetId
    repaid: int
    seized: int
    protocol_fee: int
    receive_collateral_token: bool
    deficits: tuple[tuple[AssetId, int], ...] = ()
    debt_scaled: int | None = None


MarketEvent = (
    PositionChange
    | SettingChange
    | IndexUpdate
    | PriceUpdate
    | MarketPrice
    | PoolChange
    | ParamChange
    | HistoricalLiquidation
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What is fixed about a market: its name, protocol, chain, and assets and pools (dense by id).

    Values are in base units, 10^-``base_decimals`` of the base currency; prices may have more decimals,
    ``price_decimals`` (None: the same).
    """

    name: str
    protocol: str
    chain_id: int
    assets: tuple[Asset, ...]
    accounts: tuple[str, ...]
    base_decimals: int = 8
    price_decimals: int | None = None
    pools: tuple[Pool, ...] = ()

    def unit(self, asset: AssetId) -> int:
        """Native units times a price are this many times their value in base units: one whole token, and what the price
        has more decimals.
        """
        more = 0 if self.price_decimals is None else self.price_decimals - self.base_decimals
        return int(10 ** (self.assets[asset].decimals + more))

    def with_account(self, account: str) -> Market:
        """The market with one account more, whose id is the next."""
        return replace(self, accounts=(*self.accounts, account))

    def asset_named(self, text: str) -> Asset | None:
        """The asset with this symbol or address, in any case of letters, or None. ScenarioError, which names the
        addresses, for a symbol that several assets have.
        """
        wanted = text.lower()
        found = [asset for asset in self.assets if wanted in (asset.asset, asset.symbol.lower())]
        if len(found) > 1:
            raise ScenarioError(
                f"{len(found)} assets of market {self.name} have the symbol '{found[0].symbol}'",
                f"give the address: {' or '.join(asset.asset for asset in found)}",
            )
        return found[0] if found else None

    def label(self, asset: AssetId) -> str:
        """What an asset is called where it is shown: its symbol, with the ends of its address where another has the
        same. SQL's is ``assets.label``.
        """
        own = self.assets[asset]
        alike = sum(other.symbol.lower() == own.symbol.lower() for other in self.assets)
        return own.symbol if alike == 1 else f"{own.symbol} ({own.asset[:6]}…{own.asset[-4:]})"

    def name_of(self, text: str) -> str:
        """The one name of an asset given by symbol or address, of ``names``; what is unknown stays as it is."""
        found = self.asset_named(text)
        return text if found is None else self.names[found.id]

    @property
    def names(self) -> list[str]:
        """What a scenario may call the assets, in order: their symbols, or the address where several have one."""
        symbols = [asset.symbol.lower() for asset in self.assets]
        return [asset.symbol if symbols.count(asset.symbol.lower()) == 1 else asset.asset for asset in self.assets]


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a replay stands: ordering runs on (block, log index), interest and auctions on the timestamp (seconds)."""

    block_number: int
    log_index: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class Prices:
    """The three prices of every asset, base currency per whole token with ``Market.price_decimals`` decimals.

    ``oracle`` decides who may be liquidated, ``market`` values what is at stake, ``execution`` is what a liquidator
    receives per whole token of a small amount (``Book.sale_down`` says what a large one brings). An asset without a
    market price has the oracle's for all three: an assumption that results state.
    """

    oracle: Mapping[AssetId, int]
    market: Mapping[AssetId, int]
    execution: Mapping[AssetId, int]
