"""The oracle's path of a market of a lake, derived from what the chain accepted; or, where the oracle is known, the
book held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.calibration.oracle import Derived, Moment, derive, patience_of, set_apart
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.model import AccountId, Asset, AssetId, Market
from backtest.prices.imported import IN_SAMPLE, STAND_IN
from backtest.prices.proxy import HOP
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay.accepted import Bound, Kind, accepted_bounds
from backtest.replay.forecast import PriceRanges, look_ahead
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline, require_current
from backtest.scenario import Competitive
from backtest.validation import contradictions, happened, venue_steps

COLUMNS = (
    "asset",
    "timestamp",
    "period",
    "price",
    "low",
    "high",
    "venue_price",
    "venue_low",
    "venue_high",
    *(f"{end}_{what}" for end in ("low", "high") for what in ("by", "account", "block", "log_index")),
    "conflict",
    "label",
)
"""Of the file that ``rows`` become: one row a step. Prices in whole units of the base currency, exact."""


@dataclass(frozen=True, slots=True)
class Path:
    """One asset's. ``patience``: seconds that an account has to stand for, None where nothing was liquidated;
    ``untold``: what happened and bounds nothing, by kind.
    """

    market: Market
    asset: Asset
    derived: Derived
    patience: int | None
    untold: Mapping[Kind, int]

    def rows(self) -> Iterator[dict[str, Any]]:
        """See ``COLUMNS``; None where there is nothing."""
        digits = self.market.price_decimals or self.market.base_decimals

        def text(price: int | None) -> str | None:
            return None if price is None else f"{price // 10**digits}.{price % 10**digits:0{digits}d}"

        for step in self.derived.steps:
            moment = step.moment
            low, high = moment.venue or (None, None)
            row = {
                "asset": self.asset.asset,
                "timestamp": moment.time,
                "period": moment.period,
                "price": text(step.price),
                "low": text(step.low),
                "high": text(step.high),
                "venue_price": text(moment.proxy),
                "venue_low": text(low),
                "venue_high": text(high),
            }
            for end, bound in (("low", step.low_by), ("high", step.high_by)):
                row |= {
                    f"{end}_by": bound.what if bound else "venue" if row[end] is not None else None,
                    f"{end}_account": self.market.accounts[bound.account] if bound else None,
                    f"{end}_block": bound.clock.block_number if bound else None,
                    f"{end}_log_index": bound.clock.log_index if bound else None,
                }
            yield row | {"conflict": step.conflict or None, "label": IN_SAMPLE}


@dataclass(frozen=True, slots=True)
class Held:
    """A known oracle of an asset against the book: how many bounds of each kind there are, and which it breaks."""

    market: Market
    asset: Asset
    bounds: Mapping[Kind, int]
    broken: Sequence[Bound]


def paths(lake: Lake, market: str, *, patience: int | None = None, to_block: int | None = None) -> list[Path | Held]:
    """Of every asset of a market that the protocol can bound.

    Args:
        patience: seconds that an account has to stand for to say something; None: what 95 % of the market's own
            liquidations took.
        to_block: the last block.

    Raises:
        UserError: the canonical tables are stale, or the protocol says of no account when it would pass its check.
    """
    require_current(lake, market)
    protocol, described = protocol_named(lake.market_config(market).protocol), load_market(lake, market)
    timeline = load_timeline(lake, market)
    last = timeline.last_known_block(to_block)
    venue = venue_steps(lake, market, protocol.oracle_delay)
    ranges = {
        asset: PriceRanges([step.timestamp for step, _ in steps], [bounds for _, bounds in steps])
        for asset, steps in venue.items()
    }
    contradicted: dict[AccountId, str] | None = None
    found: list[Path | Held] = []
    for asset in described.assets:
        if asset.id not in venue:
            known = _known(lake, market, asset.id)
            held = _held(protocol, described, timeline, asset, ranges, last) if known else None
            found += [held] if held is not None and any(held.bounds.values()) else []
            continue
        if contradicted is None:
            ahead = look_ahead(protocol, described, timeline, Competitive(), ranges, to_block=last)
            named = contradictions(described, ahead, happened(lake, described, ahead))
            ids = {name: AccountId(number) for number, name in enumerate(described.accounts)}
            contradicted = {ids[name]: why for name, why in named.items()}
        moments = _moments(venue[asset.id], timeline, last)
        times = [moment.time for moment in moments]

        accepted = accepted_bounds(protocol, described, timeline, asset.id, times, ranges, standing=True, to_block=last)
        waited = patience_of(accepted.bounds) if patience is None else patience
        if not accepted.bounds:
            continue
        apart = set_apart(accepted.bounds, moments, contradicted)
        found.append(Path(described, asset, derive(moments, accepted.bounds, apart, waited), waited, accepted.untold))
    if not found:
        raise UserError(
            f"nothing in market '{market}' bounds an oracle's price",
            f"the rules of {protocol.name} tell it of no account, or nothing was borrowed, withdrawn or liquidated",
        )
    return found


def _known(lake: Lake, market: str, asset: AssetId) -> bool:
    """Whether an asset's oracle moves and none of its prices stands in for it."""
    table = lake.read("canonical/prices", market, columns=["asset_id", "method"])
    methods = set(table.filter(pc.equal(table["asset_id"], asset))["method"].cast(pa.string()).to_pylist())
    return bool(methods - {"fixed"}) and methods.isdisjoint(STAND_IN)


def _held(
    protocol: LendingProtocol[Any],
    market: Market,
    timeline: Timeline,
    asset: Asset,
    ranges: Mapping[AssetId, PriceRanges],
    last: int,
) -> Held:
    accepted = accepted_bounds(protocol, market, timeline, asset.id, [0], ranges, standing=False, to_block=last)
    counts: dict[Kind, int] = dict.fromkeys(accepted.untold, 0)
    for bound in accepted.bounds:
        counts[bound.kind] += 1
    return Held(
        market,
        asset,
        counts,
        [bound for bound in accepted.bounds if bound.said is None or not bound.allows(bound.said)],
    )


def _moments(steps: Sequence[tuple[Any, tuple[int, int] | None]], timeline: Timeline, last: int) -> list[Moment]:
    """Steps from the one in force at the first known block on to the last block's."""
    first = int(timeline.timestamps[0])
    end = int(timeline.timestamps[timeline.blocks.searchsorted(last)])
    ends = [step.timestamp for step, _ in steps[1:]] + [steps[-1][0].timestamp + HOP]
    return [
        Moment(step.timestamp, until - step.timestamp, step.price, bounds)
        for (step, bounds), until in zip(steps, ends, strict=True)
        if until > first and step.timestamp <= end
    ]
