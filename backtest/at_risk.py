"""A market's book at one moment, measured: how far its accounts are from trouble, what is insolvent already, what falls
of prices would leave, and the smallest one that reserves do not cover. Nothing is stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import pyarrow as pa

from backtest.errors import UserError, did_you_mean
from backtest.lake import Lake
from backtest.model import AssetId, Market
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.what_if import proposal as what_if
from backtest.replay.what_if.proposal import Fallen
from backtest.report.tables import Table, moment, money
from backtest.report.tables import as_text as table
from backtest.results import load_material
from backtest.risk.book import AccountRisk, Direction, debt_within, farthest, insolvent, moves, standings_of
from backtest.risk.bracket import dearest, excluded, is_bounded
from backtest.risk.falling import held, that_moved
from backtest.risk.reverse import Reverse, Smallest, exposed, reverse_along, smallest
from backtest.tables import RULES_VERSION
from backtest.units import BPS, WAD

FALLS = (500, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000)
TOP = (1, 5, 30)
FARTHEST = 3.0
"""Size of moves that are excluded at most, where none was found to be enough: e^3 is twenty times a price."""
SEARCHED = 12
"""Assets whose prices are searched over all directions, at most: those of which most is held and owed."""


@dataclass(frozen=True, slots=True)
class RiskQuestion:
    """What is asked of a book.

    Attributes:
        direction: (asset as the market knows it, weight in basis points): what falls together; empty: every collateral
            whose price ever moved by a tenth, one for one.
        block: at its end; None: at the end of the history.
        reserves, cost: base units; None: not known, and then what rests on them is not said.
        depth: asset to the other reserve of the pool that it is sold into, base units.
        everywhere: also the smallest move over all directions.
    """

    direction: tuple[tuple[str, int], ...] = ()
    block: int | None = None
    reserves: int | None = None
    cost: int | None = None
    depth: Mapping[str, int] | None = None
    everywhere: bool = True


@dataclass(frozen=True, slots=True)
class BookRisk:
    """The answer; amounts in base units, falls in basis points.

    ``falls``: (fall, the book after it). ``least``: the least fall along the direction that is more than reserves
    cover; None: no fall is, or reserves are not known. ``excluded``: no smaller move of the prices that were searched
    is enough; None: not known of this protocol, or not asked. ``top``: (so many accounts of most debt, what they owe).
    """

    market: Market
    currency: str
    decimals: int
    block: int
    timestamp: int
    direction: Direction
    accounts: tuple[AccountRisk, ...]
    unvalued: int
    reserves: int | None
    cost: int | None
    falls: tuple[tuple[int, Fallen], ...]
    least: Reverse | None
    everywhere: Smallest | None
    excluded: float | None
    searched: tuple[AssetId, ...]
    top: tuple[tuple[int, int], ...]
    said: tuple[str, ...]


def book_risk(lake: Lake, market: str, question: RiskQuestion) -> BookRisk:
    """Measure a book of a lake.

    Raises:
        UserError: the market has no current tables; an asset that it does not know; a block outside of its history;
            reserves, a cost or a depth that cannot be.
    """
    for name, value in (("--reserves", question.reserves), ("--cost", question.cost)):
        if value is not None and value < 0:
            raise UserError(f"{name} below zero", "give an amount, or leave it out")
    material = load_material(lake, market)
    timeline, protocol = material.timeline(), protocol_named(material.config.protocol)
    block = timeline.last_block if question.block is None else question.block
    if not timeline.first_block <= block <= timeline.last_block:
        raise UserError(
            f"the history of '{market}' does not hold block {block}",
            f"it has blocks {timeline.first_block} to {timeline.last_block}",
        )
    book = what_if.book_at(protocol, material.market, timeline, block, ended=True)
    direction = _direction(material.market, question.direction) or _collateral(material.tables, book)
    depth = {_asset(material.market, name): reserve for name, reserve in (question.depth or {}).items()}
    found, unvalued = standings_of(book, direction, cost=question.cost, depth=depth)
    most = farthest(direction)
    falls = [fall for fall in FALLS if fall <= most]
    least = everywhere = apart = None
    searched: tuple[AssetId, ...] = ()
    if question.reserves is not None and found:
        least = reverse_along(book, direction, question.reserves)
        if question.everywhere:
            searched = _searched(book, found)
            picture = exposed(book, searched, found)
            everywhere = smallest(book, searched, found, question.reserves, further=[direction], picture=picture)
            bonus = dearest(book, timeline.params)
            if bonus is not None and not unvalued and is_bounded(book, picture):
                size = everywhere.found[0].size if everywhere.found else FARTHEST
                apart = excluded(picture, question.reserves, size, bonus).size
    owed = sorted((one.debt for one in found), reverse=True)
    return BookRisk(
        market=material.market,
        currency=material.config.base_currency,
        decimals=material.config.base_decimals,
        block=block,
        timestamp=book.now.timestamp,
        direction=direction,
        accounts=tuple(found),
        unvalued=unvalued,
        reserves=question.reserves,
        cost=question.cost,
        falls=tuple((fall, what_if.after_move(book, moves(direction, fall))) for fall in falls),
        least=least,
        everywhere=everywhere,
        excluded=apart,
        searched=searched,
        top=tuple((count, sum(owed[:count])) for count in TOP),
        said=(*_said(book, found), f"Data {material.digest[:16]}, rules {RULES_VERSION}."),
    )


def _direction(market: Market, asked: Sequence[tuple[str, int]]) -> Direction:
    return {_asset(market, name): weight for name, weight in asked}


def _asset(market: Market, name: str) -> AssetId:
    found = market.asset_named(name)
    if found is None:
        raise UserError(f"market '{market.name}' has no asset '{name}'", did_you_mean(name, market.names))
    return found.id


def _collateral(tables: Mapping[str, pa.Table], book: Book[Any]) -> Direction:
    """Every collateral that ever moved and has a price, else every collateral."""
    ever = [asset for asset in held(tables["position_events"]) if asset in book.oracle]
    moved = set(that_moved(tables["prices"]))
    chosen = [asset for asset in ever if asset in moved] or ever
    if not chosen:
        raise UserError(f"no collateral of '{book.market.name}' has a price then", "choose another block")
    return dict.fromkeys(chosen, BPS)


def _searched(book: Book[Any], found: Sequence[AccountRisk]) -> tuple[AssetId, ...]:
    """Assets of which most is held and owed by those who owe something."""
    whole: dict[AssetId, int] = {}
    for one in found:
        for holding in book.protocol.holdings(book.state, one.account, book.now):
            amount = holding.debt + (holding.collateral if holding.collateral_enabled else 0)
            whole[holding.asset] = whole.get(holding.asset, 0) + book.value_down(holding.asset, amount)
    ranked = sorted((asset for asset, value in whole.items() if value), key=lambda asset: (-whole[asset], asset))
    return tuple(ranked[:SEARCHED])


def _said(book: Book[Any], found: Sequence[AccountRisk]) -> list[str]:
    lines = [
        "Distances are falls of these prices alone, all at once; no interest, no user and no liquidator acts before.",
        "Bad debt after a fall is what frictionless liquidators, who come at once, leave.",
    ]
    if all(one.bonus is None for one in found):
        lines[1] = (
            "Liquidations of this protocol take time, or no fall leads to one: nobody acts, bad debt is what is owed"
            " beyond collateral, and no bonus says where liquidations turn toxic."
        )
    return lines


# -- forms ------------------------------------------------------------------------------------------------------------

_RISK_COLUMNS = pa.schema(
    [
        ("account", pa.string()),
        ("collateral", pa.float64()),
        ("debt", pa.float64()),
        ("health", pa.float64()),
        ("bonus", pa.float64()),
        ("to_liquidation_bps", pa.int64()),
        ("to_toxicity_bps", pa.int64()),
        ("to_insolvency_bps", pa.int64()),
        ("kind", pa.string()),
    ]
)


def rows(risk: BookRisk) -> pa.Table:
    """Every account with debt, most debt first: amounts in whole units of the base currency, as floats; ``bonus`` as a
    share, null where there is none; distances in basis points, null where no fall brings it.
    """
    unit = 10**risk.decimals
    ordered = sorted(risk.accounts, key=lambda one: (-one.debt, one.account))
    return pa.Table.from_pylist(
        [
            {
                "account": risk.market.accounts[one.account],
                "collateral": one.collateral / unit,
                "debt": one.debt / unit,
                "health": one.health / WAD,
                "bonus": None if one.bonus is None else one.bonus / WAD - 1,
                "to_liquidation_bps": one.liquidation,
                "to_toxicity_bps": one.toxicity,
                "to_insolvency_bps": one.insolvency,
                "kind": one.kind,
            }
            for one in ordered
        ],
        _RISK_COLUMNS,
    )


def plain(risk: BookRisk) -> dict[str, Any]:
    """As JSON holds it: amounts are whole base units as text, exact."""
    label = risk.market.label
    found = risk.accounts
    return {
        "market": risk.market.name,
        "block": risk.block,
        "timestamp": risk.timestamp,
        "currency": risk.currency,
        "decimals": risk.decimals,
        "direction": {label(asset): weight for asset, weight in risk.direction.items()},
        "accounts_with_debt": len(found),
        "accounts_without_a_price": risk.unvalued,
        "collateral": str(sum(one.collateral for one in found)),
        "debt": str(sum(one.debt for one in found)),
        "reserves": None if risk.reserves is None else str(risk.reserves),
        "cost": None if risk.cost is None else str(risk.cost),
        "debt_within": [
            {"fall": fall, "liquidation": str(first), "toxicity": str(second), "insolvency": str(third)}
            for fall, first, second, third in _within(risk)
        ],
        "insolvent": [
            {"kind": one.kind, "accounts": one.accounts, "debt": str(one.debt), "short": str(one.short)}
            for one in insolvent(found)
            if risk.cost is not None or one.kind == "type I"
        ],
        "after_falls": [
            {
                "fall": fall,
                "accounts": then.accounts,
                "debt": str(then.debt_base),
                "repaid": None if then.repaid_base is None else str(then.repaid_base),
                "bad_debt": str(then.bad_debt_base),
                "coverage": _coverage(risk.reserves, then.bad_debt_base),
            }
            for fall, then in risk.falls
        ],
        "reverse": None if risk.least is None else _reverse(risk, risk.least),
        "reverse_everywhere": None
        if risk.everywhere is None
        else {
            "assets": [label(asset) for asset in risk.searched],
            "ways": risk.everywhere.starts,
            "beyond": risk.everywhere.reached,
            "none_smaller_than": risk.excluded,
            "found": [_reverse(risk, one) for one in risk.everywhere.found],
        },
        "top": [{"accounts": count, "debt": str(debt)} for count, debt in risk.top],
        "said": list(risk.said),
        "accounts": [
            {
                "account": risk.market.accounts[one.account],
                "collateral": str(one.collateral),
                "debt": str(one.debt),
                "health": str(one.health),
                "bonus": None if one.bonus is None else str(one.bonus),
                "to_liquidation": one.liquidation,
                "to_toxicity": one.toxicity,
                "to_insolvency": one.insolvency,
                "kind": one.kind,
            }
            for one in sorted(found, key=lambda one: (-one.debt, one.account))
        ],
    }


def as_json(risk: BookRisk) -> str:
    """All of it, every account included."""
    return json.dumps(plain(risk), indent=2)


def _reverse(risk: BookRisk, one: Reverse) -> dict[str, Any]:
    return {
        "direction": {risk.market.label(asset): weight for asset, weight in one.direction.items()},
        "fall": one.fall,
        "prices_times": {risk.market.label(asset): by / WAD for asset, by in moves(one.direction, one.fall).items()},
        "size": one.size,
        "bad_debt": str(one.bad_debt),
        "bad_debt_before": str(one.before),
        "accounts": one.accounts,
        "debt": str(one.debt),
    }


def _coverage(reserves: int | None, bad_debt: int) -> float | None:
    return None if reserves is None or not bad_debt else reserves / bad_debt


def _within(risk: BookRisk) -> list[tuple[int, int, int, int]]:
    falls = [fall for fall, _ in risk.falls]
    columns = (
        debt_within(risk.accounts, lambda one: one.liquidation, falls),
        debt_within(risk.accounts, lambda one: one.toxicity, falls),
        debt_within(risk.accounts, lambda one: one.insolvency, falls),
    )
    return list(zip(falls, *columns, strict=True))


def as_text(risk: BookRisk, *, shown: int = 10, width: int = 100) -> str:
    """One screen: ``shown`` accounts of most debt."""

    label = risk.market.label

    def amount(value: int | None) -> str:
        return "–" if value is None else money(value, risk.decimals)

    def fall(value: int | None) -> str:
        return "–" if value is None else f"{value / 100:.2f} %"

    def way(one: Direction) -> str:
        return ", ".join(
            label(asset) if weight == BPS else f"{label(asset)} x {weight / BPS:g}" for asset, weight in one.items()
        )

    def prices(one: Reverse) -> str:
        changes = sorted(moves(one.direction, one.fall).items(), key=lambda item: (item[1], item[0]))
        return ", ".join(f"{label(asset)} {(by / WAD - 1) * 100:+.2f} %" for asset, by in changes)

    found, debt = risk.accounts, sum(one.debt for one in risk.accounts)
    lines = [
        f"{risk.market.name}, end of block {risk.block} ({moment(risk.timestamp)} UTC), in {risk.currency}",
        f"{len(found):,} accounts owe {amount(debt)} on {amount(sum(one.collateral for one in found))} of collateral",
    ]
    if risk.unvalued:
        lines.append(f"{risk.unvalued:,} accounts are left out: a price of theirs is missing")
    share = ", ".join(f"{count} hold {owed / debt:.1%}" for count, owed in risk.top if debt and count < len(found))
    lines += [f"Of the debt, the largest {share}"] if share else []
    lines += [*wrap(f"Falls together: {way(risk.direction)}", width), ""]
    head = (
        "",
        "may be liquidated",
        "share",
        "toxic",
        "insolvent",
        "bad debt after",
        *(("covered",) * bool(risk.reserves)),
    )
    body = [
        (
            f"−{then / 100:g} %",
            amount(first),
            f"{first / debt:.1%}" if debt else "–",
            amount(second),
            amount(third),
            amount(fallen.bad_debt_base),
            *((_times(_coverage(risk.reserves, fallen.bad_debt_base)),) * bool(risk.reserves)),
        )
        for (then, first, second, third), (_, fallen) in zip(_within(risk), risk.falls, strict=True)
    ]
    lines += [table(Table(head, tuple(body))), ""]
    lines += wrap(_kinds(risk, amount), width)
    lines += _reversed(risk, amount, fall, prices, width)
    if found:
        head = ("account", "debt", "collateral", "health", "to liquidation", "toxicity", "insolvency", "is")
        largest = sorted(found, key=lambda one: (-one.debt, one.account))[:shown]
        body = [
            (
                risk.market.accounts[one.account],
                amount(one.debt),
                amount(one.collateral),
                f"{one.health / WAD:.4f}",
                fall(one.liquidation),
                fall(one.toxicity),
                fall(one.insolvency),
                one.kind,
            )
            for one in largest
        ]
        lines += ["", table(Table(head, tuple(body)))] if body else []
    return "\n".join([*lines, "", *wrap(" ".join(risk.said), width)]) + "\n"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} times"


def _kinds(risk: BookRisk, amount: Any) -> str:
    kinds = {one.kind: one for one in insolvent(risk.accounts)}
    first = kinds["type I"]
    text = (
        f"Insolvent now: {first.accounts:,} of type I (owe {amount(first.debt)}, {amount(first.short)} beyond"
        " collateral)"
    )
    if risk.cost is None:
        return text + "; type II and dust need the cost of closing an account (--cost)."
    second, dust = kinds["type II"], kinds["dust"]
    return (
        f"{text}, {second.accounts:,} of type II (owe {amount(second.debt)}: what is left does not pay for closing"
        f" them), {dust.accounts:,} dust (owe {amount(dust.debt)})."
    )


def _reversed(risk: BookRisk, amount: Any, fall: Any, prices: Any, width: int) -> list[str]:
    if risk.reserves is None:
        return ["Reverse stress needs reserves (--reserves)."]
    if risk.least is not None and not risk.least.fall:
        lines = wrap(
            f"Reserves of {amount(risk.reserves)} do not cover what there is already, where no price falls: bad debt"
            f" {amount(risk.least.bad_debt)}.",
            width,
        )
    elif risk.least is None:
        lines = ["No fall together leaves more bad debt than reserves."]
    else:
        one = risk.least
        lines = wrap(
            f"Reserves of {amount(risk.reserves)} do not cover a fall together of {fall(one.fall)}: bad debt"
            f" {amount(one.bad_debt)} ({amount(one.before)} one basis point before).",
            width,
        )
    if risk.everywhere is None:
        return lines
    proof = []
    if risk.excluded is not None:
        apart = math.floor(risk.excluded * 10_000) / 10_000
        proof = wrap(
            f"No move of these prices smaller than {apart:.4f}, in whatever direction, is enough: proven by bounds.",
            width,
        )
    if not risk.everywhere.found:
        return [
            *lines,
            f"Nor does any of {risk.everywhere.starts} ways of {len(risk.searched)} prices that were searched.",
            *proof,
        ]
    lines += wrap(
        f"The smallest moves found over all directions of {len(risk.searched)} prices"
        f" ({risk.everywhere.starts} ways searched, {risk.everywhere.reached} go beyond; size: length of log changes):",
        width,
    )
    return [
        *lines,
        *(f"  {one.size:.4f}: {prices(one)}: bad debt {amount(one.bad_debt)}" for one in risk.everywhere.found),
        *proof,
    ]
