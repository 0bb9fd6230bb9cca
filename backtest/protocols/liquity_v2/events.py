"""Which logs a branch of Liquity V2 needs, and from whom.

Source: liquity/bold at b40fa9b9, ``contracts/src/AddressesRegistry.sol`` (``setAddresses`` names the other contracts,
once and for all, and terms are its immutables), ``Interfaces/ITroveEvents.sol``, ``IStabilityPoolEvents.sol``,
``BorrowerOperations.sol``, ``PriceFeeds/MainnetPriceFeedBase.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.errors import RulesError
from backtest.model import Constant, EventSpec, SourceChange
from backtest.protocols.interface import RawEvents
from backtest.units import WAD

REGISTRY, MANAGER, BORROWING, STABILITY, FEED = (
    "addresses_registry", "trove_manager", "borrower_operations", "stability_pool", "price_feed",
)  # fmt: skip
ACTIVE = "active_pool"
"""Roles of the contracts; a market names the first."""
TERMS = {
    "MCR": "liquidation_ratio",
    "CCR": "critical_ratio",
    "SCR": "shutdown_ratio",
    "BCR": "batch_margin",
    "LIQUIDATION_PENALTY_SP": "liquidation_penalty",
    "LIQUIDATION_PENALTY_REDISTRIBUTION": "redistribution_penalty",
}
"""Immutables of the registry, and the parameters that they are; penalties are stored with one added."""
ORACLE = "ethUsdOracle"
"""MainnetPriceFeedBase: the first word of what it returns is the Chainlink feed of ether."""
FEED_TIMES = 10**10
"""Chainlink's price of ether has 8 decimals (MainnetPriceFeedBase asserts it)."""


def _of(role: str, name: str, arguments: str, *wide: str) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", role, frozenset(wide))


_NAMED = {
    "TroveManagerAddressChanged": MANAGER,
    "BorrowerOperationsAddressChanged": BORROWING,
    "StabilityPoolAddressChanged": STABILITY,
    "ActivePoolAddressChanged": ACTIVE,
    "PriceFeedAddressChanged": FEED,
    "DefaultPoolAddressChanged": None,
    "CollSurplusPoolAddressChanged": None,
    "CollTokenAddressChanged": None,
    "BoldTokenAddressChanged": None,
    "WETHAddressChanged": None,
}
EVENTS = (
    *(_of(REGISTRY, event, "address target") for event in _NAMED),
    _of(
        MANAGER, "TroveUpdated",
        "uint256 indexed trove, uint256 debt, uint256 coll, uint256 stake, uint256 rate, uint256 coll_sum,"
        " uint256 debt_sum",
        "trove",
    ),
    _of(
        MANAGER, "BatchedTroveUpdated",
        "uint256 indexed trove, address manager, uint256 shares, uint256 coll, uint256 stake, uint256 coll_sum,"
        " uint256 debt_sum",
        "trove",
    ),
    _of(
        MANAGER, "TroveOperation",
        "uint256 indexed trove, uint8 operation, uint256 rate, uint256 debt_shared, uint256 fee, int256 by_debt,"
        " uint256 coll_shared, int256 by_coll",
        "trove",
    ),
    _of(
        MANAGER, "BatchUpdated",
        "address indexed manager, uint8 operation, uint256 debt, uint256 coll, uint256 rate, uint256 management_fee,"
        " uint256 shares, uint256 fee",
    ),
    _of(MANAGER, "RedemptionFeePaidToTrove", "uint256 indexed trove, uint256 fee", "trove"),
    _of(
        MANAGER, "Liquidation",
        "uint256 offset, uint256 debt, uint256 gas_ether, uint256 gas_coll, uint256 to_pool, uint256 coll,"
        " uint256 surplus, uint256 coll_sum, uint256 debt_sum, uint256 price",
    ),
    _of(
        MANAGER, "Redemption",
        "uint256 attempted, uint256 redeemed, uint256 coll, uint256 fee, uint256 price, uint256 paid_at",
    ),
    _of(BORROWING, "ShutDown", "uint256 ratio"),
    _of(FEED, "ShutDownFromOracleFailure", "address failed"),
    _of(
        STABILITY, "DepositOperation",
        "address indexed depositor, uint8 operation, uint256 loss, int256 moved, uint256 yielded,"
        " uint256 yield_claimed, uint256 gain, uint256 gain_claimed",
    ),
    _of(
        STABILITY, "DepositUpdated",
        "address indexed depositor, uint256 deposit, uint256 stashed, uint256 product, uint256 gains, uint256 yields,"
        " uint256 scale",
        "gains", "yields",
    ),
    _of(STABILITY, "StabilityPoolBoldBalanceUpdated", "uint256 balance"),
    _of(STABILITY, "StabilityPoolCollBalanceUpdated", "uint256 balance"),
    _of(STABILITY, "P_Updated", "uint256 product"),
    _of(STABILITY, "S_Updated", "uint256 sum, uint256 scale", "sum"),
    _of(STABILITY, "B_Updated", "uint256 sum, uint256 scale", "sum"),
    _of(ACTIVE, "ActivePoolCollBalanceUpdated", "uint256 balance"),
)  # fmt: skip


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def named(raw: RawEvents, event: str) -> str | None:
    """The address that ``setAddresses`` named."""
    found = raw.table(event)["target"].to_pylist()
    return address_text(found[0]) if found else None


