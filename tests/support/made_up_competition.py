"""Made-up opportunities, bids and waterfalls around made-up liquidations: nothing in them was replayed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
SEARCHERS = ("alpha", "beta", "gamma", "delta")
REASONS = ("unprofitable", "gas above caps", "no capital", "not included")
SOURCES = ("bonus", "basis", "reward")
USES = (
    "protocol_fee",
    "slippage",
    "sandwich",
    "gas",
    "funding",
    "private",
    "bid",
    "protocol_share",
    "oracle_share",
    "rent",
)
BLOCK = 12


def competition(draw: random.Random, hits: Sequence[Row], run: Row) -> dict[str, list[Row]]:
    """Rows of ``run_opportunities``, ``run_bids`` and ``run_waterfalls`` for these liquidations and for as many
    opportunities that nobody took.

    Half of the liquidations were missed before, some for two reasons; the last one made no bid row, as one that happens
    anyway.
    """
    spells: list[Row] = []
    bids: list[Row] = []
    waterfalls: list[Row] = []
    for number, hit in enumerate(hits):
        missed = _missed(draw, number, hit, draw.choice((0, 0, 1, 2)))
        spells += [*missed, _spell(number, hit, hit["timestamp"], hit["timestamp"], "taken", "", hit["ordinal"])]
        contest = [] if number == len(hits) - 1 else _contest(draw, number, hit)
        bids += contest
        price = next((bid["paid_base"] for bid in contest if bid["won"]), 0)
        waterfalls.append(_waterfall(draw, hit, price))
    for number, hit in enumerate(hits, len(hits)):
        spells += _missed(draw, number, hit, draw.choice((1, 2)))
        if ending := draw.choice(("owner acted", "price back", "")):
            spells.append(
                _spell(number, hit, hit["timestamp"] + 5 * BLOCK, hit["timestamp"] + 5 * BLOCK, "expired", ending, None)
            )
    for place, spell in enumerate(spells):
        spell |= {
            "spell": place,
            "from_block": _block(spell["from_timestamp"], run),
            "to_block": _block(spell["to_timestamp"], run),
        }
    return {"run_opportunities": spells, "run_bids": bids, "run_waterfalls": waterfalls}


def _block(timestamp: int, run: Row) -> int:
    first: int = run["from_block"]
    return first + (timestamp - int(run["from_timestamp"])) // BLOCK


def _missed(draw: random.Random, number: int, hit: Row, spells: int) -> list[Row]:
    """Up to so many stretches before the liquidation, each for another reason; some in one and the same block."""
    begins = max(1_583_971_200, hit["timestamp"] - draw.choice((0, BLOCK, 40 * BLOCK, 900 * BLOCK)))
    return [
        _spell(number, hit, begins, begins, "missed", reason, None, looks=draw.randrange(1, 9))
        for reason in draw.sample(REASONS, spells)
    ]


def _spell(
    number: int, hit: Row, begins: int, ends: int, ending: str, reason: str, ordinal: int | None, looks: int = 1
) -> Row:
    offer = {
        key: hit[key] for key in ("account", "debt_asset", "collateral_asset", "repaid", "repaid_base", "seized_base")
    }
    worth = 1 if ending != "missed" else 1 + len(reason) % 3  # stretches differ in what they offer
    profit = hit["profit_base"] * (-1 if reason == "unprofitable" else 1)
    return {
        **offer,
        "opportunity": number,
        "from_timestamp": begins,
        "to_timestamp": ends,
        "looks": looks,
        "repaid_base": offer["repaid_base"] * worth,
        "profit_base": profit,
        "ending": ending,
        "reason": reason,
        "ordinal": ordinal,
    }


def _contest(draw: random.Random, number: int, hit: Row) -> list[Row]:
    """Bids of one to four searchers; one alone bids nothing, and now and then nobody bids more."""
    there = draw.sample(SEARCHERS, draw.randrange(1, 5))
    value = hit["profit_base"] - draw.randrange(hit["profit_base"] // 3)
    bids = [
        (
            0
            if len(there) == 1 or draw.random() < 0.1
            else value * draw.randrange(50, 100) * (len(there) - 1) // (100 * len(there))
        )
        for _ in there
    ]
    best = bids.index(max(bids))
    gas = draw.choice((0, 10**8))
    return [
        {
            "opportunity": number,
            "ordinal": hit["ordinal"],
            "timestamp": hit["timestamp"],
            "searcher": name,
            "value_base": value,
            "bid_base": bid,
            "paid_base": bid if place == best else gas,
            "won": place == best,
        }
        for place, (name, bid) in enumerate(zip(there, bids, strict=True))
    ]


def _waterfall(draw: random.Random, hit: Row, price: int) -> Row:
    """Sums to the last unit; the basis is negative now and then, and so is the rent."""
    fee = hit["protocol_fee_base"]
    sources = {
        "bonus": hit["profit_base"] + fee,
        "basis": draw.randrange(-(10**9), 10**9),
        "reward": draw.choice((0, 10**7)),
    }
    uses: Mapping[str, int] = {
        "protocol_fee": fee,
        "slippage": hit["repaid_base"] // 200,
        "sandwich": draw.choice((0, 10**6)),
        "gas": draw.randrange(10**8, 10**9),
        "funding": hit["repaid_base"] // 2000,
        "private": draw.randrange(10**7),
        "bid": price,
        "protocol_share": 0,
        "oracle_share": 0,
    }
    parts = {**sources, **uses, "rent": sum(sources.values()) - sum(uses.values())}
    return {"ordinal": hit["ordinal"], **{f"{part}_base": amount for part, amount in parts.items()}}
