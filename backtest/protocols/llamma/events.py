"""Which logs a crvUSD or LlamaLend market needs, from whom, and what its contracts are asked.

Sources: curvefi/curve-stablecoin at 58289a42, ``contracts/AMM.vy``, ``contracts/Controller.vy``. What no log tells is
read at the end of the block of the AMM's first ``SetRate``, up to which no interest has accrued: its base price is the
one that it was made with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from backtest.errors import RulesError, UserError
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.interface import RawEvents
from backtest.protocols.llamma.amm import DISTANCE_FEES
from backtest.units import WAD

ZERO_ADDRESS = "0x" + "00" * 20
DECIMALS = 18
"""Of the oracle's price, borrowed tokens for a collateral token, and of the market's base units."""
REVISION = "revision"


def _amm(name: str, arguments: str) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", "amm")


def _controller(name: str, arguments: str, wide: tuple[str, ...] = ()) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", "controller", frozenset(wide))


EVENTS = (
    _amm("Deposit", "address indexed provider, uint256 amount, int256 n1, int256 n2"),
    _amm("Withdraw", "address indexed provider, uint256 amount_borrowed, uint256 amount_collateral"),
    _amm(
        "TokenExchange",
        "address indexed buyer, uint256 sold_id, uint256 tokens_sold, uint256 bought_id, uint256 tokens_bought",
    ),
    _amm("SetRate", "uint256 rate, uint256 rate_mul, uint256 time"),
    _amm("SetFee", "uint256 fee"),
    _amm("SetAdminFee", "uint256 fee"),
    _controller(
        "UserState",
        "address indexed user, uint256 collateral, uint256 debt, int256 n1, int256 n2, uint256 liquidation_discount",
        ("collateral",),
    ),
    _controller("Borrow", "address indexed user, uint256 collateral_increase, uint256 loan_increase"),
    _controller("Repay", "address indexed user, uint256 collateral_decrease, uint256 loan_decrease"),
    _controller("RemoveCollateral", "address indexed user, uint256 collateral_decrease"),
    _controller(
        "Liquidate",
        "address indexed liquidator, address indexed user, uint256 collateral_received, uint256 stablecoin_received,"
        " uint256 debt",
    ),
    _controller("SetMonetaryPolicy", "address monetary_policy"),
    _controller("SetBorrowingDiscounts", "uint256 loan_discount, uint256 liquidation_discount"),
    _controller("CollectFees", "uint256 amount, uint256 new_supply"),
)
PRICED = ("TokenExchange", "Liquidate", "Borrow", "Repay", "RemoveCollateral")
"""Events at whose blocks the oracle's price decides something."""
COINS = "coins(uint256)"
ORACLE = "price_oracle_contract()"
FEE_NOW = "dynamic_fee()"
OF_AMM: Mapping[str, str] = {
    "amplification": "A()",
    "base_price": "get_base_price()",
    "amm_fee": "fee()",
    "amm_admin_fee": "admin_fee()",
}
OF_CONTROLLER: Mapping[str, str] = {
    "loan_discount": "loan_discount()",
    "liquidation_discount": "liquidation_discount()",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a market was made with. Addresses are lower-case 0x text; ``params`` as ``state`` names them."""

    block_number: int
    log_index: int
    amm: str
    borrowed: str
    collateral: str
    oracle: str
    params: Mapping[str, int]


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def _first(raw: RawEvents, event: str) -> tuple[int, int, str] | None:
    """Block, log index and emitter of the first log of an event."""
    rows = raw.table(event).slice(0, 1).to_pylist()
    return (rows[0]["block_number"], rows[0]["log_index"], address_text(rows[0]["address"])) if rows else None


def readings(raw: RawEvents) -> Iterator[Reading]:
    """What the market was made with, see the module; and at the end of each block with an exchange the AMM's fee, which
    is then the one that the exchange was asked: an exchange that gives nothing writes the oracle's price without a log.
    """
    first, user = _first(raw, "SetRate"), _first(raw, "UserState")
    if first is None:
        return
    block, _, amm = first
    for place in (0, 1):
        yield Reading(block, amm, COINS, (place,))
    for call in (ORACLE, *OF_AMM.values()):
        yield Reading(block, amm, call)
    if user is not None:
        for call in OF_CONTROLLER.values():
            yield Reading(block, user[2], call)
    for exchanged in sorted(set(raw.table("TokenExchange")["block_number"].to_pylist())):
        yield Reading(exchanged, amm, FEE_NOW)


def made(raw: RawEvents) -> Origin | None:
    """What the market was made with; None while that is not read yet, or it has no loan.

    Raises:
        RulesError: a contract answered what no AMM does.
    """
    first, user = _first(raw, "SetRate"), _first(raw, "UserState")
    if first is None or user is None:
        return None
    block, log, amm = first
    rows = raw.table("raw/chain/Reading").to_pylist()
    known = {(row["block_number"], address_text(row["address"]), row["call"]): row["value"] for row in rows}

    def word(address: str, call: str, *arguments: int) -> int | None:
        value = known.get((block, address, Reading(block, address, call, arguments).call))
        return int.from_bytes(value[:32], "big") if value is not None and len(value) >= 32 else None

    asked = [word(amm, COINS, 0), word(amm, COINS, 1), word(amm, ORACLE)]
    params = {name: word(amm, call) for name, call in OF_AMM.items()}
    params |= {name: word(user[2], call) for name, call in OF_CONTROLLER.items()}
    found = [value for value in asked if value is not None and value < 1 << 160]
    numbers = {name: value for name, value in params.items() if value is not None and value < 10**38}
    if len(found) < 3 or len(numbers) < len(params):
        calls = [Reading(block, amm, COINS, (place,)).call for place in (0, 1)]
        needed = {(amm, call) for call in (*calls, ORACLE, *OF_AMM.values())}
        needed |= {(user[2], call) for call in OF_CONTROLLER.values()}
        if any((block, *one) not in known for one in needed):
            return None
        raise RulesError(
            f"block {block}: the contracts {amm} and {user[2]} do not answer as an AMM and its controller do",
            "check contracts.amm and contracts.controller of the market; a node with the state of that block is needed",
        )
    borrowed, collateral, oracle = (f"0x{value:040x}" for value in found)
    return Origin(block, log, amm, borrowed, collateral, oracle, numbers)


def tokens(raw: RawEvents) -> list[str]:
    """The borrowed token, the collateral."""
    market = made(raw)
    return [] if market is None else [market.borrowed, market.collateral]


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The AMM's oracle, for good (``AMM.price_oracle_contract``); the borrowed token is the unit."""
    market = made(raw)
    if market is None:
        return []
    place = market.block_number, market.log_index
    return [
        SourceChange(*place, market.borrowed, ZERO_ADDRESS, market.oracle, fixed=WAD),
        SourceChange(*place, market.collateral, market.oracle, market.oracle, getter="price()"),
    ]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")


def revision(parameters: Mapping[str, str]) -> int:
    """Whose rules the AMM follows; see ``amm``. UserError where the market's description does not say."""
    given = parameters.get(REVISION, "")
    if given not in map(str, range(1, DISTANCE_FEES + 1)):
        raise UserError(
            f"nothing says which rules the AMM follows: parameters.{REVISION} = '{given}'",
            f'write {REVISION} = "1" for AMMs of June and July 2023, "2" up to February 2024, "3" for later ones',
        )
    return int(given)


def read_fees(raw: RawEvents) -> dict[int, int]:
    """Block to the AMM's fee at its end (wad), where it was read."""
    table = raw.table("raw/chain/Reading")
    rows = table.filter(pc.equal(table["call"], FEE_NOW)).to_pylist()
    return {row["block_number"]: int.from_bytes(row["value"][:32], "big") for row in rows if row["value"]}


def read_prices(raw: RawEvents, collateral: str) -> dict[int, int]:
    """Block to the oracle's price at its end, wad, where it was read and there was one."""
    found: dict[int, int] = {}
    for dataset in ("raw/oracle/Read", "raw/oracle/WideRead"):
        for row in raw.table(dataset).to_pylist():
            price = row["price"]
            if price is None or address_text(row["asset"]) != collateral:
                continue
            found[row["block_number"]] = int.from_bytes(price, "big") if isinstance(price, bytes) else int(price)
    return found
