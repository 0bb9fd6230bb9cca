"""Which logs a Compound V2 market needs, and from whom.

Sources: compound-finance/compound-protocol, ``contracts/CTokenInterfaces.sol``, ``contracts/Comptroller.sol``,
``contracts/SimplePriceOracle.sol``; VenusProtocol/venus-protocol 0.7.0,
``contracts/Tokens/VTokens/VTokenInterfaces.sol`` (``MintBehalf``, ``RedeemFee``); Benqi-fi/BENQI-Smart-Contracts,
``lending/QiTokenInterfaces.sol`` (``NewProtocolSeizeShare``). The Comptroller logs at its proxy, the Unitroller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backtest.errors import RulesError, UserError
from backtest.model import Constant, EventSpec, SourceChange
from backtest.protocols.compound_v2.math import CUT, DEPRECATING, HALF_UP
from backtest.protocols.interface import RawEvents

ZERO_ADDRESS = "0x" + "00" * 20
PRICE_DECIMALS = 36
BASE_DECIMALS = 18
COIN_DECIMALS = 18
"""Decimals of the chain's own coin, which a cToken without an underlying token lends."""
UNDERLYING, SEIZE_SHARE = "underlying", "protocolSeizeShareMantissa"

# networks/mainnet.json: StdComptroller, StdComptroller_2_6, StdComptrollerG2 to StdComptrollerG5, all with Exponential.
ROUNDING_IMPLEMENTATIONS = frozenset(
    {
        "0x62f18c451af964197341d3c86d27e98c41bb8fcc",
        "0x97bd4cc841fc999194174cd1803c543247a014fe",
        "0xf592ef673057a451c49c9433e278c5d59b56132c",
        "0x9d0a0443ff4bb04391655b8cd205683d9fa75550",
        "0xaf601cbff871d0be62d18f79c31e387c76fa0374",
        "0x7b5e3521a049c8ff88e6349f33044c6cc33c113c",
    }
)


def _ctoken(name: str, arguments: str, event: str | None = None) -> EventSpec:
    return EventSpec(name, f"{event or name}({arguments})", "ctoken")


def _comptroller(name: str, arguments: str, event: str | None = None) -> EventSpec:
    return EventSpec(name, f"{event or name}({arguments})", "comptroller")


_CHANGED = "uint256 before, uint256 after"
_TOTALS = "uint256 accountBorrows, uint256 totalBorrows"

