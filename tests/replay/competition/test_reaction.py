"""A latency that nobody beats: nobody acts on an account before so many seconds have passed since it came on offer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import ScenarioError
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import CAT_1_1, DOG_2_0
from backtest.replay.competition.gas import BaseFees
from backtest.replay.competition.reaction import Reaction
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Contest, Costs, Gas, LatencyRace, Oev, Participation, PriorityGas, Scenario, SealedBid
from backtest.scenario.liquidators import Searcher
from backtest.scenario.liquidators import draws as depends_on_seed
from tests.sketches.history import USD, USDC, WETH, History
from tests.support import vault_history
from tests.support.contest_history import GWEI, POOL, falling, one_account

KINDS: dict[str, type[Contest]] = {
    "open": PriorityGas,
    "sealed": SealedBid,
    "race": LatencyRace,
    "oracle's auction": Oev,
}


def run(h: History, model: Contest, costs: Costs = Costs(), **more: Any) -> Replay[Any]:  # noqa: B008
    """With the screen and without: the same result."""
    result, plain = (
        replay(POOL, h.market, h.timeline(), Scenario(liquidators=model, costs=costs), screened=screened, **more)
        for screened in (True, False)
    )
    assert result.liquidations == plain.liquidations
    assert result.spells == plain.spells
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reaction", "blocks"), [(0, 0), (1, 1), (12, 1), (13, 2), (120, 10)])
def test_the_first_block_in_which_anybody_can_act(kind: str, reaction: int, blocks: int) -> None:
    """On offer from block 10 on; blocks are 12 seconds apart: the first of them that is not before the end of it."""
    h = one_account()
    h.block(60).price(USDC, USD)
    result = run(h, KINDS[kind](reaction=reaction))
    begun = h.timeline().clock_at(10).timestamp
    assert result.liquidations[0].clock.timestamp == begun + 12 * blocks
    first, *others = [spell for spell in result.spells if spell.opportunity == 0]
    if reaction:
        assert (first.reason, first.begins.timestamp, first.looks) == ("not reacted yet", begun, 1)
        assert [spell.ending for spell in others] == ["taken"]


def test_what_was_on_offer_and_is_no_more_begins_anew() -> None:
    """Unsafe in blocks 10 to 15 and from block 18 on: eleven blocks after block 10 only three have passed."""
    h = one_account()
    h.block(15).price(WETH, 2_000 * USD)
    h.block(18).price(WETH, 1_400 * USD)
    h.block(60).price(USDC, USD)
    result = run(h, SealedBid(reaction=120))
    ends = [(spell.opportunity, spell.ending, spell.reason) for spell in result.spells if spell.account == 0]
    assert ends[:2] == [(0, "missed", "not reacted yet"), (0, "expired", "price back")]
    assert result.liquidations[0].clock.timestamp == h.timeline().clock_at(18).timestamp + 120


def test_what_a_liquidation_leaves_on_offer_begins_nothing_anew() -> None:
    """Calls of a part of the debt follow one another as they would without a reaction, that much later."""
    h = one_account(1_250)
    h.block(60).price(USDC, USD)
    at_once, late = (run(h, SealedBid(searchers=1, max_calls=1, reaction=reaction)) for reaction in (0, 120))
    assert len(at_once.liquidations) > 1
    moments = [[made.clock.timestamp for made in result.liquidations] for result in (at_once, late)]
    assert moments[1] == [time + 120 for time in moments[0]]


def test_each_account_has_a_time_of_its_own() -> None:
    """Twelve accounts that come on offer at several prices: each is taken so many seconds after its own first look."""
    h = falling(12)
    result = run(h, SealedBid(reaction=36))
    begins: dict[int, int] = {}
    for spell in result.spells:
        begins.setdefault(spell.opportunity, spell.begins.timestamp)
    taken = [spell for spell in result.spells if spell.ending == "taken"]
    assert len({begins[spell.opportunity] for spell in taken}) > 3
    known: set[int] = set()
    for spell in taken:
        if spell.account not in known:
            assert spell.begins.timestamp == begins[spell.opportunity] + 36
        known.add(spell.account)


def test_nobody_gets_stuck_before_it_can_act() -> None:
    """Gas is dear for the first 60 seconds after block 10: whoever cannot act before then sends nothing and does not
    get stuck for an hour.
    """
    h = one_account()
    h.block(400).price(USDC, USD)
    begun = h.timeline().clock_at(10).timestamp
    fees = BaseFees([0, begun, begun + 60], [30 * GWEI, 300 * GWEI, 30 * GWEI])
    capped = Searcher(name="a", gas_cap=50 * GWEI, stuck=3_600)
    costs = Costs(gas=Gas(units=500_000))
    prompt, slow = (
        run(h, SealedBid(searchers=(capped,), reaction=reaction), costs, base_fees=fees) for reaction in (0, 72)
    )
    assert prompt.liquidations[0].clock.timestamp == begun + 3_600
    assert slow.liquidations[0].clock.timestamp == begun + 72


def test_from_then_on_it_is_left_for_another_reason() -> None:
    """Somebody looks at one block in fifty: where nobody does at the first at which anybody can act, that is why."""
    h = one_account()
    h.block(400).price(USDC, USD)
    seen = set()
    for seed in range(4):
        scenario = Scenario(liquidators=Participation(mean=200, reaction=120), seed=seed)
        found = [spell.reason for spell in replay(POOL, h.market, h.timeline(), scenario).spells]
        seen.add(tuple(found[:3]))
    assert {reasons[1] for reasons in seen} == {"not included"}
    assert all(reasons[0] == "not reacted yet" and "not reacted yet" not in reasons[1:] for reasons in seen)


@pytest.mark.parametrize("system", [CAT_1_1, DOG_2_0])
def test_auctions_are_not_held_back(system: int) -> None:
    """They open anyway, and last long enough for everybody to hear of them."""
    h = vault_history.history(system, 1_290)
    at_once, slow = (
        replay(MAKER, h.market, h.timeline(), Scenario(liquidators=SealedBid(searchers=2, reaction=reaction)))
        for reaction in (0, 100_000)
    )
    assert len(at_once.liquidations) > 1
    assert slow.liquidations == at_once.liquidations
    assert slow.spells == at_once.spells


def test_what_does_not_pay_is_left_for_that_reason() -> None:
    h = one_account()
    h.block(60).price(USDC, USD)
    asks = (Searcher(name="a", min_profit=10**9 * USD),)
    assert {spell.reason for spell in run(h, SealedBid(searchers=asks, reaction=120)).spells} == {"unprofitable"}


@pytest.mark.parametrize("model", [SealedBid, Participation])
def test_whoever_needs_longer_than_any_history_never_acts(model: type[SealedBid | Participation]) -> None:
    h = one_account()
    h.block(60).price(USDC, USD)
    result = run(h, model(reaction=2**62))
    assert not result.liquidations
    assert [spell.looks for spell in result.spells] == [2]  # once a price


@given(
    seconds=st.integers(0, 30),
    looks=st.lists(st.tuples(st.integers(1, 20), st.sets(st.integers(0, 4))), min_size=1, max_size=30),
)
def test_since_when_an_account_is_on_offer(seconds: int, looks: list[tuple[int, set[int]]]) -> None:
    """Beside the plain rule: back from now to the first of the looks without a gap that found it on offer."""
    reaction, now = Reaction(Participation(reaction=seconds)), 0
    past: list[tuple[int, set[int]]] = []
    assert reaction.some is (seconds > 0)
    for later, on_offer in looks:
        now += later
        for account in on_offer:
            since = now
            for time, found in reversed(past):
                if account not in found:
                    break
                since = time
            assert reaction.ready(account, now) == max(now, since + seconds)
        reaction.seen(sorted(on_offer), now)
        past.append((now, on_offer))


def test_what_a_scenario_may_say() -> None:
    with pytest.raises(ScenarioError, match=r"liquidators\.reaction = -1 is negative"):
        Participation(reaction=-1)
    assert Participation(reaction=600).habits == "nobody acts within 600 s of an account's coming on offer"
    assert not Participation().habits
    assert not depends_on_seed(SealedBid(searchers=1, reaction=600))
