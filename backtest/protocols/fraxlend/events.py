"""Which logs a pair needs, and what its contracts are asked.

Source: FraxFinance/fraxlend at 2bed49d4, ``src/contracts/FraxlendPairCore.sol``, ``FraxlendPair.sol``,
``FraxlendPairAccessControl.sol``, ``VariableInterestRate.sol``. One contract emits everything. What it was made with is
in no log of its own: it is read at the end of the block of its constructor, whose accrual is its first log; and the
immutables of each rate contract in the block in which the pair took it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from backtest.errors import RulesError
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.fraxlend.math import RateCurve
from backtest.protocols.fraxlend.state import REVISION
from backtest.protocols.interface import RawEvents

PAIR_ROLE = "pair"
RATE_DECIMALS = 18
"""An exchange rate is native collateral for 10^18 native units lent (EXCHANGE_PRECISION)."""
PRICES = "getPrices()"
LOW = 1
"""Word of ``IDualOracle.getPrices`` that is the low rate."""


def _of(name: str, arguments: str, wide: tuple[str, ...] = ()) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", PAIR_ROLE, frozenset(wide))


EVENTS = (
    _of("UpdateRate", "uint256 oldRate, uint256 oldFullRate, uint256 newRate, uint256 newFullRate"),
    _of("AddInterest", "uint256 interest, uint256 rate, uint256 feeAmount, uint256 feeShares"),
    _of("UpdateExchangeRate", "uint256 low, uint256 high"),
    _of("Deposit", "address indexed caller, address indexed owner, uint256 assets, uint256 shares"),
    _of(
        "Withdraw",
        "address indexed caller, address indexed receiver, address indexed owner, uint256 assets, uint256 shares",
    ),
    _of("Transfer", "address indexed from, address indexed to, uint256 value"),
    _of("BorrowAsset", "address indexed borrower, address indexed receiver, uint256 assets, uint256 shares"),
    _of("RepayAsset", "address indexed payer, address indexed borrower, uint256 assets, uint256 shares"),
    _of("AddCollateral", "address indexed sender, address indexed borrower, uint256 amount"),
    _of(
        "RemoveCollateral", "address indexed sender, uint256 amount, address indexed receiver, address indexed borrower"
    ),
    _of(
        "Liquidate",
        "address indexed borrower, uint256 seized, uint256 shares, uint256 repaid, uint256 fee, uint256 lostShares,"
        " uint256 lost",
    ),
    _of(
        "LeveragedPosition",
        "address indexed borrower, address swapper, uint256 borrowed, uint256 shares, uint256 initial, uint256 bought",
    ),
    _of(
        "RepayAssetWithCollateral",
        "address indexed borrower, address swapper, uint256 sold, uint256 repaid, uint256 shares",
    ),
    _of("SetOracleInfo", "address oldOracle, uint32 oldDeviation, address newOracle, uint32 newDeviation"),
    _of("SetMaxLTV", "uint256 oldLtv, uint256 newLtv"),
    _of("SetRateContract", "address oldContract, address newContract"),
    _of(
        "SetLiquidationFees",
        "uint256 oldClean, uint256 oldDirty, uint256 oldProtocol, uint256 newClean, uint256 newDirty, uint256"
        " newProtocol",
    ),
    _of("ChangeFee", "uint32 newFee"),
    *(
        _of(name, "uint256 limit", ("limit",))
        for name in ("SetBorrowLimit", "RevokeBorrowAccessControl", "SetDepositLimit", "RevokeDepositAccessControl")
    ),
    *(_of(name, "bool paused") for name in ("PauseRepay", "PauseWithdraw", "PauseLiquidate", "PauseInterest")),
)

VERSION, TOKEN, COLLATERAL_TOKEN = "version()", "asset()", "collateralContract()"
RATE_CONTRACT, EXCHANGE_RATE = "rateContract()", "exchangeRateInfo()"
TERM_GETTERS: Mapping[str, str] = {
    "liquidation_threshold": "maxLTV()",
    "liquidation_bonus": "cleanLiquidationFee()",
    "partial_liquidation_bonus": "dirtyLiquidationFee()",
    "liquidation_protocol_fee": "protocolLiquidationFee()",
}
CURVE_GETTERS: Mapping[str, str] = {name: f"{name.upper()}()" for name in RateCurve._fields}
_OF_PAIR = (VERSION, TOKEN, COLLATERAL_TOKEN, RATE_CONTRACT, EXCHANGE_RATE, *TERM_GETTERS.values())


@dataclass(frozen=True, slots=True)
class Origin:
    """What a pair was made with. Addresses are lower-case 0x text; ``terms`` as the contract has them, of 10^5."""

    block_number: int
    log_index: int
    pair: str
    lent: str
    collateral: str
    rate_contract: str
    oracle: str
    max_deviation: int
    terms: Mapping[str, int]


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def _begun(raw: RawEvents) -> tuple[int, int, str] | None:
    """Block, log index and emitter of the constructor's accrual."""
    rows = raw.table("AddInterest").slice(0, 1).to_pylist()
    return (rows[0]["block_number"], rows[0]["log_index"], address_text(rows[0]["address"])) if rows else None


