"""Which logs a credit manager of Gearbox V3.1 needs, from whom, and what its contracts are asked.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/interfaces/ICreditFacadeV3.sol``,
``ICreditConfiguratorV3.sol``, ``IPoolV3.sol``, ``IPoolQuotaKeeperV3.sol``, ``IPriceOracleV3.sol``.

A credit account may call any contract, so that no log of Gearbox tells what it holds: its balances are read at the end
of each block in which it is named, with what the manager stores of it. So is the pool, whose cash no log tells either,
in each block in which it accrued.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from backtest.errors import RulesError
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.interface import RawEvents

MANAGER, CONFIGURATOR, FACADE = "manager", "configurator", "facade"
POOL, QUOTA_KEEPER, PRICE_ORACLE = "pool", "quota_keeper", "price_oracle"
ROLES = (MANAGER, CONFIGURATOR, FACADE, POOL, QUOTA_KEEPER, PRICE_ORACLE)
LEAST_VERSION = 310
"""``version()`` of the first manager in which every token but the underlying counts by its quota."""

_ACCOUNT, _TOKEN = "address indexed creditAccount", "address indexed token"


def _of(emitter: str, name: str, arguments: str) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", emitter)


EVENTS = (
    _of(MANAGER, "SetCreditConfigurator", "address indexed newConfigurator"),
    _of(CONFIGURATOR, "AddCollateralToken", _TOKEN),
    _of(CONFIGURATOR, "SetTokenLiquidationThreshold", f"{_TOKEN}, uint16 liquidationThreshold"),
    _of(
        CONFIGURATOR,
        "ScheduleTokenLiquidationThresholdRamp",
        f"{_TOKEN}, uint16 liquidationThresholdInitial, uint16 liquidationThresholdFinal, uint40 timestampRampStart,"
        " uint40 timestampRampEnd",
    ),
    _of(CONFIGURATOR, "ForbidToken", _TOKEN),
    _of(CONFIGURATOR, "AllowToken", _TOKEN),
    _of(
        CONFIGURATOR,
        "UpdateFees",
        "uint16 feeLiquidation, uint16 liquidationPremium, uint16 feeLiquidationExpired, uint16"
        " liquidationPremiumExpired",
    ),
    _of(CONFIGURATOR, "SetPriceOracle", "address indexed priceOracle"),
    _of(CONFIGURATOR, "SetCreditFacade", "address indexed creditFacade"),
    _of(CONFIGURATOR, "SetBorrowingLimits", "uint256 minDebt, uint256 maxDebt"),
    _of(CONFIGURATOR, "SetExpirationDate", "uint40 expirationDate"),
    _of(
        FACADE,
        "OpenCreditAccount",
        f"{_ACCOUNT}, address indexed onBehalfOf, address indexed caller, uint256 code",
    ),
    _of(FACADE, "CloseCreditAccount", f"{_ACCOUNT}, address indexed borrower"),
    _of(FACADE, "StartMultiCall", f"{_ACCOUNT}, address indexed caller"),
    _of(FACADE, "FinishMultiCall", ""),
    _of(FACADE, "AddCollateral", f"{_ACCOUNT}, {_TOKEN}, uint256 amount"),
    _of(FACADE, "WithdrawCollateral", f"{_ACCOUNT}, {_TOKEN}, uint256 amount, address to"),
    _of(
        FACADE,
        "LiquidateCreditAccount",
        f"{_ACCOUNT}, address indexed liquidator, address to, uint256 remainingFunds",
    ),
    _of(
        FACADE,
        "PartiallyLiquidateCreditAccount",
        f"{_ACCOUNT}, {_TOKEN}, address indexed liquidator, uint256 repaidDebt, uint256 seizedCollateral, uint256 fee",
    ),
    _of(POOL, "Deposit", "address indexed sender, address indexed owner, uint256 assets, uint256 shares"),
    _of(
        POOL,
        "Withdraw",
        "address indexed sender, address indexed receiver, address indexed owner, uint256 assets, uint256 shares",
    ),
    _of(POOL, "Borrow", f"address indexed creditManager, {_ACCOUNT}, uint256 amount"),
    _of(POOL, "Repay", "address indexed creditManager, uint256 borrowedAmount, uint256 profit, uint256 loss"),
    _of(POOL, "SetInterestRateModel", "address indexed newInterestRateModel"),
    _of(POOL, "SetPoolQuotaKeeper", "address indexed newPoolQuotaKeeper"),
    _of(QUOTA_KEEPER, "UpdateQuota", f"{_ACCOUNT}, {_TOKEN}, int96 quotaChange"),
    _of(QUOTA_KEEPER, "UpdateTokenQuotaRate", f"{_TOKEN}, uint16 rate"),
    _of(QUOTA_KEEPER, "AddQuotaToken", _TOKEN),
    _of(QUOTA_KEEPER, "SetTokenLimit", f"{_TOKEN}, uint96 limit"),
    _of(QUOTA_KEEPER, "SetQuotaIncreaseFee", f"{_TOKEN}, uint16 fee"),
    _of(PRICE_ORACLE, "SetPriceFeed", f"{_TOKEN}, address indexed priceFeed, uint32 stalenessPeriod, bool skipCheck"),
)
LIQUIDATIONS = ("LiquidateCreditAccount", "PartiallyLiquidateCreditAccount")
OF_ACCOUNTS = (
    "OpenCreditAccount",
    "CloseCreditAccount",
    "StartMultiCall",
    "AddCollateral",
    "WithdrawCollateral",
    *LIQUIDATIONS,
)
"""Logs that name a credit account of the manager."""
ACCRUING = ("Deposit", "Withdraw", "Borrow", "Repay", "SetInterestRateModel")
"""Logs of calls in which the pool accrues its index."""
_FOUND: Mapping[str, tuple[str, str]] = {
    "SetCreditConfigurator": (CONFIGURATOR, "new_configurator"),
    "SetCreditFacade": (FACADE, "credit_facade"),
    "SetPriceOracle": (PRICE_ORACLE, "price_oracle"),
}

INFO, QUOTA, BALANCE = "creditAccountInfo(address)", "getQuota(address,address)", "balanceOf(address)"
OF_MANAGER = {"fees": "fees()", "underlying": "underlying()", "version": "version()", "oracle": "priceOracle()"}
OF_FACADE = {"limits": "debtLimits()", "expires": "expirationDate()"}
OF_MODEL = {"curve": "getModelParameters()", "forbids": "isBorrowingMoreU2Forbidden()"}
OF_POOL = (
    "baseInterestIndexLU()",
    "baseInterestRate()",
    "lastBaseInterestUpdate()",
    "expectedLiquidityLU()",
    "availableLiquidity()",
    "totalBorrowed()",
    "quotaRevenue()",
)


class PoolRead(NamedTuple):
    """What the pool holds at the end of a block, in the order of ``OF_POOL``."""

    base_index: int
    rate: int
    updated: int
    expected: int
    available: int
    borrowed: int
    revenue: int


class AccountRead(NamedTuple):
    """The first words of ``CreditAccountInfo``; quota interest is stored with one more than it is."""

    debt: int
    debt_index: int
    quota_interest: int
    quota_fees: int


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def text(word: int) -> str:
    """The same of a word."""
    return f"0x{word:040x}"


class Read:
    """All readings: words by block, address and call."""

    def __init__(self, raw: RawEvents) -> None:
        self._known = {
            (row["block_number"], address_text(row["address"]), row["call"]): row["value"]
            for row in raw.table("raw/chain/Reading").to_pylist()
        }

    def words(self, block: int, address: str, function: str, *arguments: int) -> list[int]:
        """What was returned; RulesError where it was not read, or the call gave nothing."""
        call = Reading(block, address, function, arguments).call
        value = self._known.get((block, address, call))
        if not value:
            raise RulesError(
                f"block {block}: {call} of {address} was not read, or gives nothing",
                "fetch the market with a node that has the state of that block: no log tells it",
            )
        return [int.from_bytes(value[at : at + 32], "big") for at in range(0, len(value) - 31, 32)]

    def one(self, block: int, address: str, function: str, *arguments: int) -> int:
        """The first word."""
        return self.words(block, address, function, *arguments)[0]

    def pool(self, block: int, address: str) -> PoolRead:
        """The pool at the end of a block."""
        return PoolRead(*(self.one(block, address, call) for call in OF_POOL))

    def account(self, block: int, manager: str, account: str) -> AccountRead:
        """What the manager stores of an account at the end of a block."""
        words = self.words(block, manager, INFO, int(account, 16))
        return AccountRead(words[0], words[1], max(words[2] - 1, 0), words[3])


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a manager begins, and what it was made with; fees in basis points. Addresses are 0x text."""

    block_number: int
    log_index: int
    manager: str
    underlying: str
    oracle: str
    fees: tuple[int, int, int, int, int]
    """``fees()``: of interest, of a liquidation, its discount, the same two of expired accounts."""


