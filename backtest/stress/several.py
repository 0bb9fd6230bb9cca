"""Several markets in one stress: what is asked of each, at one moment, and one panel of prices for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.contagion.books import MarketBook, connected
from backtest.contagion.depths import depths_of
from backtest.contagion.fire_sales import NetworkShock, contagion_of
from backtest.errors import UserError
from backtest.joint import JointMember, members_of, named_in, refuse_two_of_one_address
from backtest.lake import Lake
from backtest.model import AssetId
from backtest.results import Material, load_material
from backtest.scenario.joint import own, unmet
from backtest.scenario.settled import settled
from backtest.shocks import StressPath, Suite
from backtest.stress import moment
from backtest.stress.paths import Prepared, StressMember, ended, in_first_up

__all__ = ["StressMarkets", "markets_of"]


@dataclass(frozen=True, slots=True)
class StressMarkets:
    """The markets of a stress, the first one first; ``members`` is empty where it is one."""

    materials: tuple[Material, ...]
    members: tuple[JointMember, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the markets."""
        return tuple(material.config.name for material in self.materials)

    def name_of(self, text: str) -> str:
        """The name that the first market has for an asset that has it."""
        return named_in(self.members, text) if self.members else self.materials[0].market.name_of(text)

    def labelled(self) -> Iterator[tuple[str, int, AssetId]]:
        """Of each token its label in the first market that has it, that market's place, and the asset there."""
        known: dict[str, str] = {}
        for place, material in enumerate(self.materials):
            for asset in material.market.assets:
                label = material.market.label(asset.id)
                if asset.asset in known:
                    continue
                if label in known.values():
                    label = f"{label} of {material.market.name}"
                known[asset.asset] = label
                yield label, place, asset.id

    def blocks(self, suite: Suite, block: int | None) -> list[int]:
        """At whose end each book stands: that of the first market, the last that all histories cover by default."""
        lines = [material.timeline(suite.scenario.oracle_delay) for material in self.materials]
        first = lines[0]
        if block is not None and not first.first_block <= block <= first.last_block:
            raise UserError(
                f"block {block} is not within the history", f"it goes from {first.first_block} to {first.last_block}"
            )
        if not self.members:
            return [first.last_block if block is None else block]
        ends = [line.clock_at(line.last_block).timestamp for line in lines]
        at = min(ends) if block is None else first.clock_at(first.last_known_block(block)).timestamp
        found = []
        for name, line, end in zip(self.names, lines, ends, strict=True):
            place = line.block_before(at)
            if place is None or at > end:
                raise UserError(
                    f"the history of market '{name}' does not cover that moment", "name another one with --block"
                )
            found.append(place)
        return [found[0] if block is None else block, *found[1:]]

    def asked(self, suite: Suite, blocks: Sequence[int], panel: Sequence[str]) -> tuple[StressMember, ...]:
        """What is asked of each of several markets; ``panel``: the labels of its columns."""
        if not self.members:
            return ()
        tokens = {label: self.materials[place].market.assets[asset].asset for label, place, asset in self.labelled()}
        scenario = suite.scenario
        unmet(scenario, {member.config.name: (member.has, member.parameters) for member in self.members})
        made = []
        for material, member, block in zip(self.materials, self.members, blocks, strict=True):
            market = material.market
            mine = own(scenario, market.name, member.has, member.parameters, member.worth, (None, None))
            here = [market.asset_named(tokens[label]) for label in panel]
            currency = material.config.base_currency
            made.append(
                StressMember(
                    block=block,
                    scenario=settled(mine, market.name_of),
                    worth=(member.worth.numerator, member.worth.denominator),
                    columns=tuple(None if asset is None else int(asset.id) for asset in here),
                    currency=panel.index(currency)
                    if currency != self.materials[0].config.base_currency and currency in panel
                    else None,
                    claims=tuple((int(asset), *claim) for asset, claim in sorted(member.claims.items())),
                )
            )
        return tuple(made)