EVENTS: tuple[EventSpec, ...] = (
    _ctoken("AccrueInterest", "uint256 cashPrior, uint256 interest, uint256 borrowIndex, uint256 totalBorrows"),
    _ctoken(
        "AccrueInterestWithoutCash", "uint256 interest, uint256 borrowIndex, uint256 totalBorrows", "AccrueInterest"
    ),
    _ctoken("Mint", "address minter, uint256 amount, uint256 tokens"),
    _ctoken("MintBehalf", "address payer, address receiver, uint256 amount, uint256 tokens"),
    _ctoken("Redeem", "address redeemer, uint256 amount, uint256 tokens"),
    _ctoken("RedeemFee", "address redeemer, uint256 amount, uint256 tokens"),
    _ctoken("Borrow", f"address borrower, uint256 amount, {_TOTALS}"),
    _ctoken("RepayBorrow", f"address payer, address borrower, uint256 amount, {_TOTALS}"),
    _ctoken(
        "LiquidateBorrow", "address liquidator, address borrower, uint256 amount, address collateral, uint256 tokens"
    ),
    _ctoken("Transfer", "address indexed source, address indexed destination, uint256 tokens"),
    _ctoken("ReservesAdded", "address benefactor, uint256 amount, uint256 totalReserves"),
    _ctoken("ReservesReduced", "address admin, uint256 amount, uint256 totalReserves"),
    _ctoken("NewReserveFactor", _CHANGED),
    _ctoken("NewProtocolSeizeShare", _CHANGED),
    _ctoken("NewMarketInterestRateModel", "address before, address after"),
    _ctoken("NewImplementation", "address before, address after"),
    _comptroller("MarketListed", "address ctoken"),
    _comptroller("MarketEntered", "address ctoken, address account"),
    _comptroller("MarketExited", "address ctoken, address account"),
    _comptroller("NewCloseFactor", _CHANGED),
    _comptroller("NewCollateralFactor", f"address ctoken, {_CHANGED}"),
    _comptroller("NewLiquidationIncentive", _CHANGED),
    _comptroller("NewPriceOracle", "address before, address after"),
    _comptroller("NewBorrowCap", "address indexed ctoken, uint256 cap"),
    _comptroller("ActionPaused", "string action, bool paused"),
    _comptroller("MarketActionPaused", "address ctoken, string action, bool paused", "ActionPaused"),
    _comptroller("ComptrollerImplementation", "address before, address after", "NewImplementation"),
    _comptroller("NewVAIController", "address before, address after"),
    EventSpec(
        "PricePosted",
        "PricePosted(address token, uint256 before, uint256 requested, uint256 price)",
        "oracle",
        frozenset({"before", "requested", "price"}),
    ),
    EventSpec(
        "NewInterestParams", "NewInterestParams(uint256 base, uint256 slope, uint256 jump, uint256 kink)", "model"
    ),
    EventSpec("NewStraightInterestParams", "NewInterestParams(uint256 base, uint256 slope)", "model"),
)


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def _named(raw: RawEvents, event: str, column: str) -> frozenset[str]:
    return frozenset(map(address_text, raw.table(event)[column].to_pylist())) - {ZERO_ADDRESS}


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """The cTokens that were listed, their rate models, and the oracles. See ``LendingProtocol.discover``."""
    found = {
        "ctoken": _named(raw, "MarketListed", "ctoken"),
        "oracle": _named(raw, "NewPriceOracle", "after"),
        "model": _named(raw, "NewMarketInterestRateModel", "after"),
    }
    return {**contracts, **{role: contracts.get(role, frozenset()) | new for role, new in found.items()}}


def listed(raw: RawEvents) -> list[str]:
    """The cTokens in the order of their listing: a market's asset ids."""
    rows = raw.table("MarketListed")["ctoken"].to_pylist()
    return list(dict.fromkeys(map(address_text, rows)))


def constants(raw: RawEvents) -> list[Constant]:
    """Of every cToken its underlying token, and of its code the share of what is seized that reserves keep."""
    code = [address_text(row) for row in raw.table("NewImplementation")["after"].to_pylist()]
    ours = listed(raw)
    shares = [Constant(address, SEIZE_SHARE) for address in dict.fromkeys([*ours, *code]) if address != ZERO_ADDRESS]
    return [*(Constant(ctoken, UNDERLYING, contract=True) for ctoken in ours), *shares]


def seize_shares(raw: RawEvents) -> dict[str, int]:
    """What ``SEIZE_SHARE`` says of code and of cTokens, mantissa; those before 2.9 have none."""
    rows = raw.table("raw/chain/Constant").to_pylist()
    found = {address_text(row["address"]): row["value"] for row in rows if row["name"] == SEIZE_SHARE}
    return {address: int(value) for address, value in found.items() if value is not None}


def underlyings(raw: RawEvents) -> dict[str, str | None]:
    """cToken to the token that it lends, None for the chain's coin; RulesError where it was not read."""
    rows = raw.table("raw/chain/Reference").to_pylist()
    named = {address_text(row["address"]): row["target"] for row in rows if row["name"] == UNDERLYING}
    found: dict[str, str | None] = {}
    for ctoken in listed(raw):
        if ctoken not in named:
            raise RulesError(
                f"nothing says which token {ctoken} lends", "run the fetch again: it reads what is missing"
            )
        target = named[ctoken]
        found[ctoken] = None if target is None else address_text(target)
    return found


def tokens(raw: RawEvents) -> list[str]:
    """The tokens that are lent; of a cToken that lends the chain's coin the cToken itself, for its symbol."""
    known = {address_text(row["address"]) for row in raw.table("raw/chain/Reference").to_pylist()}
    if not known.issuperset(listed(raw)):
        return []
    return list(dict.fromkeys(token or ctoken for ctoken, token in underlyings(raw).items()))


