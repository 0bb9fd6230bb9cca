"""Who liquidates: history's liquidators, or a model of how they compete.

Amounts are base-currency units (1e8 = one US dollar on the main markets), gas prices wei, shares basis points.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from backtest.errors import ScenarioError
from backtest.scenario.base import Strict, at_least, plain, share
from backtest.units import BPS

MOST_SEARCHERS = 1_000
RESERVED = frozenset({"competitive", "front-runner"})
"""Names that results use for liquidators that are no searcher of a scenario."""


class Observed(Strict, frozen=True, tag_field="kind", tag="observed"):
    """Liquidators act exactly as in history."""


class Competitive(Strict, frozen=True, tag_field="kind", tag="competitive"):
    """Frictionless: after each price, index or parameter change the most profitable liquidation happens at once, until
    none pays.

    Profit is what stays after the scenario's costs; without any it is valued at oracle prices. Ties go to the lower
    account address.
    """

    gas_cost: int = 0
    """Cost of one call in base-currency units (1e8 = one US dollar on the main markets), beside ``costs``."""
    pair: Literal["most-profitable", "largest-debt", "largest-collateral"] = "most-profitable"
    """How the pair of one account is chosen."""
    settle: Literal["underlying", "collateral-token"] = "underlying"
    """Whether the liquidator takes the underlying or the protocol's collateral token."""
    max_calls: int = 10
    """Most calls per account and block."""
    looks: Literal["any-change", "price-update"] = "any-change"
    """After which transactions they look: those that change a price, an index or a parameter (and, while offers stand
    that did not pay or auctions are open, a market price or a pool), or those that change an oracle price only.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gas_cost < 0:
            raise ScenarioError(
                f"liquidators.gas_cost = {self.gas_cost} is negative", "give base-currency units, 0 or more"
            )
        if self.max_calls < 1:
            raise ScenarioError(f"liquidators.max_calls = {self.max_calls} lets nobody liquidate", "give 1 or more")


class Searcher(Strict, frozen=True):
    """One searcher, where they differ."""

    name: str
    """What tables call it."""
    gas_cap: int | None = None
    """Highest base fee (wei) at which it acts; None: any."""
    capital: int | None = None
    """Its own money, base units: it lends itself what it repays; None: it takes flash loans."""
    recycle: int = 3_600
    """Seconds until what it repaid is its own money again, the collateral being sold."""
    min_profit: int = 0
    """What an opportunity must leave at least, base units."""
    margin: int = 0
    """What it must leave at least, basis points of the debt repaid."""
    latency: int = 1_000
    """Mean milliseconds from an opportunity to its transaction; of ``latency-race``."""
    shows_up: int = 10_000
    """How probable it is that it looks at a block, basis points; of ``participation``."""
    stuck: int = 0
    """Seconds for which it is out once the base fee passed its cap while it had something to do: its transaction is
    stuck.
    """
    calls: int | None = None
    """Most liquidations that it makes in one block, in all markets together; None: any number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = f"liquidators.searchers '{self.name}'"
        if not self.name:
            raise ScenarioError("liquidators.searchers: one without a name", "name each of them")
        plain(self.name, "liquidators.searchers: name")
        for field in ("gas_cap", "capital", "recycle", "min_profit", "margin", "stuck"):
            if (getattr(self, field) or 0) < 0:
                raise ScenarioError(f"{where}: {field} is negative", "give 0 or more")
        at_least(1, liquidators__searchers__calls=self.calls)
        if self.latency < 1:
            raise ScenarioError(f"{where}: latency = {self.latency}", "give 1 millisecond or more")
        share(**{f"liquidators__searchers '{self.name}'__shows_up": self.shows_up})


