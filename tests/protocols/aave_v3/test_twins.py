"""Counterfactuals against the real contracts: from the lake of chain A alone, the replay of changed parameters is chain
B, to the last integer.

Chain A and chain B get the same user transactions (``tests/chain/twin.py``). B's governance sets other parameters; on
each chain a bot liquidates in the block of every price report by the rule that ``Competitive(looks="price-update")``
documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import structs

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.state import AaveState
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.node import Node
from tests.chain.twin import (
    START,
    Change,
    Sent,
    Twin,
    holdings,
    losses,
    play,
    refused,
    unknown,
)
from tests.chain.twin_script import SLOT_EVERY, SLOTS, Key
from tests.support.twin_chains import VERSIONS, History, _compare, _losses, _recorded, _skipped

COMPETITIVE = Competitive(gas_cost=0, looks="price-update")
Overrides = tuple[Override, ...]


@dataclass(frozen=True)
class Case:
    """A change of B, and what a user would write to ask for it, given the blocks of the slots: one or several
    scenarios' overrides that say it.

    ``refuses``: at least so many users' transactions that pass on A fail on B; ``makes``: so many accounts are
    liquidatable by the change itself.
    """

    change: Change
    writings: tuple[Callable[[Sequence[int]], Overrides], ...]
    refuses: int
    makes: int

    def __str__(self) -> str:
        return self.change.name


def _case(
    name: str,
    *steps: dict[Key, int],
    refuses: int = 0,
    makes: int = 0,
    also: Callable[[Sequence[int]], Overrides] | None = None,
) -> Case:
    def overrides(slots: Sequence[int]) -> Overrides:
        return tuple(
            _override(key, value, block)
            for block, step in zip(slots, steps, strict=False)
            for key, value in step.items()
        )

    return Case(Change(name, steps), (overrides, also) if also else (overrides,), refuses, makes)


def _override(key: Key, value: int, block: int) -> Override:
    place, parameter = key
    where: dict[str, Any] = {"asset": place} if isinstance(place, str) else {"emode": place}
    return Override(parameter=parameter, value=value, from_block=block, **where)


def _ramp(name: str, key: Key, first: int, last: int, *, refuses: int, makes: int) -> Case:
    """From history's value ``first`` to ``last`` in equal steps, one a slot after the first slot."""
    steps = SLOTS - 1
    values = [
        first + (last - first) * k // steps if last > first else first - (first - last) * k // steps
        for k in range(1, SLOTS)
    ]

    def overrides(slots: Sequence[int]) -> Overrides:
        return (
            Override(
                parameter=key[1], asset=str(key[0]), value=last, from_block=slots[0], until_block=slots[-1], steps=steps
            ),
        )

    return Case(Change(name, ({}, *({key: value} for value in values))), (overrides,), refuses, makes)


_EMODES: dict[Key, int] = {
    (1, "ltv"): 9000,
    (1, "liquidation_threshold"): 9200,
    (1, "liquidation_bonus"): 10200,
    (2, "ltv"): 8900,
    (2, "liquidation_threshold"): 9200,
    (2, "liquidation_bonus"): 10250,
}
CASES = (
    _case(
        "threshold",
        {("WETH", "liquidation_threshold"): 7500},
        refuses=10,
        also=lambda slots: (
            Override(parameter="liquidation_threshold", asset="WETH", change=-750, from_block=slots[0]),
        ),
    ),
    _case("looser threshold", {("WETH", "liquidation_threshold"): 8800}),
    _case("bonus", {("WETH", "liquidation_bonus"): 11000}),
    _case("e-mode", _EMODES, refuses=1, makes=1),
    _case("protocol fee", {("WETH", "liquidation_protocol_fee"): 3000}),
    _case("ltv", {("WETH", "ltv"): 5500}, refuses=6),
    _case("no ltv", {("WETH", "ltv"): 0}, refuses=10),
    _ramp("ramp", ("WETH", "liquidation_threshold"), 8250, 7500, refuses=2, makes=1),
    _case(
        "several",
        {
            ("WETH", "ltv"): 6000,
            ("WETH", "liquidation_threshold"): 7600,
            ("WETH", "liquidation_protocol_fee"): 2500,
            ("LINK", "liquidation_bonus"): 11200,
            ("LINK", "liquidation_protocol_fee"): 0,
            (1, "ltv"): 9000,
            (1, "liquidation_threshold"): 9200,
            (2, "ltv"): 8900,
            (2, "liquidation_threshold"): 9200,
        },
        {("WBTC", "liquidation_threshold"): 7400},
        {("WETH", "liquidation_threshold"): 7450},
        {("WETH", "liquidation_bonus"): 10900},
        refuses=15,
        makes=1,
    ),
)


