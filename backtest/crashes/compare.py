"""Ours beside what was reported, in words: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from backtest.crashes.catalogue import Crash, Measure, Reported

MEASURES: Mapping[Measure, str] = {
    "repaid": "debt repaid at oracle prices",
    "seized": "collateral taken at oracle prices, the protocol's fee included",
    "bad_debt": "debt written off, and debt beyond collateral at the end of the window",
    "liquidations": "liquidation calls",
    "accounts": "accounts liquidated",
}


@dataclass(frozen=True, slots=True)
class Ours:
    """What two replays of a market say, by measure: whole units of its currency, or counts. ``stands_for``: the market
    of the catalogue that it is, or is put in the place of; ``blocks`` and ``times``: the window, in words.
    """

    market: str
    stands_for: str
    currency: str
    blocks: str
    times: str
    history: Mapping[str, Decimal]
    baseline: Mapping[str, Decimal]


def beside(crash: Crash, ours: Sequence[Ours]) -> list[str]:
    """Lines: each reported figure, ours, and how they differ."""
    out = []
    for told in crash.reported:
        out += ["", *reported_lines(told)]
        found = [one for one in ours if one.stands_for in told.markets]
        if told.measure is None:
            out.append("  ours      none: a replay of a market here does not tell it")
        elif not found:
            out.append(f"  ours      none: no market of its scope is at hand ({', '.join(told.markets)})")
        else:
            out += _compared(told, found)
    return out


def reported_lines(told: Reported) -> list[str]:
    """A figure, and what it is."""
    return [
        f"{told.what}",
        f"  reported  {told.number:,f} {told.unit}: {told.definition}; {told.scope}; {told.period} ({told.source},"
        f" {told.tag})",
    ]


def _compared(told: Reported, found: Sequence[Ours]) -> list[str]:
    assert told.measure is not None
    counted = told.measure in ("liquidations", "accounts")
    currencies = list(dict.fromkeys(one.currency for one in found))
    out = []
    for currency in [""] if counted else currencies:
        some = [one for one in found if counted or one.currency == currency]
        history, baseline = (
            sum((values[told.measure] for values in each), Decimal(0))
            for each in ([one.history for one in some], [one.baseline for one in some])
        )
        unit = f" {currency}" if currency else ""
        places = 0 if counted else 2
        of = ", ".join(one.market for one in some)
        out.append(f"  ours      history {history:,.{places}f}{unit}, baseline {baseline:,.{places}f}{unit} ({of})")
    covered = {one.stands_for for one in found}
    absent = [market for market in told.markets if market not in covered]
    out.append(f"  differs   what: {told.definition}; ours: {MEASURES[told.measure]}")
    where = ", ".join(f"{one.market} alone" if len(found) == 1 else one.market for one in found)
    lacking = f"; not {', '.join(absent)}" if absent else ""
    out.append(f"            where: {told.scope}; ours: {where}{lacking}")
    out.append(f"            when: {told.period}; ours: {'; '.join(f'{one.blocks} ({one.times})' for one in found)}")
    for one in found:
        if one.market != one.stands_for:
            out.append(f"            {one.market} stands in the place of {one.stands_for}, at your word")
    if not counted and currencies != [told.unit]:
        out.append(f"            unit: {told.unit}; ours: {', '.join(currencies)}")
    return out
