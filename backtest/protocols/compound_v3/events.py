"""Which logs and which calls a Comet needs, and from whom.

Source: compound-finance/comet, ``contracts/CometMainInterface.sol``, ``CometExt.sol`` ``totalsBasic``,
``CometWithExtendedAssetList.sol`` (``getAssetInfo`` and the immutables); the proxy is OpenZeppelin's
``TransparentUpgradeableProxy`` (ERC-1967 ``Upgraded``).

Parameters are immutables of the implementation behind the proxy: each implementation is asked for them in the block in
which the proxy took it, so that what counts is what the contract holds, whoever configured it. Indexes are read where a
log shows that the contract accrued: an accrual of its own (``accrueAccount``) leaves no log. Principals are read with
them: debt that is sent from one account to another leaves none either.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.compute as pc

from backtest.errors import RulesError
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.compound_v3.math import INDEX
from backtest.protocols.compound_v3.state import BORROW_CURVE, SUPPLY_CURVE
from backtest.protocols.interface import RawEvents

COMET = "comet"
"""Role of the proxy."""
ZERO_ADDRESS = "0x" + "00" * 20
TOTALS = "totalsBasic()"
USER = "userBasic(address)"
_TOO_LARGE = 10**38
ASSET_INFO = "getAssetInfo(uint8)"


def _of(name: str, arguments: str) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", COMET)


_FROM, _ASSET = "address indexed from, address indexed dst", "address indexed asset, uint256 amount"
EVENTS = (
    _of("Upgraded", "address indexed implementation"),
    _of("Supply", f"{_FROM}, uint256 amount"),
    _of("Withdraw", "address indexed src, address indexed to, uint256 amount"),
    _of("Transfer", "address indexed from, address indexed to, uint256 amount"),
    _of("SupplyCollateral", f"{_FROM}, {_ASSET}"),
    _of("WithdrawCollateral", f"address indexed src, address indexed to, {_ASSET}"),
    _of("TransferCollateral", f"address indexed from, address indexed to, {_ASSET}"),
    _of(
        "AbsorbDebt",
        "address indexed absorber, address indexed borrower, uint256 basePaidOut, uint256 usdValue",
    ),
    _of(
        "AbsorbCollateral",
        "address indexed absorber, address indexed borrower, address indexed asset, uint256 collateralAbsorbed,"
        " uint256 usdValue",
    ),
    _of("BuyCollateral", "address indexed buyer, address indexed asset, uint256 baseAmount, uint256 collateralAmount"),
    _of(
        "PauseAction",
        "bool supplyPaused, bool transferPaused, bool withdrawPaused, bool absorbPaused, bool buyPaused",
    ),
    _of("WithdrawReserves", "address indexed to, uint256 amount"),
)
ACCRUING: Mapping[str, tuple[str, ...]] = {
    "Supply": ("dst",),
    "Withdraw": ("src",),
    "Transfer": ("from", "to"),
    "AbsorbDebt": ("borrower",),
}
"""Logs of calls that accrue interest, and whose principal they change."""

GETTERS: Mapping[str, str] = {
    **dict(
        zip(
            (*SUPPLY_CURVE, *BORROW_CURVE),
            (
                f"{side}{name}()"
                for side in ("supply", "borrow")
                for name in (
                    "Kink",
                    "PerSecondInterestRateBase",
                    "PerSecondInterestRateSlopeLow",
                    "PerSecondInterestRateSlopeHigh",
                )
            ),
            strict=True,
        )
    ),
    "store_front_price_factor": "storeFrontPriceFactor()",
    "tracking_index_scale": "trackingIndexScale()",
    "base_tracking_supply_speed": "baseTrackingSupplySpeed()",
    "base_tracking_borrow_speed": "baseTrackingBorrowSpeed()",
    "base_min_for_rewards": "baseMinForRewards()",
    "base_borrow_min": "baseBorrowMin()",
    "target_reserves": "targetReserves()",
}
"""Parameters of the whole market, and what an implementation is asked for."""
BASE_TOKEN, BASE_FEED, COUNT = "baseToken()", "baseTokenPriceFeed()", "numAssets()"


@dataclass(frozen=True, slots=True)
class Collateral:
    """One entry of ``getAssetInfo``: addresses, wad, native units."""

    asset: str
    feed: str
    scale: int
    ltv: int
    liquidation_threshold: int
    liquidation_factor: int
    supply_cap: int


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The proxy took an implementation, which holds these parameters. ``collateral`` in the contract's order."""

    block_number: int
    log_index: int
    implementation: str
    base_token: str
    base_feed: str
    params: Mapping[str, int]
    collateral: Sequence[Collateral]