class Contest(Strict, frozen=True):
    """What all models of competing searchers share."""

    searchers: int | tuple[Searcher, ...] = 5
    """How many there are, all alike; or each of them."""
    pair: Literal["most-profitable", "largest-debt", "largest-collateral", "any"] = "most-profitable"
    """How the pair of one account is chosen; ``any``: each time one of them at random, as whoever comes deals in it."""
    size: Literal["largest", "most-profitable"] = "largest"
    """They repay as much as the rules allow, or of that, its half, quarter and so on the part that pays most after
    slippage.
    """
    strategy: Literal["greedy", "two-step", "patient"] = "greedy"
    """Liquidate at once; first just so much that the account stays unhealthy, then by the close factor again (Qin et
    al.); or wait until all of the debt may be repaid.
    """
    front_run: int = 0
    """How probable it is that somebody copies the winner's transaction and takes it, basis points; the winner pays for
    a reverted call.
    """
    max_calls: int = 10
    """Most calls per account and block."""
    block_seconds: int = 12
    """Where something was left for the next block, how much later that is."""
    absent: int = 0
    """Share of the time for which a searcher is away altogether, basis points."""
    absence: int = 3_600
    """Seconds: whether it is away is drawn anew for each such stretch of time, so that an absence lasts this / (1 -
    absent) on average.
    """
    absent_together: bool = False
    """All searchers are away at the same time (a full network, a venue that stands still), not each on its own."""
    overlooked: int = 0
    """Share of accounts that nobody watches, basis points: they are on nobody's list, whatever they offer."""
    overlooked_for: int = 86_400
    """Seconds: whether an account is overlooked is drawn anew for each such stretch of time."""
    reaction: int = 0
    """Seconds between the moment at which an account comes on offer and the first at which anybody can act on it: a
    latency that nobody beats. An auction that opens anyway, and bids in it, are not held back.
    """
    partial: int = 0
    """How probable it is that a call asks for a part only of what the rules allow, each part alike, basis points."""
    looks: Literal["any-change", "price-update"] = "any-change"
    """After which transactions they look: those that change a price, an index or a parameter (and, while offers stand
    that did not pay or auctions are open, a market price or a pool), or those that change an oracle price only.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.searchers, int):
            if not 0 <= self.searchers <= MOST_SEARCHERS:
                raise ScenarioError(
                    f"liquidators.searchers = {self.searchers}", f"give a number from 0 to {MOST_SEARCHERS}"
                )
        elif taken := {searcher.name for searcher in self.searchers} & RESERVED:
            raise ScenarioError(
                f"liquidators.searchers: the name '{min(taken)}' has a meaning of its own", "give another"
            )
        elif len({searcher.name for searcher in self.searchers}) < len(self.searchers):
            raise ScenarioError("liquidators.searchers: a name appears twice", "give each a name of its own")
        share(liquidators__front_run=self.front_run, liquidators__absent=self.absent)
        share(liquidators__overlooked=self.overlooked, liquidators__partial=self.partial)
        at_least(1, liquidators__max_calls=self.max_calls, liquidators__block_seconds=self.block_seconds)
        at_least(1, liquidators__absence=self.absence, liquidators__overlooked_for=self.overlooked_for)
        at_least(0, liquidators__reaction=self.reaction)

    @property
    def each(self) -> tuple[Searcher, ...]:
        """Every searcher."""
        if isinstance(self.searchers, int):
            return tuple(Searcher(name=f"searcher-{number}") for number in range(1, self.searchers + 1))
        return self.searchers

    @property
    def said(self) -> str:
        """How they compete, in words, for those who read the results: no capital, no full stop."""
        return f"{len(self.each)} searchers compete for each opportunity"

    @property
    def away(self) -> str:
        """When they are away, in words; nothing where they never are."""
        if not self.absent:
            return ""
        lasts = (
            "for good"
            if self.absent >= BPS
            else f"for {self.absence / (1 - self.absent / BPS) / 3_600:.3g} hours on average"
        )
        who = "all of them at once" if self.absent_together else "each on its own"
        return f"they are away {self.absent / 100:g} % of the time, {lasts}, {who}"

    @property
    def habits(self) -> str:
        """How soon they can act, whom they overlook and how much they ask for, in words; nothing where that is at once,
        nobody and all there is.
        """
        said = []
        if self.reaction:
            said.append(f"nobody acts within {self.reaction} s of an account's coming on offer")
        if self.overlooked:
            said.append(
                f"{self.overlooked / 100:g} % of accounts are overlooked, for stretches of"
                f" {self.overlooked_for / 3_600:.3g} hours"
            )
        if self.partial:
            said.append(f"{self.partial / 100:g} % of calls ask for a part of what may be repaid")
        return "; ".join(said)


class PriorityGas(Contest, frozen=True, tag_field="kind", tag="priority-gas"):
    """A priority gas auction in the open: the winner pays little more than the second is willing to, losers pay for
    reverts.
    """

    bump: int = 1_250
    """By how much a replacement must raise a bid, basis points."""
    private_cost: int = 0
    """Each searcher has costs of its own, drawn evenly from 0 to this, base units."""
    revert_gas: int = 2_500
    """Gas of a reverted call, basis points of one that goes through."""
    cooperative: bool = False
    """They raise by the least step in turn (Daian et al.): the winner is one of them at random, at a bid of one bump
    over nothing.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        share(liquidators__bump=self.bump, liquidators__revert_gas=self.revert_gas)
        at_least(0, liquidators__private_cost=self.private_cost)

    @property
    @override
    def said(self) -> str:
        lost = f"losers pay {self.revert_gas / 100:g} % of a call's gas"
        steps = ", and raise by the least step in turn" if self.cooperative else ""
        return f"{len(self.each)} searchers outbid each other in the open; {lost}{steps}"


