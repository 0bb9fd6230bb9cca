"""Who matters to a joint replay: the same replay again without each market, each of the largest owners, and each
asset's impact, held against the whole.

Whoever is left out stays in the book and goes on as its owner does, but nobody liquidates it, so that it sells nothing;
and what it repays, loses or owes without cover counts in neither of the two replays. An asset that is left out is sold
as before, and its price does not move. All of them net out the same of history's prices: what the whole replay does.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from backtest.contagion.books import MarketBook
from backtest.joint import (
    JointMember,
    JointRun,
    asked_of,
    members_of,
    netted_of,
    parts_of,
    replayed_without,
    run_jointly,
)
from backtest.lake import Lake
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.engine import Progress
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import book_at, standings
from backtest.result_tables import JOINTS, as_table
from backtest.results import Material, Run, load_material
from backtest.scenario import FITTED, NoDepth, Scenario, draws
from backtest.tables import RULES_VERSION

OWNERS = 3
"""Owners that are left out, by their debt."""
MOMENTS = 12
"""Moments of the window at which debts are looked at, about, over all markets."""
_FIGURES = (
    "liquidations",
    "repaid_base",
    "seized_base",
    "protocol_fee_base",
    "realised_bad_debt_base",
    "open_bad_debt_base",
)
Kind = Literal["market", "owner", "asset"]


@dataclass(frozen=True, slots=True)
class LeftOutRuns:
    """What is stored of one joint replay. ``digest``: SHA-256 of the rows, the same for the same question;
    ``replayed``: how many replays were made now, the others being there.
    """

    joint_id: str
    digest: str
    number: int
    replayed: int


@dataclass(frozen=True, slots=True)
class _LeftOut:
    kind: Kind
    place: int
    name: str
    accounts: Mapping[str, frozenset[AccountId]]
    """By market."""
    scenario: Scenario
    debt_base: int | None = None
    """Of an owner, base units of the first market."""


def leave_one_out(
    lake: Lake, scenario: Scenario, *, owners: int = OWNERS, progress: Progress | None = None
) -> LeftOutRuns:
    """Replay a scenario of several markets without each of them, of the ``owners`` with most debt and of its assets'
    impacts, and store the figures, each as soon as it is known; what the lake holds already is not replayed, the joint
    replay itself included.

    UserError: as ``joint.run_jointly``.
    """
    whole = run_jointly(lake, scenario, renamed=())
    assert scenario.joint is not None
    first = scenario.joint.markets[0]
    members = members_of(lake, scenario.joint)
    asked = asked_of(scenario, members)
    drawn = draws(asked.liquidators) or asked.users.response == FITTED
    materials = [load_material(lake, name) for name in scenario.joint.markets]
    wanted = list(_wanted(asked, members, materials, owners))
    known = {(row["kind"], row["left_out"]) for row in _stored(lake, first, whole.joint_id)}
    missing = [one for one in wanted if (one.kind, one.name) not in known]
    netted = netted_of(asked, members, materials, itself=True) if missing else ()
    for number, one in enumerate(missing):
        outcomes = replayed_without(
            materials,
            members,
            one.scenario,
            one.accounts,
            netted,
            progress=progress and _part_of(progress, number, len(missing)),
        )
        rows = list(_rows(one, whole, members, outcomes))
        common = {"joint_id": whole.joint_id, "market": first, "drawn": drawn}
        with lake.writer() as writer:  # refreshes the lake
            if not any(
                (row["kind"], row["left_out"]) == (one.kind, one.name) for row in _stored(lake, first, whole.joint_id)
            ):
                table = as_table(JOINTS["leave_one_out"], rows, common)
                writer.append_all(first, {"results/leave_one_out": table}, stamp=RULES_VERSION)
    asked_for = {(one.kind, one.name) for one in wanted}
    stored = [row for row in _stored(lake, first, whole.joint_id) if (row["kind"], row["left_out"]) in asked_for]
    return LeftOutRuns(whole.joint_id, _digest(stored), len(wanted), len(missing))


def _stored(lake: Lake, market: str, joint_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read("results/leave_one_out", market).to_pylist()
    return [row for row in rows if row["joint_id"] == joint_id]


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    texts = sorted(json.dumps(row, sort_keys=True, default=lambda amount: str(int(amount))) for row in rows)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _part_of(progress: Progress, number: int, of: int) -> Progress:
    return lambda done, total: progress(number * total + done, of * total)


# -- who is left out ---------------------------------------------------------------------------------------------------


def _wanted(
    scenario: Scenario, members: Sequence[JointMember], materials: Sequence[Material], owners: int
) -> Iterator[_LeftOut]:
    for place, member in enumerate(members):
        everybody = frozenset(AccountId(number) for number in range(len(member.market.accounts)))
        yield _LeftOut("market", place, member.config.name, {member.config.name: everybody}, scenario)
    for place, (owner, debt, accounts) in enumerate(_largest(scenario, members, materials, owners)):
        yield _LeftOut("owner", place, owner, accounts, scenario, debt)
    impact = scenario.impact
    for place, asset in enumerate(impact.assets):
        still = replace(asset, depth=NoDepth(), buys=False)
        changed = tuple(still if other is asset else other for other in impact.assets)
        calm = replace(scenario, impact=replace(impact, assets=changed))
        yield _LeftOut("asset", place, asset.asset, {}, calm)


def _largest(
    scenario: Scenario, members: Sequence[JointMember], materials: Sequence[Material], number: int
) -> list[tuple[str, int, Mapping[str, frozenset[AccountId]]]]:
    """The owners who had most debt at one of some moments of the window, over all markets, in history's own books; that
    debt, and their accounts by market.
    """
    if not number:
        return []
    parts, _ = parts_of(scenario, members, materials)
    lines = [material.timeline(scenario.oracle_delay) for material in materials]
    each = max(4, MOMENTS // len(members))
    windows = [
        (part.from_block or 0, line.last_known_block(part.to_block)) for part, line in zip(parts, lines, strict=True)
    ]
    moments = sorted(
        {
            line.clock_at(block).timestamp
            for line, window in zip(lines, windows, strict=True)
            for block in line.sample_blocks(each, *window)
        }
    )
    owed: defaultdict[int, Counter[str]] = defaultdict(Counter)
    last: list[MarketBook] = []
    for member, line, part in zip(members, lines, parts, strict=True):
        for moment, book in _books(member, line, part.from_block, moments):
            whose = MarketBook(member.config.name, book, member.worth)
            for one in standings(views_of(book)):
                if one.debt_base:
                    owner = whose.owner(one.account)
                    owed[moment][owner] += whose.units_up(one.debt_base)
        last.append(whose)
    most: dict[str, int] = {}
    for debts in owed.values():
        for owner, debt in debts.items():
            most[owner] = max(debt, most.get(owner, 0))
    largest = sorted(most, key=lambda owner: (-most[owner], owner))[:number]
    accounts: dict[str, dict[str, set[AccountId]]] = {owner: defaultdict(set) for owner in largest}
    for whose in last:
        for account, owner in _owners(whose):
            if owner in accounts:
                accounts[owner][whose.name].add(account)
    return [
        (owner, most[owner], {market: frozenset(mine) for market, mine in accounts[owner].items()}) for owner in largest
    ]


def _owners(market: MarketBook) -> Iterator[tuple[AccountId, str]]:
    """Whose each account of a market's history is, as of the end."""
    protocol, there = market.book.protocol, set(market.book.protocol.accounts(market.book.state))
    for number, address in enumerate(market.book.market.accounts):
        account = AccountId(number)
        yield account, market.owner(account) if account in there else protocol.owner_of(address)