def read_principals(raw: RawEvents) -> dict[int, list[tuple[str, int]]]:
    """Block to accounts with the principal that ``userBasic`` returned at its end."""
    table = raw.table("raw/chain/Reading")
    found: dict[int, list[tuple[str, int]]] = {}
    for row in table.filter(pc.starts_with(table["call"], USER)).to_pylist():
        number, words = row["call"].removeprefix(f"{USER} "), _words(row["value"])
        if words and number.isascii() and number.isdigit():
            principal = words[0] - (1 << 256) if words[0] >> 255 else words[0]
            found.setdefault(row["block_number"], []).append((f"0x{int(number):040x}", principal))
    return found


class Totals(NamedTuple):
    """``totalsBasic`` (CometStorage.TotalsBasic): indexes of 10^15, principal, seconds."""

    supply_index: int
    borrow_index: int
    tracking_supply_index: int
    tracking_borrow_index: int
    supply: int
    borrow: int
    updated: int


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def _words(data: bytes | None) -> list[int]:
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data) - 31, 32)] if data else []


def read_words(raw: RawEvents) -> dict[tuple[int, str, str], list[int]]:
    """What implementations returned: (block, address, call) to words; none where the call gave nothing."""
    table = raw.table("raw/chain/Reading")
    of_blocks = pc.or_(pc.equal(table["call"], TOTALS), pc.starts_with(table["call"], USER))
    held = table.filter(pc.invert(of_blocks)).to_pylist()
    return {(row["block_number"], address_text(row["address"]), row["call"]): _words(row["value"]) for row in held}


def read_totals(raw: RawEvents) -> dict[int, Totals]:
    """Block to what ``totalsBasic`` returned at its end; blocks in which it gave nothing are not there.

    Raises:
        RulesError: it gave what no Comet does.
    """
    table = raw.table("raw/chain/Reading")
    found = {}
    for row in table.filter(pc.equal(table["call"], TOTALS)).to_pylist():
        if row["value"] is None:
            continue
        totals = Totals(*(_words(row["value"]) + [0] * 7)[:7])
        if not all(INDEX <= index < 1 << 64 for index in totals[:2]) or max(totals) >= 1 << 104:
            raise RulesError(
                f"block {row['block_number']}: {TOTALS} of {address_text(row['address'])} is not what a Comet returns",
                "check contracts.comet of the market, or use another node",
            )
        found[row["block_number"]] = totals
    return found


def _upgraded(raw: RawEvents) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = raw.table("Upgraded").to_pylist()
    return rows


def readings(raw: RawEvents) -> Iterator[Reading]:
    """What each implementation holds; and at the end of each block in which a log shows that the contract accrued, its
    totals and the principals of the accounts that the log names. What there is to ask grows with the answers: how many
    assets come first.
    """
    known = read_words(raw)
    proxies = set()
    for row in _upgraded(raw):
        block, implementation = row["block_number"], address_text(row["implementation"])
        proxies.add(address_text(row["address"]))
        for call in (BASE_TOKEN, BASE_FEED, COUNT, *GETTERS.values()):
            yield Reading(block, implementation, call)
        count = known.get((block, implementation, COUNT))
        for number in range(min(count[0], 24) if count else 0):
            yield Reading(block, implementation, ASSET_INFO, (number,))
    touched: dict[int, set[bytes]] = {}
    for event, names in ACCRUING.items():
        table = raw.table(event)
        for name in names:
            for block, account in zip(table["block_number"].to_pylist(), table[name].to_pylist(), strict=True):
                touched.setdefault(block, set()).add(account)
    for block in sorted(touched):
        for proxy in sorted(proxies):
            yield Reading(block, proxy, TOTALS)
            for account in sorted(touched[block] - {bytes(20)}):
                yield Reading(block, proxy, USER, (int.from_bytes(account, "big"),))