@pytest.fixture(scope="module", params=VERSIONS)
def history(
    request: pytest.FixtureRequest, chain_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    with Node(timestamp=START) as node:
        yield _recorded(play(node, request.param), tmp_path_factory)


# -- the claim ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_replay_of_changed_parameters_is_the_chain_that_had_them(history: History, case: Case) -> None:
    a = history.twin
    with Node(timestamp=START) as node:
        b = play(node, a.version, case.change)
        skipped = refused(a, b)
        _not_trivial(a, b, case, skipped)
        for write in case.writings:
            scenario = Scenario(
                name=case.change.name, liquidators=COMPETITIVE, overrides=write(a.slots), rates="recomputed"
            )
            outcome = assert_is_chain(history, scenario, b)
            assert _skipped(outcome) == Counter(sent.kind for sent in skipped), skipped
            assert {
                b.names[outcome.book.address(made.account)] for made in outcome.made_liquidatable
            } == _made_liquidatable(b, case)
        _cuts_do_not_matter(history, scenario, b)


def _made_liquidatable(b: Twin, case: Case) -> set[str]:
    """Names of accounts that the chain calls healthy before a block of the change alone, and not after it."""
    found = set()
    accounts = list(b.names)
    for slot, step in zip(b.slots, case.change.steps, strict=False):
        if step:
            before, after = b.deployment.account_data(accounts, slot - 1), b.deployment.account_data(accounts, slot)
            found |= {
                b.names[who]
                for who, x, y in zip(accounts, before, after, strict=True)
                if x and y and x[5] >= 10**18 > y[5]
            }
    assert len(found) >= case.makes
    return found


def _cuts_do_not_matter(history: History, scenario: Scenario, b: Twin) -> None:
    """A window that ends early, or in which the model acts from the change on only, is the chain too."""
    symbols = [asset.symbol for asset in history.market.assets]
    for block in (b.slots[1], b.slots[-1] + 3, b.reports[-8]):
        assert _at(history, scenario, b, symbols, block, True) == [], block
    late = replay(AAVE_V3, history.market, history.timeline, structs.replace(scenario, from_block=b.slots[0]))
    assert _compare(late, b, symbols, "latest", True) == []
    assert late.mismatches == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("seed", "name"), [(3, "no ltv"), (4, "several")])
