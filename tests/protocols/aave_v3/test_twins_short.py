"""Twin chains whose reserves run out: what cannot be paid is refused as on the chain, in both rate modes, and goes
through where liquidators take aTokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.liquidation import CANNOT_PAY
from backtest.protocols.aave_v3.state import AaveState
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Competitive, Override, Scenario
from tests.chain.node import Node
from tests.chain.twin import HISTORY, START, Change, Twin, losses, play, refused, unknown
from tests.chain.twin_short import ShortScript
from tests.support.twin_chains import VERSIONS, History, _compare, _losses, _recorded, _skipped

COMPETITIVE = Competitive(gas_cost=0, looks="price-update")
IN_TOKENS = Competitive(gas_cost=0, looks="price-update", settle="collateral-token")
THRESHOLD = Change("threshold", ({("WETH", "liquidation_threshold"): 7500},))
RATES = ("historical", "recomputed")


@pytest.fixture(scope="module", params=VERSIONS)
def history(
    request: pytest.FixtureRequest, chain_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    with Node(timestamp=START) as node:
        yield _recorded(play(node, request.param, story=ShortScript), tmp_path_factory)


def _scenario(history: History, change: Change, *, liquidators: Competitive, rates: str) -> Scenario:
    overrides = tuple(
        Override(parameter=parameter, value=value, asset=str(place), from_block=block)
        for block, step in zip(history.twin.slots, change.steps, strict=False)
        for (place, parameter), value in step.items()
    )
    return Scenario(name=change.name, liquidators=liquidators, overrides=overrides, rates=rates)


def _differences(history: History, outcome: Replay[AaveState], chain: Twin) -> list[str]:
    """Of accounts and reserves, liquidity among them; the bot is the modelled liquidator."""
    symbols = [asset.symbol for asset in history.market.assets]
    market = outcome.book.market
    accounts = tuple(chain.bot.lower() if name == "model:competitive" else name for name in market.accounts)
    outcome.book.market = type(market)(**{**{f: getattr(market, f) for f in market.__slots__}, "accounts": accounts})
    return _compare(outcome, chain, symbols, "latest", True)


@pytest.mark.parametrize("rates", RATES)
def test_what_history_could_not_pay_the_baseline_cannot(history: History, rates: str) -> None:
    a = history.twin
    assert [sent for sent in a.sent if bool(sent.error) != sent.fails] == []
    outcome = replay(
        AAVE_V3, history.market, history.timeline, _scenario(history, HISTORY, liquidators=COMPETITIVE, rates=rates)
    )
    symbols = [asset.symbol for asset in history.market.assets]
    assert _losses(outcome, symbols) == losses(a)
    assert outcome.refused[CANNOT_PAY] >= 3
    assert outcome.unpaid
    assert all(symbols[unpaid.asset] == "WETH" and unpaid.value_base > 0 for unpaid in outcome.unpaid)
    assert {symbols.index("WETH")} == {unpaid.asset for unpaid in outcome.unpaid}
    for reserve, symbol in zip(outcome.book.state.reserves, symbols, strict=True):
        assert reserve.liquidity == _liquidity(a, symbol), symbol


def _liquidity(chain: Twin, symbol: str) -> int:
    reserve = chain.deployment.reserves[symbol]
    held: int = reserve.asset.call("balanceOf", reserve.a_token.address)
    return held


@pytest.mark.parametrize("rates", RATES)
def test_a_past_in_short_knows_the_same_liquidity(history: History, rates: str) -> None:
    """Acting from a later block on, and from the whole past by the plain rules: the same outcome."""
    scenario = Scenario(liquidators=COMPETITIVE, rates=rates, from_block=history.twin.slots[1])
    one, other = (
        replay(AAVE_V3, history.market, history.timeline, scenario, screened=screened) for screened in (True, False)
    )
    assert one.liquidations == other.liquidations
    assert one.unpaid == other.unpaid != []
    assert one.book.state == other.book.state


@pytest.mark.parametrize("liquidators", [COMPETITIVE, IN_TOKENS], ids=["underlying", "tokens"])
def test_the_replay_of_a_change_is_the_chain_that_had_it(history: History, liquidators: Competitive) -> None:
    a = history.twin
    in_tokens = liquidators is IN_TOKENS
    with Node(timestamp=START) as node:
        b = play(node, a.version, THRESHOLD, story=ShortScript, receive_a_tokens=in_tokens)
        assert unknown(a, b) == []
        symbols = [asset.symbol for asset in history.market.assets]
        theirs = losses(b)
        for rates in RATES:
            scenario = _scenario(history, THRESHOLD, liquidators=liquidators, rates=rates)
            outcome = replay(AAVE_V3, history.market, history.timeline, scenario)
            ours = _losses(outcome, symbols)
            if rates == "recomputed":
                assert ours == theirs
                assert _differences(history, outcome, b) == []
            else:  # amounts, and so who comes first, follow history's interest
                assert len(ours[0]) == len(theirs[0])
                assert {row.account for row in ours[0]} == {row.account for row in theirs[0]}
                assert min(reserve.liquidity for reserve in outcome.book.state.reserves) >= 0
            assert bool(outcome.unpaid) != in_tokens
            assert sum(_skipped(outcome).values()) == len(refused(a, b))
    if in_tokens:
        assert len(theirs[0]) > len(losses(a)[0])
