"""Several markets of a lake as one network at one moment: what connects them, and what a shock does to them together
that it does not do to each alone.

The books are the exact ones, liquidated by the protocols' own rules; how prices answer to sales is what the scenario
says (``[impact]``). The measures are those of ``backtest.contagion``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.contagion.books import Connected, MarketBook, Token, connected
from backtest.contagion.depths import depth_value_up, depths_of
from backtest.contagion.fire_sales import Contagion, DepthOf, NetworkShock, contagion_of, leave_one_out
from backtest.contagion.matrices import linear_round, run_off
from backtest.contagion.measured import (
    OWNERS,
    NetworkMeasure,
    claims,
    depths_in,
    failures,
    held_of,
    links,
    matrix_of,
    overlaps,
)
from backtest.errors import ScenarioError, UserError, did_you_mean
from backtest.joint import JointMember, members_of, named_in, refuse_two_of_one_address
from backtest.lake import Lake
from backtest.model import AccountId
from backtest.protocols.registry import protocol_named
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import book_at
from backtest.result_tables import JOINTS, as_table
from backtest.results import Material, load_material
from backtest.scenario import Joint, Scenario
from backtest.scenario.settled import settled
from backtest.tables import RULES_VERSION
from backtest.units import BPS

Owners = Mapping[tuple[str, str], str]
"""Market ("": any) and account to its owner, lower case."""


@dataclass(frozen=True, slots=True)
class NetworkQuestion:
    """What is asked. ``falls``: basis points by symbol or address, ``losses``: of deposits, by market; ``run``: the
    part of deposits that is asked back, basis points.
    """

    scenario: Scenario
    falls: Mapping[str, int]
    losses: Mapping[str, int]
    paused: frozenset[str] = frozenset()
    run: int = 2_000
    owners: Owners | None = None


@dataclass(frozen=True, slots=True)
class NetworkAnswer:
    """The measures, and what they are of; ``symbols`` by token."""

    contagion_id: str
    markets: tuple[str, ...]
    lake_digest: str
    timestamp: int
    currency: str
    decimals: int
    rounds: int
    shock: Mapping[str, Any]
    said: tuple[str, ...]
    measures: tuple[NetworkMeasure, ...]

    def rows(self) -> list[dict[str, Any]]:
        """As they are stored."""
        common = {
            "contagion_id": self.contagion_id,
            "market": self.markets[0],
            "lake_digest": self.lake_digest,
            "markets": json.dumps(self.markets),
            "timestamp": self.timestamp,
            "shock": json.dumps(self.shock, sort_keys=True),
            "currency": self.currency,
            "decimals": self.decimals,
        }
        return [{**common, **measure._asdict()} for measure in self.measures]


def network(lake: Lake, question: NetworkQuestion, *, block: int | None = None) -> NetworkAnswer:
    """What connects the markets of ``question.scenario.joint``, and what its shock does. ``block``: the moment is the
    end of this block of the first market's chain; None: the last that all histories cover.

    UserError: as ``joint.run_jointly``; the shock names what is not there.
    """
    joint = question.scenario.joint
    if joint is None:
        raise UserError("a network of one market", "name several: --market A --market B")
    members = members_of(lake, joint)
    refuse_two_of_one_address(members)
    materials = [load_material(lake, name) for name in joint.markets]
    scenario = settled(question.scenario, lambda text: named_in(members, text))
    books, timestamp = _books(members, materials, scenario, block, question.owners or {})
    shock = _shock(members, joint, question)
    depths, said = depths_of(scenario, books)
    said = [*_unclaimed(books, question.losses), *_left_out(books), *said]
    if not (any(shock.falls.values()) or any(shock.losses.values())):
        said.insert(0, "No price falls and no deposits are gone at first: give --shock or --loss.")
    bound = connected(books)
    found = contagion_of(books, shock, depths)
    symbols = {asset.asset: member.market.label(asset.id) for member in members for asset in member.market.assets}
    rows = [
        *_losses(found, symbols),
        *_ranks(books, shock, depths, bound, found, symbols),
        *links(bound, joint.markets),
        *_linear(bound, joint, books, shock, depths),
        *_runs(bound, joint, question.run, symbols),
    ]
    told: dict[str, Any] = {
        "falls": {symbols[token]: fall for token, fall in shock.falls.items()},
        "losses": dict(shock.losses),
        "paused": sorted(shock.paused),
        "run": question.run,
    }
    body = [scenario.canonical(), [member.digest for member in members], timestamp, told, RULES_VERSION]
    body.append(sorted([*key, owner] for key, owner in (question.owners or {}).items()))
    return NetworkAnswer(
        contagion_id=hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest(),
        markets=joint.markets,
        lake_digest=members[0].digest,
        timestamp=timestamp,
        currency=members[0].config.base_currency,
        decimals=members[0].config.base_decimals,
        rounds=found.together.rounds,
        shock=told,
        said=tuple(said),
        measures=tuple(rows),
    )


def store(lake: Lake, answer: NetworkAnswer) -> None:
    """Keep the measures in the lake, under the first market; once."""
    first = answer.markets[0]
    with lake.writer() as writer:
        known = lake.read("results/contagion", first, columns=["contagion_id"])["contagion_id"].to_pylist()
        if answer.contagion_id not in known:
            rows = as_table(JOINTS["contagion"], answer.rows())
            writer.append_all(first, {"results/contagion": rows}, stamp=RULES_VERSION)


# -- books -------------------------------------------------------------------------------------------------------------


def _books(
    members: Sequence[JointMember],
    materials: Sequence[Material],
    scenario: Scenario,
    block: int | None,
    owners: Owners,
) -> tuple[list[MarketBook], int]:
    """Every market's book at one time, the first one's block, or the earliest end."""
    lines = [material.timeline(scenario.oracle_delay) for material in materials]
    first = lines[0]
    at = min(
        first.clock_at(first.last_known_block(block)).timestamp,
        *(line.clock_at(line.last_block).timestamp for line in lines),
    )
    found = []
    for member, line in zip(members, lines, strict=True):
        place = line.block_before(at)
        if place is None:
            raise UserError(
                f"the history of market '{member.config.name}' begins after that moment", "give a later one with --at"
            )
        book = book_at(protocol_named(member.config.protocol), member.market, line, place, ended=True)
        owned = _owned(member.config.name, member.market.accounts, owners)
        found.append(MarketBook(member.config.name, book, member.worth, owned, member.claims))
    return found, at


def _owned(market: str, accounts: Sequence[str], owners: Owners) -> dict[AccountId, str]:
    found = {}
    for number, account in enumerate(accounts if owners else ()):
        owner = owners.get((market, account)) or owners.get(("", account))
        if owner is not None:
            found[AccountId(number)] = owner
    return found


def _shock(members: Sequence[JointMember], joint: Joint, question: NetworkQuestion) -> NetworkShock:
    falls: dict[Token, int] = {}
    for name, fall in question.falls.items():
        assets = [asset for member in members if (asset := member.market.asset_named(name)) is not None]
        if not assets:
            names = [each for member in members for each in member.market.names]
            raise ScenarioError(f"--shock {name}: no market has such an asset", did_you_mean(name, names))
        for asset in assets:
            falls[asset.asset] = fall
    for name in (*question.losses, *question.paused):
        if name not in joint.markets:
            raise ScenarioError(f"'{name}' is none of the markets", did_you_mean(name, joint.markets))
    return NetworkShock(falls, question.losses, question.paused)


def _unclaimed(books: Sequence[MarketBook], losses: Mapping[str, int]) -> Iterator[str]:
    """Losses of deposits that reach nobody else here, and why."""
    claimed = {market for one in books for market, _ in one.claims.values()}
    for market in sorted(market for market, lost in losses.items() if lost and market not in claimed):
        yield f"No other of these markets has a deposit token of {market} as an asset: its loss reaches none of them."


def _left_out(books: Sequence[MarketBook]) -> Iterator[str]:
    """Accounts that no figure counts."""
    for one in books:
        views = views_of(one.book)
        unknown = sum(view is None for view in views.rest.values())
        if unknown:
            yield f"Left out of {one.name}: {unknown:,} account{'s' * (unknown > 1)} of which a price is missing."


# -- measures ----------------------------------------------------------------------------------------------------------


def _losses(found: Contagion, symbols: Mapping[Token, str]) -> Iterator[NetworkMeasure]:
    together = found.together
    for market, lost in together.lost.items():
        alone = found.alone[market]
        yield NetworkMeasure("loss", market, amount_base=lost)
        yield NetworkMeasure("loss alone", market, amount_base=alone.loss)
        yield NetworkMeasure("repaid", market, amount_base=together.repaid[market])
        yield NetworkMeasure("repaid alone", market, amount_base=alone.repaid[market])
        yield NetworkMeasure("accounts liquidated", market, number=float(together.accounts[market]))
    yield NetworkMeasure("contagion", "all", amount_base=found.contagion)
    for token, left in sorted(together.left.items()):
        yield NetworkMeasure("price left", symbols[token], number=left / 10**27)


def _ranks(
    books: Sequence[MarketBook],
    shock: NetworkShock,
    depths: Mapping[Token, DepthOf],
    bound: Connected,
    found: Contagion,
    symbols: Mapping[Token, str],
) -> Iterator[NetworkMeasure]:
    owners = bound.largest(OWNERS)
    for one in leave_one_out(books, shock, depths, owners=owners, loss=found.together.loss):
        name = symbols[one.name] if one.kind == "asset" else one.name
        yield NetworkMeasure(f"spared without {one.kind}", name, amount_base=one.spared)


def _linear(
    bound: Connected,
    joint: Joint,
    books: Sequence[MarketBook],
    shock: NetworkShock,
    depths: Mapping[Token, DepthOf],
) -> Iterator[NetworkMeasure]:
    names, tokens = joint.markets, bound.tokens
    depth = {token: depth_value_up(token, books, depths) for token in tokens}
    matrix = matrix_of(bound, depth)
    yield from overlaps(matrix, names)
    falls = [-shock.falls.get(token, 0) / BPS for token in tokens]
    linear = linear_round(held_of(bound), [float(value) for value in bound.debt], depths_in(bound, depth), falls)
    for p, one in enumerate(names):
        for measure, numbers in (
            ("direct loss of equity", linear.direct),
            ("indirect loss of equity", linear.indirect),
            ("systemicness", linear.systemicness),
        ):
            known = float(numbers[p])
            yield NetworkMeasure(measure, one, number=None if known != known else known)
    yield NetworkMeasure("aggregate vulnerability", "all", number=linear.aggregate)
    yield from claims(bound, names)
    yield from failures(bound, names, matrix)


def _runs(bound: Connected, joint: Joint, share: int, symbols: Mapping[Token, str]) -> Iterator[NetworkMeasure]:
    """Assets that are lent: what a run leaves, and how much of what stands behind debt could not be paid out to whoever
    liquidates, before and after it.
    """
    behind = {
        (name, token): value
        for name, row in zip(joint.markets, bound.held, strict=True)
        for token, value in zip(bound.tokens, row, strict=True)
    }
    for (market, token), supplied in sorted(bound.supplied.items()):
        lent = bound.lent.get((market, token), 0)
        if supplied and lent:
            found = run_off(float(supplied), float(lent), share / BPS)
            yield NetworkMeasure("utilisation", market, symbols[token], number=found.before)
            yield NetworkMeasure("utilisation after a run", market, symbols[token], number=found.after)
            yield NetworkMeasure("withheld in a run", market, symbols[token], number=found.withheld)
            own, cash = behind.get((market, token), 0), max(0, supplied - lent)
            left = max(0, cash - supplied * share // BPS)
            yield NetworkMeasure("cannot be paid out", market, symbols[token], amount_base=max(0, own - cash))
            yield NetworkMeasure("cannot be paid out in a run", market, symbols[token], amount_base=max(0, own - left))