def upgrades(raw: RawEvents) -> list[Upgrade]:
    """Every implementation with what it holds, in chain order.

    Raises:
        RulesError: an implementation was not asked, or does not answer as a Comet does.
    """
    known, found = read_words(raw), []
    for row in _upgraded(raw):
        block, implementation = row["block_number"], address_text(row["implementation"])

        def one(call: str, at: tuple[int, str] = (block, implementation)) -> list[int]:
            words = known.get((*at, call))
            if not words:
                why = "was not read" if words is None else "gives nothing"
                raise RulesError(
                    f"block {at[0]}: {call} of the implementation {at[1]} {why}, so its parameters are unknown",
                    "fetch the market with a node that has the state of that block",
                )
            return words

        count = one(COUNT)[0]
        collateral = []
        for number in range(count):
            words = one(Reading(block, implementation, ASSET_INFO, (number,)).call)
            if len(words) < 8 or max(words[1:3]) >= 1 << 160 or max(words[3:8]) >= _TOO_LARGE:
                raise _no_comet(block, implementation, ASSET_INFO)
            collateral.append(Collateral(_address(words[1]), _address(words[2]), *words[3:8]))
        base, feed = one(BASE_TOKEN)[0], one(BASE_FEED)[0]
        params = {name: one(call)[0] for name, call in GETTERS.items()}
        if max(base, feed) >= 1 << 160 or max(params.values()) >= _TOO_LARGE:
            raise _no_comet(block, implementation, "a parameter")
        place = block, row["log_index"]
        found.append(Upgrade(*place, implementation, _address(base), _address(feed), params, collateral))
    _check_lists(found)
    return found


def _no_comet(block: int, implementation: str, what: str) -> RulesError:
    return RulesError(
        f"block {block}: {what} of the implementation {implementation} is not what a Comet returns",
        "check contracts.comet of the market",
    )


def _address(word: int) -> str:
    return f"0x{word:040x}"


def _check_lists(found: Sequence[Upgrade]) -> None:
    """Assets are told by their place in the contract's list (userBasic.assetsIn): one that is dropped or moves changes
    what accounts hold.
    """
    for before, after in itertools.pairwise(found):
        names = [entry.asset for entry in before.collateral]
        if after.base_token != before.base_token or [entry.asset for entry in after.collateral][: len(names)] != names:
            raise RulesError(
                f"block {after.block_number}: the implementation {after.implementation} drops or moves assets of the"
                " one before, or has another base token",
                "end the fetch before that block: no rule covers what accounts hold then",
            )


def tokens(raw: RawEvents) -> list[str]:
    """The base token, then collateral in the contract's order; nothing before an implementation is known."""
    try:
        found = upgrades(raw)
    except RulesError:  # what is lacking is asked for first
        return []
    return [found[-1].base_token, *(entry.asset for entry in found[-1].collateral)] if found else []


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The feeds that each implementation names; the proxy itself is asked for their prices (Comet.getPrice)."""
    changes: list[SourceChange] = []
    held: dict[str, str] = {}
    proxy = next((address_text(row["address"]) for row in _upgraded(raw)), ZERO_ADDRESS)
    for upgrade in upgrades(raw):
        feeds = {upgrade.base_token: upgrade.base_feed, **{entry.asset: entry.feed for entry in upgrade.collateral}}
        for asset, feed in feeds.items():
            if held.get(asset) != feed:
                held[asset] = feed
                place = upgrade.block_number, upgrade.log_index
                changes.append(SourceChange(*place, asset, feed, proxy, getter="getPrice(address)", about=feed))
    return changes


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")
