"""Which logs a Liquity V1 system needs, and from whom.

Source: liquity/dev at 5174ecd0, ``packages/contracts/contracts/TroveManager.sol`` (``setAddresses`` names the other
contracts, once and for all), ``BorrowerOperations.sol``, ``StabilityPool.sol``, ``PriceFeed.sol``. Terms are constants
of the code: no log and no call can change them.
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.errors import RulesError
from backtest.model import Constant, EventSpec, SourceChange
from backtest.protocols.interface import RawEvents
from backtest.units import WAD

MANAGER, BORROWING, STABILITY, FEED = "trove_manager", "borrower_operations", "stability_pool", "price_feed"
ACTIVE = "active_pool"
"""Roles of the contracts; a market names the first."""
ETHER = "0x" + "ee" * 20
"""What stands for ether, which has no contract."""
AGGREGATOR = "priceAggregator"
FEED_TIMES = 10**10
"""Chainlink's price of ether has 8 decimals (PriceFeed._scaleChainlinkPriceByDigits)."""


def _of(role: str, name: str, arguments: str, event: str | None = None) -> EventSpec:
    return EventSpec(name, f"{event or name}({arguments})", role)


_TROVE = "address indexed borrower, uint256 debt, uint256 coll, uint256 stake, uint8 operation"
EVENTS = (
    _of(MANAGER, "BorrowerOperationsAddressChanged", "address target"),
    _of(MANAGER, "ActivePoolAddressChanged", "address target"),
    _of(MANAGER, "StabilityPoolAddressChanged", "address target"),
    _of(MANAGER, "DefaultPoolAddressChanged", "address target"),
    _of(MANAGER, "PriceFeedAddressChanged", "address target"),
    _of(MANAGER, "LUSDTokenAddressChanged", "address target"),
    _of(MANAGER, "TroveUpdated", _TROVE),
    _of(MANAGER, "TroveLiquidated", "address indexed borrower, uint256 debt, uint256 coll, uint8 operation"),
    _of(MANAGER, "Liquidation", "uint256 debt, uint256 coll, uint256 gas_coll, uint256 gas_debt"),
    _of(MANAGER, "Redemption", "uint256 attempted, uint256 redeemed, uint256 coll, uint256 fee"),
    _of(MANAGER, "BaseRateUpdated", "uint256 rate"),
    _of(MANAGER, "LastFeeOpTimeUpdated", "uint256 time"),
    _of(MANAGER, "TotalStakesUpdated", "uint256 stakes"),
    _of(MANAGER, "SystemSnapshotsUpdated", "uint256 stakes, uint256 colls"),
    _of(MANAGER, "LTermsUpdated", "uint256 coll_sum, uint256 debt_sum"),
    _of(BORROWING, "TroveAdjusted", _TROVE, "TroveUpdated"),
    _of(BORROWING, "LUSDBorrowingFeePaid", "address indexed borrower, uint256 fee"),
    _of(STABILITY, "StabilityPoolLUSDBalanceUpdated", "uint256 balance"),
    _of(STABILITY, "UserDepositChanged", "address indexed depositor, uint256 deposit"),
    _of(STABILITY, "ETHGainWithdrawn", "address indexed depositor, uint256 gain, uint256 loss"),
    _of(STABILITY, "P_Updated", "uint256 product"),
    EventSpec("S_Updated", "S_Updated(uint256 sum, uint128 epoch, uint128 scale)", STABILITY, frozenset({"sum"})),
    _of(ACTIVE, "EtherSent", "address target, uint256 amount"),
    _of(FEED, "LastGoodPriceUpdated", "uint256 price"),
    _of(FEED, "PriceFeedStatusChanged", "uint8 status"),
)
_NAMED = {
    BORROWING: "BorrowerOperationsAddressChanged",
    STABILITY: "StabilityPoolAddressChanged",
    FEED: "PriceFeedAddressChanged",
    ACTIVE: "ActivePoolAddressChanged",
}


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def named(raw: RawEvents, event: str) -> str | None:
    """The address that ``setAddresses`` named."""
    found = raw.table(event)["target"].to_pylist()
    return address_text(found[0]) if found else None


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """The contracts that the trove manager named. See ``LendingProtocol.discover``."""
    found = {role: named(raw, event) for role, event in _NAMED.items()}
    return {
        **contracts,
        **{role: contracts.get(role, frozenset()) | {address} for role, address in found.items() if address},
    }


def constants(raw: RawEvents) -> list[Constant]:
    """Which Chainlink feed the price feed reads."""
    feed = named(raw, "PriceFeedAddressChanged")
    return [Constant(feed, AGGREGATOR, contract=True)] if feed else []


def tokens(raw: RawEvents) -> list[str]:
    """LUSD: ether has no contract."""
    token = named(raw, "LUSDTokenAddressChanged")
    return [token] if token else []


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """Ether's price is Chainlink's, as long as the price feed trusts it (the fold asks); an LUSD counts as a dollar."""
    token = named(raw, "LUSDTokenAddressChanged")
    rows = raw.table("raw/chain/Reference").to_pylist()
    source = next((row["target"] for row in rows if row["name"] == AGGREGATOR and row["target"]), None)
    if token is None or source is None:
        return []
    row = raw.table("PriceFeedAddressChanged").to_pylist()[0]
    place, feed = (row["block_number"], row["log_index"]), address_text(source)
    return [
        SourceChange(*place, ETHER, feed, feed, getter="latestAnswer()", times=FEED_TIMES),
        SourceChange(*place, token, "0x" + "00" * 20, feed, fixed=WAD),
    ]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")