def asset_addresses(raw: RawEvents) -> dict[str, str]:
    """cToken to the address that its asset goes by: the token that it lends, or its own where that is the chain's coin
    or another cToken, listed before, lends the same.
    """
    found: dict[str, str] = {}
    for ctoken, token in underlyings(raw).items():
        found[ctoken] = token if token is not None and token not in found.values() else ctoken
    return found


def metadata(raw: RawEvents, address: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == address:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {address}", "run the fetch again: it reads what is missing")


def asset_rows(raw: RawEvents) -> list[tuple[str, str, str, int]]:
    """Each asset in order: address, cToken, symbol, decimals of what is lent. A coin's symbol is its cToken's without
    the small letters in front (cETH lends ETH).
    """
    lent, rows = underlyings(raw), []
    for ctoken, address in asset_addresses(raw).items():
        token = lent[ctoken]
        if token is None:
            symbol = metadata(raw, ctoken)[0]
            rows.append((address, ctoken, symbol.lstrip("abcdefghijklmnopqrstuvwxyz") or symbol, COIN_DECIMALS))
        else:
            rows.append((address, ctoken, *metadata(raw, token)))
    return rows


def posts(raw: RawEvents) -> bool:
    """Whether every oracle that the market had says its prices in logs of its own (``PricePosted``)."""
    named = _named(raw, "NewPriceOracle", "after")
    return bool(named) and named <= _named(raw, "PricePosted", "address")


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The market's oracle, asked for each cToken, wherever it does not post its prices in logs; nothing of its rule is
    known beyond what it answers.
    """
    if posts(raw):
        return []
    steps: list[tuple[int, int, int, str | None, str]] = []
    for event, column in (("MarketListed", "ctoken"), ("NewPriceOracle", "after")):
        for row in raw.table(event).to_pylist():
            what, own = address_text(row[column]), event == "MarketListed"
            steps.append((row["seq"], row["block_number"], row["log_index"], None if own else what, what))
    if not steps or not (known := tokens(raw)) or not _have(raw, known):
        return []
    rows = {ctoken: (address, decimals) for address, ctoken, _, decimals in asset_rows(raw)}
    oracle, there, found = ZERO_ADDRESS, list[str](), list[SourceChange]()
    for _, block, log, new, ctoken in sorted(steps, key=lambda step: step[0]):
        if new is not None:
            oracle = new
        elif ctoken not in there:
            there.append(ctoken)
        for one in [ctoken] if new is None else there:
            address, decimals = rows[one]
            how = SourceChange(block, log, address, ZERO_ADDRESS, oracle, getter="getUnderlyingPrice(address)")
            found.append(replace(how, untold=True, about=one, times=10**decimals))
    return found


def _have(raw: RawEvents, wanted: Sequence[str]) -> bool:
    held = {address_text(row["address"]) for row in raw.table("raw/chain/Token").to_pylist()}
    return held.issuperset(wanted)


def comptroller_revision(parameters: Mapping[str, str], implementation: str) -> int:
    """Whose rules an implementation of the Comptroller follows; see ``math``. UserError where the market's description
    does not say.
    """
    rounding = {text.strip().lower() for text in parameters.get("rounding_implementations", "").split(",")}
    if implementation in ROUNDING_IMPLEMENTATIONS or implementation in rounding:
        return HALF_UP
    given = parameters.get("revision", "")
    if given not in (str(CUT), str(DEPRECATING)):
        raise UserError(
            f"nothing says which rules Comptroller {implementation} follows: parameters.revision = '{given}'",
            f'write revision = "{CUT}" in the market\'s description, or "{DEPRECATING}" where deprecated markets are'
            " liquidated",
        )
    return int(given)


def periods(parameters: Mapping[str, str]) -> tuple[bool, int]:
    """Whether interest runs a second (else a block), and how many such periods the models take for a year."""
    unit, count = parameters.get("accrual", ""), parameters.get("periods_per_year", "")
    if unit not in ("blocks", "seconds") or not (count.isascii() and count.isdigit() and 0 < int(count) < 10**12):
        raise UserError(
            f"parameters.accrual = '{unit}', periods_per_year = '{count}'",
            'write accrual = "blocks" or "seconds", and how many of them the interest rate models take for a year',
        )
    return unit == "seconds", int(count)