def _books(
    member: JointMember, line: Timeline, from_block: int | None, moments: Sequence[int]
) -> Iterator[tuple[int, Book[Any]]]:
    """History's book at each of these times that its history covers; one book, as it goes on."""
    protocol = protocol_named(member.config.protocol)
    begins = from_block if from_block and from_block > line.first_block else None
    if begins is None:
        book = Book.open(protocol, member.market)
    else:
        book = book_at(protocol, member.market, line, begins, ended=False)
    following = begins or 0
    for moment in moments:
        block = line.block_before(moment)
        if block is None:
            continue
        if block >= following:
            for transaction in line.transactions(block, following):
                for event in transaction:
                    book.relive(event)
            following = block + 1
        book.now = Clock(block, line.clock_at(block).log_index, moment)
        yield moment, book


# -- figures -----------------------------------------------------------------------------------------------------------


def _rows(
    one: _LeftOut, whole: JointRun, members: Sequence[JointMember], outcomes: Sequence[Replay[Any]]
) -> Iterator[dict[str, Any]]:
    """Of each market that is not left out itself: its figures without what is left out, and those of the same accounts
    in the whole replay.
    """
    for member, run, outcome in zip(members, whole.runs, outcomes, strict=True):
        name = member.config.name
        if (one.kind, one.name) == ("market", name):
            continue
        out = one.accounts.get(name, frozenset())
        own = _own(run, frozenset(member.market.accounts[account] for account in out))
        [end] = [window for window in run.tables["run_windows"].to_pylist() if window["label"] == "end"]
        yield {
            "kind": one.kind,
            "left_out": one.name,
            "place": one.place,
            "debt_base": one.debt_base,
            "of_market": name,
            **_without(outcome, out),
            **{f"joint_{figure}": int(end[figure]) - own[figure] for figure in _FIGURES},
        }


def _without(outcome: Replay[Any], out: frozenset[AccountId]) -> dict[str, int]:
    """At the end of the window; whoever is left out was not liquidated, and counts by nothing but its debt."""
    [end] = [horizon for horizon in outcome.horizons if horizon.label == "end"]
    figures: dict[str, int] = {figure: getattr(end, figure) for figure in _FIGURES}
    figures["open_bad_debt_base"] -= sum(max(0, -end.equity[account]) for account in out if account in end.equity)
    return figures


def _own(run: Run, out: frozenset[str]) -> Counter[str]:
    """What of a stored run's figures at the end of the window is these accounts'."""
    own: Counter[str] = Counter()
    first = run.summary["from_block"]

    def rows(name: str) -> Iterator[dict[str, Any]]:
        found: list[dict[str, Any]] = run.tables[name].to_pylist() if out else []
        return (row for row in found if row["account"] in out)

    for hit in rows("run_liquidations"):
        if hit["block_number"] >= first:
            takes, ends = hit["stage"] != "auction", hit["stage"] != "opened"
            own["liquidations"] += takes
            own["repaid_base"] += int(hit["repaid_base"]) * takes
            own["seized_base"] += int(hit["seized_base"]) * ends
            own["protocol_fee_base"] += int(hit["protocol_fee_base"])
    for deficit in rows("run_deficits"):
        if deficit["block_number"] >= first:
            own["realised_bad_debt_base"] += int(deficit["amount_base"])
    for standing in rows("run_equity"):
        if standing["label"] == "end":
            own["open_bad_debt_base"] += max(0, -int(standing["equity_base"]))
    return own
