"""What a price source answers: the rule of each kind of source, in exact integers, once for fetch (which checks it) and
for prices.

Answers are signed integers in the source's own decimals, as ``latestAnswer()`` returns them. A market's oracle takes an
answer above zero as the price and else asks a fallback that is usually absent and reverts (aave-v3-core and
aave-v3-origin, ``misc/AaveOracle.sol`` ``getAssetPrice``, all versions); no source is checked for staleness.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.units import BPS, SECONDS_PER_YEAR

FEED, FIXED, CAPPED_FEED, CAPPED_RATIO, CROSS, DISCOUNTED, QUOTIENT, SAMPLED = (
    "feed",
    "fixed",
    "capped-feed",
    "capped-ratio",
    "cross",
    "discounted",
    "quotient",
    "sampled",
)
GROWTH_SCALE = 10**6
ZERO_ADDRESS = "0x" + "00" * 20

Values = Callable[[str, str], int]


class Unknown(Exception):
    """An input of a source's rule is not known: (address, name)."""


class Reverts(Exception):
    """An input of a source reverts, and so the source: (address, name)."""


@dataclass(frozen=True, slots=True)
class Source:
    """One price source: a row of ``raw/oracle/Source``. Addresses are lower-case 0x text.

    ``parameters`` by kind: feed ``proxy`` (bool); fixed ``constant`` (an answer that is in the code) or nothing;
    capped-feed ``feed``; capped-ratio ``feed``, ``ratio_decimals``, ``scaled`` and, where the ratio is itself a feed's
    answer, ``ratio_feed``; cross ``asset_to_peg``, ``peg_to_base``, ``numerator``, ``denominator``; discounted
    ``feed``, ``maturity``; quotient ``base`` and ``quote`` (lists of feeds), ``scale``; sampled ``feeds``, ``reason``,
    and ``proxy`` where it is a feed proxy of an unknown rule.
    """

    address: str
    kind: str
    description: str
    decimals: int | None
    parameters: Mapping[str, Any]

    @property
    def feeds(self) -> tuple[str, ...]:
        """The sources that this one reads, in a fixed order."""
        if self.kind == SAMPLED:
            return tuple(self.parameters["feeds"])
        if self.kind == QUOTIENT:
            return (*self.parameters["base"], *self.parameters["quote"])
        return tuple(
            self.parameters[name]
            for name in ("feed", "ratio_feed", "asset_to_peg", "peg_to_base")
            if name in self.parameters
        )

    @property
    def parameters_json(self) -> str:
        """The parameters as stored."""
        return json.dumps(self.parameters, sort_keys=True, separators=(",", ":"))


def parse_source(address: str, kind: str, description: str, decimals: int | None, parameters: str) -> Source:
    """The inverse of storing a ``Source`` in ``raw/oracle/Source``."""
    return Source(address, kind, description, decimals, json.loads(parameters))


def capped_feed_answer(feed: int, price_cap: int) -> int:
    """The feed's answer, at most ``price_cap``; 0 where the feed has none (aave-capo, ``PriceCapAdapterStable.sol``
    ``latestAnswer``).
    """
    if feed > price_cap:
        return price_cap
    return max(feed, 0)


def max_ratio(snapshot_ratio: int, elapsed: int, growth_percent: int, scaled: bool) -> int:
    """The highest ratio that a cap lets through ``elapsed`` seconds after its snapshot; ``growth_percent`` is basis
    points a year.

    The first version of aave-capo ``PriceCapAdapterBase.sol`` keeps the growth per second as a whole number; the later
    one (``scaled``) keeps six more digits, which its event does not show, so the growth is computed from the snapshot
    in both.
    """
    if scaled:
        growth = snapshot_ratio * growth_percent * GROWTH_SCALE // BPS // SECONDS_PER_YEAR
        return snapshot_ratio + growth * elapsed // GROWTH_SCALE
    return snapshot_ratio + snapshot_ratio * growth_percent // BPS // SECONDS_PER_YEAR * elapsed


def capped_ratio_answer(base: int, ratio: int, limit: int, ratio_decimals: int) -> int:
    """Base price times the ratio or its limit, rounded down; 0 where one is missing (aave-capo,
    ``PriceCapAdapterBase.sol`` ``latestAnswer``).
    """
    if base <= 0 or ratio <= 0:
        return 0
    return base * min(ratio, limit) // int(10**ratio_decimals)


