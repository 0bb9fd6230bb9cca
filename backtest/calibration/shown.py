"""What a window shows of its liquidations: of history and of a model's replay alike, so that one can be held against
the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from backtest.calibration.fitting import Floats
from backtest.model import AccountId
from backtest.replay.forecast import Alarm
from backtest.replay.record import Horizon, Liquidation, Spell
from backtest.units import WAD

WITHIN = 3_600
"""Liquidations of one account at most this many seconds apart are one episode."""

Stretches = dict[AccountId, list[tuple[int, int]]]
"""When each account was on offer: (from, to) in seconds, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Money in units of the base currency, times in seconds.

    A delay is from the first moment at which an account was on offer to the first liquidation of its episode.
    """

    liquidations: float
    accounts: float
    """That were liquidated."""
    repaid: float
    loss: float
    """What borrowers gave beyond the debt repaid."""
    bad_debt: float
    """Written off, or open at the end."""
    median_delay: float
    long_delay: float
    """The 90th percentile."""
    at_once: float
    """The share of episodes without any delay."""
    calls: float
    """Liquidations an episode: more where they take little at a time."""
    healed: float
    """The share of liquidations after which the account was safe."""
    size: float
    """The median debt repaid by one."""
    concentration: float
    """Of liquidators: the sum of their squared shares of the debt repaid (Herfindahl-Hirschman), one where it is
    one.
    """
    missed: float
    """Accounts that were on offer and never liquidated."""


NAMES = tuple(field.name for field in fields(Shown))
SHARES = frozenset({"at_once", "healed", "concentration"})
"""From 0 to 1; all else is compared on the scale of log(1 + x)."""
RATED = ("liquidations", "repaid", "loss")
"""What a rate model says something about (``hourly``)."""


def vector(shown: Shown) -> Floats:
    """On the scale that distances are taken on."""
    return np.array([getattr(shown, name) if name in SHARES else np.log1p(getattr(shown, name)) for name in NAMES])


def plain(name: str, value: float) -> float:
    """The value of a measure from that scale."""
    return value if name in SHARES else float(np.expm1(value))


def stretches_of(alarms: Iterable[Alarm]) -> Stretches:
    """When history's own book had accounts on offer."""
    found: Stretches = {}
    for alarm in alarms:
        own = found.setdefault(alarm.account, [])
        if own and own[-1][1] >= alarm.clock.timestamp:
            own[-1] = own[-1][0], alarm.until
        else:
            own.append((alarm.clock.timestamp, alarm.until))
    return found


def stretches_in(spells: Iterable[Spell]) -> Stretches:
    """When a replay's accounts were on offer, as far as taking them paid anything: from an opportunity's first look to
    its last.
    """
    whole: dict[int, tuple[AccountId, int, int]] = {}
    for spell in spells:
        if spell.profit_base > 0:
            _, begins, ends = whole.get(spell.opportunity, (spell.account, spell.begins.timestamp, 0))
            times = min(begins, spell.begins.timestamp), max(ends, spell.ends.timestamp)
            whole[spell.opportunity] = spell.account, *times
    found: Stretches = {}
    for account, begins, ends in sorted(whole.values(), key=lambda each: each[1:]):
        found.setdefault(account, []).append((begins, ends))
    return found


def waited(stretches: Mapping[AccountId, Sequence[tuple[int, int]]], liquidations: Iterable[Liquidation]) -> int:
    """Seconds for which accounts stood on offer, all together; a stretch ends with the liquidation in it."""
    taken: dict[AccountId, list[int]] = {}
    for made in liquidations:
        taken.setdefault(made.fill.order.account, []).append(made.clock.timestamp)
    return sum(
        min([end, *(time for time in taken.get(account, ()) if start <= time)]) - start
        for account, own in stretches.items()
        for start, end in own
    )


def shown(
    liquidations: Iterable[Liquidation],
    stretches: Mapping[AccountId, Sequence[tuple[int, int]]],
    horizon: Horizon,
    *,
    unit: int,
) -> Shown:
    """Of a window's liquidations in order, and of its end. ``unit``: base units of one unit of the base currency."""
    taken = [made for made in liquidations if made.takes]
    by_account: dict[AccountId, list[int]] = {}
    by_taker: dict[AccountId, int] = {}
    for made in taken:
        by_account.setdefault(made.fill.order.account, []).append(made.clock.timestamp)
        taker = made.fill.order.liquidator
        by_taker[taker] = by_taker.get(taker, 0) + made.repaid_base
    delays: list[float] = []
    for account, times in by_account.items():
        begins = [times[0], *(later for time, later in pairwise(times) if later - time > WITHIN)]
        delays += [_delay(stretches.get(account, ()), time) for time in begins]
    repaid = sum(by_taker.values())
    safe = [made.health_after is None or made.health_after >= WAD for made in taken]
    return Shown(
        liquidations=len(taken),
        accounts=len(by_account),
        repaid=repaid / unit,
        loss=max(0, sum(made.seized_base - made.repaid_base for made in taken)) / unit,
        bad_debt=(horizon.realised_bad_debt_base + horizon.open_bad_debt_base) / unit,
        median_delay=float(np.median(delays)) if delays else 0.0,
        long_delay=float(np.quantile(delays, 0.9)) if delays else 0.0,
        at_once=float(np.mean([delay == 0 for delay in delays])) if delays else 0.0,
        calls=len(taken) / len(delays) if delays else 0.0,
        healed=float(np.mean(safe)) if safe else 0.0,
        size=float(np.median([made.repaid_base for made in taken])) / unit if taken else 0.0,
        concentration=sum((part / repaid) ** 2 for part in by_taker.values()) if repaid else 0.0,
        missed=len(stretches.keys() - by_account.keys()),
    )


def _delay(stretches: Sequence[tuple[int, int]], time: int) -> float:
    """Since the account is on offer, at ``time``: its last stretch that began by then. None known: at once."""
    return float(time - max((start for start, end in stretches if start <= time <= end), default=time))


def hourly(liquidations: Iterable[Liquidation], start: int, seconds: int, *, unit: int) -> list[tuple[float, ...]]:
    """Of each hour of a window from ``start`` on, what ``RATED`` names: liquidations, debt repaid, borrowers' loss."""
    hours = [(0.0, 0.0, 0.0)] * max(1, -(-seconds // 3_600))
    for made in liquidations:
        if made.takes:
            at = min(len(hours) - 1, max(0, made.clock.timestamp - start) // 3_600)
            count, repaid, loss = hours[at]
            gone = max(0, made.seized_base - made.repaid_base)
            hours[at] = count + 1, repaid + made.repaid_base / unit, loss + gone / unit
    return list(hours)
