"""Who pays for debt that is written off: funds in their order, then the suppliers of what was lent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from backtest import scenario as config
from backtest.model import AssetId
from backtest.replay.record import MitigationEffect, Replay
from backtest.units import BPS

UNPAID = "unpaid"


def payments(result: Replay[Any], mitigations: Sequence[config.Mitigation]) -> Iterator[MitigationEffect]:
    """What each fund paid of the deficits of the scenario's blocks, in their order, at the oracle's price of each; what
    is left is shared by suppliers where the scenario says so, by asset, or stays unpaid. Nothing of it changes accounts
    here. Sums are the deficits', exactly.
    """
    funds = {place: each for place, each in enumerate(mitigations) if isinstance(each, config.ReserveFund)}
    shared = next((place for place, each in enumerate(mitigations) if isinstance(each, config.SocialisedLoss)), None)
    if not funds and shared is None:
        return
    left = {place: fund.reserve for place, fund in funds.items()}
    paid: dict[int, list[int]] = {place: [] for place in funds}
    rest: dict[AssetId, list[int]] = {}
    first = result.from_clock.block_number
    fees = [(made.ordinal, made.protocol_fee_base) for made in result.liquidations if made.clock.block_number >= first]
    for deficit in result.deficits:
        if deficit.clock.block_number < first:
            continue
        while fees and fees[0][0] < deficit.liquidation:
            _, fee = fees.pop(0)
            for place, fund in funds.items():
                left[place] += fee * fund.fee_share // BPS
        owed = deficit.amount_base
        for place in funds:
            part = min(owed, left[place])
            if part:
                left[place], owed = left[place] - part, owed - part
                paid[place].append(part)
        if owed:
            rest.setdefault(deficit.asset, []).append(owed)
    for place, fund in funds.items():
        parts = paid[place]
        yield MitigationEffect(
            place=place, kind=fund.kind, effect="paid", detail=fund.name, number=len(parts), value_base=sum(parts)
        )
    last = len(mitigations) - 1 if shared is None else shared
    for asset, parts in sorted(rest.items()):
        yield MitigationEffect(
            place=last,
            kind=mitigations[last].kind,
            effect=UNPAID if shared is None else "shared",
            detail=result.book.market.label(asset),
            number=len(parts),
            value_base=sum(parts),
        )


def haircut_up(loss_base: int, supplied_base: int) -> int:
    """What suppliers of an asset lose of it, basis points, rounded up; all where nothing is supplied."""
    return min(BPS, -(-loss_base * BPS // supplied_base)) if supplied_base else BPS