def test_borrowers_at_random(
    version: str, seed: int, name: str, chain_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The script with hundreds of random steps by borrowers at the edge. What was silent on A is not sent on B: no lake
    knows of it.
    """
    case = next(case for case in CASES if case.change.name == name)
    with Node(timestamp=START) as node:
        a = play(node, version, seed=seed, wild=3)
        history = _recorded(a, tmp_path_factory)
        assert sum(not sent.silent for sent in a.sent) > 300
        assert_is_chain(history, Scenario(rates="recomputed"), a)
        assert_is_chain(history, Scenario(liquidators=COMPETITIVE, rates="recomputed"), a)
    with Node(timestamp=START) as node:
        b = play(
            node,
            version,
            case.change,
            seed=seed,
            wild=3,
            without={place for place, sent in enumerate(a.sent) if sent.silent},
        )
        skipped = refused(a, b)
        assert len(skipped) >= case.refuses
        scenario = Scenario(name=name, liquidators=COMPETITIVE, overrides=case.writings[0](a.slots), rates="recomputed")
        outcome = assert_is_chain(history, scenario, b)
    assert _skipped(outcome) == Counter(sent.kind for sent in skipped), skipped


def test_the_baseline_is_history(history: History) -> None:
    """The model under history's parameters does what the bot did, with recomputed interest and with history's."""
    for rates in ("recomputed", "historical"):
        outcome = assert_is_chain(
            history, Scenario(liquidators=COMPETITIVE, rates=rates), history.twin, accrued=rates == "recomputed"
        )
        assert [count for count in outcome.actions if count.outcome != "changed"] == []
        assert outcome.left_out == len(losses(history.twin)[0])


def test_observed_with_recomputed_interest_is_history(history: History) -> None:
    outcome = assert_is_chain(history, Scenario(rates="recomputed"), history.twin)
    assert outcome.mismatches == []
    assert outcome.actions == []
    assert outcome.rate_check is not None
    assert outcome.rate_check.updates > 200
    assert outcome.rate_check.differing == 0


# -- the chains themselves ---------------------------------------------------------------------------------------------


def test_the_script_gives_the_same_chain_again(history: History) -> None:
    a = history.twin
    with Node(timestamp=START) as node:
        again = play(node, a.version)
        assert node.block()["hash"] == a.deployment.node.block(a.last_block)["hash"]
    assert again.sent == a.sent


def test_the_script_is_what_the_claim_needs(history: History) -> None:
    """Failed transactions are those meant to fail; every kind of action is there; the bot leaves nothing that pays, and
    holds nothing.
    """
    a = history.twin
    assert [sent for sent in a.sent if bool(sent.error) != sent.fails] == []
    kinds = Counter(sent.kind for sent in a.sent if not sent.error)
    wanted = {"supply", "withdraw", "borrow", "repay", "transfer", "collateral-flag", "emode", "treasury", "flash loan"}
    assert wanted | ({"cover"} if a.version == "3.6" else set()) == set(kinds)
    assert sum(sent.fails for sent in a.sent) >= 10
    assert [slot - a.slots[0] for slot in a.slots] == [SLOT_EVERY * i for i in range(SLOTS)]
    assert {sent.block for sent in a.sent}.isdisjoint(a.slots)
    calls, lost = losses(a)
    assert {call.block for call in calls} <= set(a.reports)
    assert len({call.debt for call in calls}) >= 2
    assert len({call.collateral for call in calls}) >= 4
    assert any(call.debt == call.collateral for call in calls), "debt liquidated in its own collateral"
    assert max(Counter((call.block, call.account) for call in calls).values()) > 1, (
        "an account is liquidated again in the same block"
    )
    assert bool(lost) == (a.version == "3.6")
    held = holdings(a)
    assert a.bot.lower() not in held
    twins = [[(c.block, c.repaid, c.seized) for c in calls if a.names[c.account] == f"twin {i}"] for i in range(2)]
    assert twins[0][0] == twins[1][0], "two accounts that are alike in everything but their address"
    if a.version == "3.0":
        assert any(row.debt and not row.collateral for row in held.values()), "bad debt stays in the account"


def _not_trivial(a: Twin, b: Twin, case: Case, skipped: list[Sent]) -> None:
    """The chains differ by the change in ways that matter, and nobody does anything on B that A's lake cannot know
    of.
    """
    assert unknown(a, b) == []
    assert b.slots == a.slots
    assert b.last_block == a.last_block
    assert len(skipped) >= case.refuses
    (calls_a, lost_a), (calls_b, lost_b) = losses(a), losses(b)
    assert min(len(calls_a), len(calls_b)) > 50
    assert calls_a != calls_b
    assert b.version == "3.0" or (lost_a and lost_b and lost_a != lost_b)
    before = b.slots[0]
    assert [call for call in calls_a if call.block < before] == [call for call in calls_b if call.block < before]


# -- comparing ---------------------------------------------------------------------------------------------------------


def assert_is_chain(history: History, scenario: Scenario, chain: Twin, *, accrued: bool = True) -> Replay[AaveState]:
    """The scenario's replay of A's lake is this chain: liquidations, deficits, accounts and reserves. Names the first
    difference and its block.

    ``accrued``: also what only recomputed interest keeps, the treasury's accrual and liquidity.
    """
    outcome = replay(AAVE_V3, history.market, history.timeline, scenario)
    names, symbols = chain.names, [asset.symbol for asset in history.market.assets]
    calls, lost = _losses(outcome, symbols)
    theirs_calls, theirs_lost = losses(chain)
    differences = _first(calls, theirs_calls, names) + _first(lost, theirs_lost, names)
    differences += _compare(outcome, chain, symbols, "latest", accrued)
    if differences:
        block = next(
            (
                b
                for b in range(chain.slots[0] - 1, chain.last_block + 1)
                if _at(history, scenario, chain, symbols, b, accrued)
            ),
            chain.last_block,
        )
        found = _at(history, scenario, chain, symbols, block, accrued)
        pytest.fail("\n".join([f"differs from block {block} on:", *found[:12], "at the end:", *differences[:12]]))
    return outcome


def _at(history: History, scenario: Scenario, chain: Twin, symbols: list[str], block: int, accrued: bool) -> list[str]:
    """Differences at the end of one block."""
    early = structs.replace(
        scenario, overrides=tuple(o for o in scenario.overrides if o.from_block <= block), to_block=block
    )
    return _compare(replay(AAVE_V3, history.market, history.timeline, early), chain, symbols, block, accrued)


def _first(ours: Sequence[Any], theirs: Sequence[Any], names: dict[str, str]) -> list[str]:
    """Where two lists part, in words; nothing if they are equal."""
    for i in range(max(len(ours), len(theirs))):
        pair = [rows[i] if i < len(rows) else None for rows in (ours, theirs)]
        if pair[0] != pair[1]:
            who = ", ".join(names.get(row.account, row.account) for row in pair if row is not None)
            return [
                f"row {i} of {len(ours)} here and {len(theirs)} on the chain ({who}): {pair[0]} here, {pair[1]} on the"
                " chain"
            ]
    return []