def made(raw: RawEvents) -> Origin | None:
    """None before the manager has a configurator, or while what it was made with is not read yet.

    Raises:
        RulesError: the manager is of another version than V3.1.
    """
    rows = raw.table("SetCreditConfigurator").slice(0, 1).to_pylist()
    if not rows:
        return None
    block, manager, read = rows[0]["block_number"], address_text(rows[0]["address"]), Read(raw)
    try:
        fees = read.words(block, manager, OF_MANAGER["fees"])
        underlying, version, oracle = (
            read.one(block, manager, OF_MANAGER[name]) for name in ("underlying", "version", "oracle")
        )
    except RulesError:  # asked for first
        return None
    if version < LEAST_VERSION or len(fees) < 5:
        raise RulesError(
            f"the credit manager {manager} is of version {version}: only Gearbox V3.1 (310 on) is supported, since"
            " before it no log tells which tokens an account counts",
            "choose a manager of V3.1",
        )
    return Origin(
        block, rows[0]["log_index"], manager, text(underlying), text(oracle),
        (fees[0], fees[1], fees[2], fees[3], fees[4]),
    )  # fmt: skip


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """Configurators, facades and oracles that took over."""
    found = {role: set(addresses) for role, addresses in contracts.items()}
    for event, (role, column) in _FOUND.items():
        found.setdefault(role, set()).update(map(address_text, raw.table(event)[column].to_pylist()))
    return {role: frozenset(addresses) for role, addresses in found.items()}