def cross_answer(asset_to_peg: int, peg_to_base: int, numerator: int, denominator: int) -> int:
    """asset/peg times peg/base, rounded down; 0 where one is missing
    (cl-synchronicity-price-adapter, ``CLSynchronicityPriceAdapterPegToBase.sol`` ``latestAnswer``)."""
    if asset_to_peg <= 0 or peg_to_base <= 0:
        return 0
    return asset_to_peg * peg_to_base * numerator // denominator


def discount_bps(maturity: int, now: int, max_discount: int) -> int:
    """The discount at ``now`` in basis points, falling to 0 at maturity (aave-capo, ``PendlePriceCapAdapter.sol``
    ``getCurrentDiscount``).
    """
    return max(maturity - now, 0) * max_discount // SECONDS_PER_YEAR


def discounted_answer(feed: int, discount: int) -> int:
    """The feed's answer less the discount, which is rounded down; 0 where the feed has none
    (aave-capo, ``PendlePriceCapAdapter.sol`` ``latestAnswer``)."""
    if feed <= 0:
        return 0
    return feed - feed * discount // BPS


def quotient_answer(scale: int, base: Sequence[int], quote: Sequence[int]) -> int:
    """``scale`` times the product of the base feeds over that of the quote feeds, rounded down; ValueError where the
    oracle reverts (morpho-blue-oracles, ``MorphoChainlinkOracleV2.sol`` ``price``: a negative answer, or nothing to
    divide by).
    """
    if min((*base, *quote), default=0) < 0 or 0 in quote:
        raise ValueError("a feed's answer is negative, or a quote feed's is zero")
    return scale * math.prod(base) // math.prod(quote)


def answer(source: Source, sources: Mapping[str, Source], values: Values, now: int) -> tuple[int, int | None]:
    """What ``latestAnswer()`` (of a quotient: ``price()``) of a source returns in a block with timestamp ``now``.

    Args:
        sources: every source by address.
        values: current value of (address, name), names as in ``raw/oracle/State``; a feed's answer is asked of the feed
            itself.

    Returns: the answer, and the timestamp from which it may differ although no input changes (None: never).

    Raises:
        Unknown: an input is not known, or the rule is not (kind ``sampled``).
        Reverts: the call would revert.
    """
    own, address = source.parameters, source.address
    if source.kind == FEED:
        return values(address, "answer"), None
    if source.kind == FIXED:
        return int(own["constant"]) if "constant" in own else values(address, "price"), None
    if source.kind == SAMPLED:
        raise Unknown(address, "rule")
    inputs = [answer(sources[feed], sources, values, now) for feed in source.feeds]
    due = min((due for _, due in inputs if due is not None), default=None)
    feeds = [value for value, _ in inputs]
    if source.kind == CAPPED_FEED:
        return capped_feed_answer(feeds[0], values(address, "price_cap")), due
    if source.kind == CROSS:
        return cross_answer(feeds[0], feeds[1], own["numerator"], own["denominator"]), due
    if source.kind == QUOTIENT:
        try:
            return quotient_answer(int(own["scale"]), feeds[: len(own["base"])], feeds[len(own["base"]) :]), due
        except ValueError:
            raise Reverts(address, "price") from None
    if source.kind == CAPPED_RATIO:
        elapsed = now - values(address, "snapshot_timestamp")
        ratio = feeds[1] if "ratio_feed" in own else values(address, "ratio")
        if elapsed < 0:
            raise Reverts(address, "snapshot_timestamp")
        limit = max_ratio(
            values(address, "snapshot_ratio"), elapsed, values(address, "max_growth_percent"), own["scaled"]
        )
        # A limit that binds grows every second; one that does not can only move away.
        return capped_ratio_answer(feeds[0], ratio, limit, own["ratio_decimals"]), now + 1 if ratio > limit else due
    discount = discount_bps(own["maturity"], now, values(address, "max_discount"))
    if discount > 0:
        step = own["maturity"] - (discount * SECONDS_PER_YEAR - 1) // values(address, "max_discount")
        due = step if due is None else min(step, due)
    return discounted_answer(feeds[0], discount), due