def markets_of(lake: Lake, market: str, suite: Suite) -> StressMarkets:
    """The market of a stress, or those that its scenario names. UserError as ``joint.members_of``; ``market`` is not
    the first of them.
    """
    joint = suite.scenario.joint
    if joint is None:
        return StressMarkets((load_material(lake, market),), ())
    if market != joint.markets[0]:
        raise UserError(f"market '{market}' where the scenario names {', '.join(joint.markets)}", "leave one out")
    members = members_of(lake, joint)
    refuse_two_of_one_address(members)
    return StressMarkets(tuple(load_material(lake, name) for name in joint.markets), tuple(members))


def totals(prepared: Prepared) -> tuple[int, int, int]:
    """Collateral, debt, and debt without cover, of all markets, in base units of the first one, each rounded up."""
    found = [[in_first_up(one, value) for value in one.standing.totals()] for one in prepared.members or (prepared,)]
    collateral, debt, bad = (sum(each) for each in zip(*found, strict=True))
    return collateral, debt, bad


def members_rows(prepared: Prepared) -> list[dict[str, Any]]:
    """Rows of ``stress_members``."""
    still = StressPath.still(prepared.asked.suite.steps, len(prepared.panel.assets))
    rows = ended(still, prepared)[1]["markets"]
    found = []
    for one, row in zip(prepared.members, rows, strict=True):
        assert one.member is not None
        found.append(
            {
                "place": row["place"],
                "of_market": row["of_market"],
                "worth_numerator": one.member.worth[0],
                "worth_denominator": one.member.worth[1],
                "debt_base": in_first_up(one, one.standing.totals()[1]),
                "still_bad_debt_base": row["bad_debt_base"],
                "alone_still_bad_debt_base": row["alone_bad_debt_base"],
            }
        )
    return found


def contagion_rows(prepared: Prepared, markets: StressMarkets) -> list[dict[str, Any]]:
    """Rows of ``stress_contagion``: who loses where one asset falls alone, beyond what they lose where none does, by
    the exact books under the scenario's parameters (``contagion.fire_sales``). Of the assets behind most debt; a claim
    on another of the markets is what it stands for.
    """
    scenario, books = prepared.asked.suite.scenario, []
    for one, member, material in zip(prepared.members, markets.members, markets.materials, strict=True):
        mine = one.asked.suite.scenario
        book = moment.under(one.standing.start.book, material.timeline(scenario.oracle_delay), mine)
        books.append(MarketBook(member.config.name, book, member.worth, claims=member.claims))
    depths, _ = depths_of(scenario, books)
    bound = connected(books)
    stands_for = {book.token(asset): token for book in books for asset, (_, token) in book.claims.items()}
    behind = Counter[str]()
    for token, held in zip(bound.tokens, zip(*bound.held, strict=True), strict=True):
        behind[stands_for.get(token, token)] += sum(held)
    labels = {markets.materials[at].market.assets[asset].asset: label for label, at, asset in markets.labelled()}
    still = contagion_of(books, NetworkShock({}, {}), depths)
    found = []
    for token in sorted(behind, key=lambda token: (-behind[token], token))[: moment.ASSETS]:
        for fall in moment.FALLS:
            after = contagion_of(books, NetworkShock({token: fall}, {}), depths)
            found += [
                {
                    "fallen": labels[token],
                    "fall": fall,
                    "place": place,
                    "of_market": name,
                    "loss_base": after.together.lost[name] - still.together.lost[name],
                    "alone_loss_base": after.alone[name].loss - still.alone[name].loss,
                }
                for place, name in enumerate(markets.names)
            ]
    return found


def said(prepared: Prepared) -> list[str]:
    """What a stress of several markets rests on, in sentences."""
    if not prepared.members:
        return []
    joint = prepared.asked.suite.scenario.joint
    assert joint is not None
    names = ", ".join(joint.markets)
    purse = "one purse for all of them" if joint.purse == "shared" else "a purse in each"
    notes = [
        f"Of {names} together: one clock, one price of each token, searchers with {purse}; amounts in"
        f" {joint.markets[0]}'s base currency. A path of each market alone stands beside: the difference is what they"
        " do to each other."
    ]
    notes += [f"One {rate.currency} is taken for {rate.worth} throughout." for rate in joint.rates]
    for one in prepared.members:
        assert one.member is not None
        market = one.standing.market
        notes += [
            f"{market.name}: {market.label(AssetId(asset))} is a claim on deposits of {issuer}, whose losses it bears."
            for asset, issuer, _ in one.member.claims
        ]
    return notes