class SealedBid(Contest, frozen=True, tag_field="kind", tag="sealed-bid"):
    """Sealed first-price bids to block builders: searchers value an opportunity alike but for private costs, and shade
    their bids.
    """

    private_cost: int = 0
    """Each searcher has costs of its own, drawn evenly from 0 to this, base units."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, liquidators__private_cost=self.private_cost)

    @property
    @override
    def said(self) -> str:
        return (
            f"{len(self.each)} searchers bid sealed to block builders, each by the equilibrium of evenly distributed"
            " private costs"
        )


class Participation(Contest, frozen=True, tag_field="kind", tag="participation"):
    """Nobody knows who else looks: a random number of searchers shows up at each block; alone one bids nothing, several
    bid all of it away.
    """

    distribution: Literal["poisson", "negative-binomial", "searchers"] = "poisson"
    """Of the number that shows up; ``searchers``: each by its own ``shows_up``. Of the first two the most is the number
    of searchers.
    """
    mean: int = 17_800
    """Mean number, in ten-thousandths (17800 = 1.78)."""
    dispersion: int = 10_000
    """Of a negative binomial: its size parameter, in ten-thousandths; the smaller, the more often nobody comes."""
    reserve: int = 0
    """Least bid, basis points of what an opportunity is worth."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, liquidators__mean=self.mean)
        at_least(1, liquidators__dispersion=self.dispersion)
        share(liquidators__reserve=self.reserve)

    @property
    @override
    def said(self) -> str:
        mean = (
            "each by its own probability"
            if self.distribution == "searchers"
            else f"{self.distribution} with mean {self.mean / 10_000:g}"
        )
        return (
            f"of {len(self.each)} searchers a random number looks at a block ({mean}); alone one bids"
            f" {self.reserve / 100:g} %, several the second highest value"
        )


class LatencyRace(Contest, frozen=True, tag_field="kind", tag="latency-race"):
    """First come, first served (rollups): the fastest transaction wins and bids nothing; who has the express lane
    starts ahead and paid for it.
    """

    race: Literal["exponential", "softmax"] = "exponential"
    """Times are exponential with each searcher's mean, or a searcher wins by exp(-latency / temperature)."""
    temperature: int = 100
    """Of ``softmax``, milliseconds."""
    floor: int = 0
    """Milliseconds that nobody can beat, before the exponential part."""
    express_lane: str | None = None
    """Name of the searcher that holds the lane."""
    advantage: int = 200
    """Milliseconds by which everybody else is held back."""
    lane_fee: int = 0
    """What the holder pays of what an opportunity leaves it, basis points: its bid for the lane."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, liquidators__temperature=self.temperature)
        at_least(0, liquidators__floor=self.floor, liquidators__advantage=self.advantage)
        share(liquidators__lane_fee=self.lane_fee)
        if self.express_lane is not None and self.express_lane not in {searcher.name for searcher in self.each}:
            raise ScenarioError(
                f"liquidators.express_lane = '{self.express_lane}' is no searcher", "give the name of one of them"
            )

    @property
    @override
    def said(self) -> str:
        return (
            f"{len(self.each)} searchers race, first come first served, by {self.race} times; the order is of one"
            " opportunity, not of a whole block"
        )


class Oev(Contest, frozen=True, tag_field="kind", tag="oev"):
    """The right to liquidate right after an oracle update is sold first, and the bid is shared with protocol and
    oracle; what nobody bids for, and what is not covered, goes to anybody, later or at once, as in ``participation``
    with everybody there.
    """

    coverage: int = 10_000
    """Share of price updates that are sold, basis points."""
    delay: int = 5
    """Blocks that others wait after an update that is sold."""
    mean: int = 25_900
    """Mean number of bidders, in ten-thousandths, Poisson: alone one bids nothing, several bid all of it."""
    protocol_share: int = 6_500
    """Of the bid, basis points."""
    oracle_share: int = 3_500
    """Of the bid, basis points; the rest is the auctioneer's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, liquidators__mean=self.mean, liquidators__delay=self.delay)
        share(
            liquidators__coverage=self.coverage,
            liquidators__protocol_share=self.protocol_share,
            liquidators__oracle_share=self.oracle_share,
            liquidators__shares_together=self.protocol_share + self.oracle_share,
        )

    @property
    @override
    def said(self) -> str:
        return (
            f"{self.coverage / 100:g} % of oracle updates are sold first; others wait {self.delay} blocks where"
            " nobody bid"
        )


Contested = PriorityGas | SealedBid | Participation | LatencyRace | Oev
Modelled = Competitive | Contested
"""Models that act in history's place."""
Liquidators = Observed | Modelled


def draws(model: Liquidators) -> bool:
    """Whether what it does depends on the seed: another seed may give another outcome."""
    if isinstance(model, Observed | Competitive) or not model.each:
        return False
    by_chance = (model.absent, model.overlooked)  # what is certain is no chance
    if model.front_run > 0 or any(0 < each < BPS for each in by_chance) or model.partial > 0 or model.pair == "any":
        return True
    several = len(model.each) > 1
    match model:
        case PriorityGas():
            return model.private_cost > 0 or (model.cooperative and several)
        case SealedBid():
            return model.private_cost > 0
        case Participation():
            chances = [searcher.shows_up for searcher in model.each]
            return (
                any(0 < chance < 10_000 for chance in chances) if model.distribution == "searchers" else model.mean > 0
            )
        case LatencyRace():
            return several
        case Oev():
            return 0 < model.coverage < 10_000 or (model.coverage > 0 and model.mean > 0)