def registry(raw: RawEvents) -> str | None:
    """The registry itself."""
    found = raw.table("TroveManagerAddressChanged")["address"].to_pylist()
    return address_text(found[0]) if found else None


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """The contracts that the registry named. See ``LendingProtocol.discover``."""
    found = {role: named(raw, event) for event, role in _NAMED.items() if role is not None}
    return {
        **contracts,
        **{role: contracts.get(role, frozenset()) | {address} for role, address in found.items() if address},
    }


def of_ether(raw: RawEvents) -> bool:
    """Whether the branch's collateral is WETH."""
    collateral = named(raw, "CollTokenAddressChanged")
    return collateral is not None and collateral == named(raw, "WETHAddressChanged")


def constants(raw: RawEvents) -> list[Constant]:
    """The branch's terms, and where its collateral is WETH the Chainlink feed that the price feed reads."""
    at, feed = registry(raw), named(raw, "PriceFeedAddressChanged")
    if at is None or feed is None:
        return []
    found = [Constant(at, getter) for getter in TERMS]
    return [*found, Constant(feed, ORACLE, contract=True)] if of_ether(raw) else found


def terms(raw: RawEvents) -> dict[str, int]:
    """The branch's parameters; RulesError where one was not read."""
    told = {row["name"]: row["value"] for row in raw.table("raw/chain/Constant").to_pylist()}
    found = {}
    for getter, name in TERMS.items():
        if told.get(getter) is None:
            raise RulesError(f"nothing says {getter} of the branch", "run the fetch again: it reads what is missing")
        found[name] = int(told[getter]) + (WAD if name.endswith("penalty") else 0)
    return found


def tokens(raw: RawEvents) -> list[str]:
    """The branch's collateral and BOLD."""
    found = named(raw, "CollTokenAddressChanged"), named(raw, "BoldTokenAddressChanged")
    return [each for each in found if each]


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """WETH's price is Chainlink's of ether; that of another collateral is asked of the price feed as a call of a
    liquidator asks it. A BOLD counts as a dollar.
    """
    collateral, bold = named(raw, "CollTokenAddressChanged"), named(raw, "BoldTokenAddressChanged")
    feed = named(raw, "PriceFeedAddressChanged")
    if collateral is None or bold is None or feed is None:
        return []
    row = raw.table("PriceFeedAddressChanged").to_pylist()[0]
    place = row["block_number"], row["log_index"]
    unit = SourceChange(*place, bold, "0x" + "00" * 20, feed, fixed=WAD)
    if not of_ether(raw):
        return [SourceChange(*place, collateral, feed, feed, getter="fetchPrice()"), unit]
    rows = raw.table("raw/chain/Reference").to_pylist()
    source = next((each["target"] for each in rows if each["name"] == ORACLE and each["target"]), None)
    if source is None:
        return []
    read = address_text(source)
    return [SourceChange(*place, collateral, read, read, getter="latestAnswer()", times=FEED_TIMES), unit]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")