def _answers(raw: RawEvents) -> dict[tuple[int, str, str], list[int]]:
    """What was read: (block, address, call) to words; none where the call gave nothing."""
    found = {}
    for row in raw.table("raw/chain/Reading").to_pylist():
        data = row["value"] or b""
        words = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data) - 31, 32)]
        found[row["block_number"], address_text(row["address"]), row["call"]] = words
    return found


def readings(raw: RawEvents) -> Iterator[Reading]:
    """What the pair was made with, then what its rate contracts hold; see the module."""
    begun = _begun(raw)
    if begun is None:
        return
    block, _, pair = begun
    for call in _OF_PAIR:
        yield Reading(block, pair, call)
    models = [
        (row["block_number"], address_text(row["new_contract"])) for row in raw.table("SetRateContract").to_pylist()
    ]
    words = _answers(raw).get((block, pair, RATE_CONTRACT))
    if words:
        models.insert(0, (block, _address(words[0])))
    for at, model in models:
        for call in CURVE_GETTERS.values():
            yield Reading(at, model, call)


def made(raw: RawEvents) -> Origin | None:
    """What the pair was made with; None while it has no log, or that is not read yet.

    Raises:
        RulesError: it is of another version, or no pair at all.
    """
    begun = _begun(raw)
    if begun is None:
        return None
    block, log, pair = begun
    known = _answers(raw)
    told = {call: known.get((block, pair, call)) for call in _OF_PAIR}
    if any(words is None for words in told.values()):
        return None
    if (told[VERSION] or [0])[0] != REVISION:
        raise RulesError(
            f"block {block}: the pair {pair} is not of version {REVISION}, whose rules these are",
            "pairs of versions 1 and 2 have other logs and another liquidation, and are not supported",
        )
    lengths = {call: len(words or ()) for call, words in told.items()}
    if min(lengths.values()) < 1 or lengths[EXCHANGE_RATE] < 2:
        raise RulesError(
            f"block {block}: the contract {pair} does not answer as a pair does",
            "check contracts.pair of the market; a node with the state of that block is needed",
        )

    def first(call: str, place: int = 0) -> int:
        return (told[call] or [])[place]

    lent, collateral, model, oracle = (
        _address(first(call)) for call in (TOKEN, COLLATERAL_TOKEN, RATE_CONTRACT, EXCHANGE_RATE)
    )
    terms = {name: first(call) for name, call in TERM_GETTERS.items()}
    return Origin(block, log, pair, lent, collateral, model, oracle, first(EXCHANGE_RATE, 1), terms)


def curve(raw: RawEvents, block: int, model: str) -> RateCurve:
    """The immutables of a rate contract that the pair took in a block.

    Raises:
        RulesError: it was not read, or is no variable rate of version 2.
    """
    known = _answers(raw)
    values = [known.get((block, model, call)) for call in CURVE_GETTERS.values()]
    if not all(values):
        raise RulesError(
            f"block {block}: the rate contract {model} does not answer as a VariableInterestRate does",
            "pairs with another rate contract are not supported; else fetch with a node that has that block's state",
        )
    return RateCurve(*((words or [0])[0] for words in values))


def _address(word: int) -> str:
    return f"0x{word % 2**160:040x}"


def tokens(raw: RawEvents) -> list[str]:
    """The token that is lent, the collateral."""
    pair = made(raw)
    return [] if pair is None else [pair.lent, pair.collateral]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")


def price_decimals(raw: RawEvents, pair: Origin) -> int:
    """Decimals of an exchange rate read as the price of a whole token lent in whole tokens of the collateral."""
    lent, collateral = (metadata(raw, token)[1] for token in (pair.lent, pair.collateral))
    return RATE_DECIMALS + collateral - lent


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The pair's oracle prices what is lent, by its low rate; the collateral is the unit."""
    pair = made(raw)
    if pair is None:
        return []
    one = 10 ** price_decimals(raw, pair)
    place, zero = (pair.block_number, pair.log_index), "0x" + "00" * 20
    found = [
        SourceChange(*place, pair.collateral, zero, pair.oracle, fixed=one),
        SourceChange(*place, pair.lent, pair.oracle, pair.oracle, getter=PRICES, place=LOW),
    ]
    for row in raw.table("SetOracleInfo").to_pylist():
        oracle = address_text(row["new_oracle"])
        at = row["block_number"], row["log_index"]
        found.append(SourceChange(*at, pair.lent, oracle, oracle, getter=PRICES, place=LOW))
    return found
