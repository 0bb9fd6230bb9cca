"""propose where liquidations are auctions, by hand: one number for the whole market, and nobody acts after a fall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backtest.markets import MarketConfig
from backtest.propose import ProposalQuestion, propose
from backtest.protocols.maker import MAKER
from backtest.protocols.registry import PROTOCOLS
from backtest.report.proposal import forms
from tests.support.sketch_lake import lake_of
from tests.support.vault_history import history

VAULTS = MarketConfig(
    name="sketch",
    protocol="sketch",
    chain_id=31337,
    start_block=1,
    contracts={"pool": "0x" + "11" * 20},
    base_decimals=18,
)


@pytest.mark.slow
def test_a_higher_ratio_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 ETH of 2,000 against 10,000: at a ratio of 210 % the vault may owe 9,523.81 before the fall to 1,900, and of
    ten steps of 8 points the ninth (202 %) is the first above 200 %. Then it holds 19,000, at half the price 9,500.
    """
    monkeypatch.setitem(PROTOCOLS, "sketch", MAKER)
    h = history(20, 1_900)
    lake = lake_of(tmp_path / "lake", h, config=VAULTS)
    found = propose(lake, "sketch", ProposalQuestion(("liquidation_ratio=21000@50",)))
    assert [(one.debt, one.step) for one in found.moment.newly] == [(10_000 * 10**18, 9)]
    assert found.moment.power_before > found.moment.power_after == 10 * 2_000 * 10**18 * 100 // 210
    [ratio] = [term for term in found.terms if term.name == "liquidation_ratio"]
    assert (ratio.of, ratio.present, ratio.proposed) == ("market", 13_000, 21_000)
    assert {(shock.assets, shock.repaid) for shock in found.shocks} == {("all collateral", None)}  # none moved by much
    assert [shock.debt[0] // 10**18 for shock in found.shocks] == [0, 0, 0, 10_000, 10_000]  # 130 %: below 1,300
    assert {shock.debt[1] // 10**18 for shock in found.shocks} == {10_000}
    assert {shock.bad_debt for shock in found.shocks} == {(0, 0)}
    later = propose(lake, "sketch", ProposalQuestion(("liquidation_ratio=13000",), within=300))
    assert later.finding("repaid").verdict.effect == 0
    assert later.search is not None
    assert later.search.names == ("liquidation_ratio",)
    assert json.loads(forms.as_json(later))["search"]["present"] == [13_000]