def tokens(raw: RawEvents) -> list[str]:
    """The underlying, then collateral in the order in which it was added."""
    market = made(raw)
    if market is None:
        return []
    added = map(address_text, raw.table("AddCollateralToken")["token"].to_pylist())
    return list(dict.fromkeys((market.underlying, *added)))


def own_tokens(raw: RawEvents) -> dict[str, list[tuple[int, str]]]:
    """Of each credit account the tokens that a log names with it, with the block of the first."""
    found: dict[str, dict[str, int]] = {}
    for event in ("UpdateQuota", "AddCollateral", "WithdrawCollateral", "PartiallyLiquidateCreditAccount"):
        table = raw.table(event)
        columns = (table[name].to_pylist() for name in ("block_number", "credit_account", "token"))
        for block, account, token in zip(*columns, strict=True):
            held = found.setdefault(address_text(account), {})
            held[address_text(token)] = min(block, held.get(address_text(token), block))
    return {account: sorted((block, token) for token, block in held.items()) for account, held in found.items()}


def named(raw: RawEvents) -> dict[str, set[int]]:
    """Credit accounts and the blocks in which a log of the facade names them."""
    found: dict[str, set[int]] = {}
    for event in OF_ACCOUNTS:
        table = raw.table(event)
        for block, account in zip(table["block_number"].to_pylist(), table["credit_account"].to_pylist(), strict=True):
            found.setdefault(address_text(account), set()).add(block)
    return found


def readings(raw: RawEvents) -> Iterator[Reading]:
    """See the module; what the manager, each facade and each interest rate model were made with comes first."""
    for row in raw.table("SetCreditConfigurator").slice(0, 1).to_pylist():
        for call in OF_MANAGER.values():
            yield Reading(row["block_number"], address_text(row["address"]), call)
    for row in raw.table("SetCreditFacade").to_pylist():
        for call in OF_FACADE.values():
            yield Reading(row["block_number"], address_text(row["credit_facade"]), call)
    for row in raw.table("SetInterestRateModel").to_pylist():
        for call in OF_MODEL.values():
            yield Reading(row["block_number"], address_text(row["new_interest_rate_model"]), call)
    pools: dict[int, str] = {}
    for event in ACCRUING:
        table = raw.table(event)
        for block, address in zip(table["block_number"].to_pylist(), table["address"].to_pylist(), strict=True):
            pools[block] = address_text(address)
    for block, address in sorted(pools.items()):
        for call in OF_POOL:
            yield Reading(block, address, call)
    market = made(raw)
    if market is None:
        return
    keeper = next((address_text(row["address"]) for row in raw.table("AddQuotaToken").slice(0, 1).to_pylist()), None)
    listed, held = set(tokens(raw)), own_tokens(raw)
    for account, blocks in sorted(named(raw).items()):
        for block in sorted(blocks):
            who = int(account, 16)
            yield Reading(block, market.manager, INFO, (who,))
            yield Reading(block, market.underlying, BALANCE, (who,))
            for since, token in held.get(account, ()):
                if since <= block and token in listed and token != market.underlying and keeper is not None:
                    yield Reading(block, token, BALANCE, (who,))
                    yield Reading(block, keeper, QUOTA, (who, int(token, 16)))


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The feeds of the market's tokens in the oracle then in force; the oracle is asked for their prices
    (PriceOracleV3.getPrice).
    """
    market = made(raw)
    if market is None:
        return []
    listed = tokens(raw)
    steps = [
        (row["block_number"], row["log_index"], event, row)
        for event in ("SetPriceFeed", "SetPriceOracle")
        for row in raw.table(event).to_pylist()
    ]
    steps.append((market.block_number, market.log_index, "", {"price_oracle": bytes.fromhex(market.oracle[2:])}))
    feeds: dict[tuple[str, str], str] = {}
    oracle, found = "", list[SourceChange]()
    for block, log, event, row in sorted(steps, key=lambda step: step[:2]):
        if event == "SetPriceFeed":
            emitter, token = address_text(row["address"]), address_text(row["token"])
            feeds[emitter, token] = address_text(row["price_feed"])
            changed = [token] if emitter == oracle and token in listed else []
        else:
            oracle = address_text(row["price_oracle"])
            changed = [token for token in listed if (oracle, token) in feeds]
        found += [
            SourceChange(block, log, token, feeds[oracle, token], oracle, getter="getPrice(address)")
            for token in changed
        ]
    return found


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")
