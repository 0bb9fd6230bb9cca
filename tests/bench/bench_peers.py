"""Stress paths of one toy model here and in peers, in one run: one collateral whose price crashes, debt at a dollar,
threshold 80 %, bonus 5 %, close factor a half and all of it below a health of 0.95, liquidators without friction.

Peers are read from a folder that holds checkouts of them, ``PEERS=<folder> make bench ONLY=peers``:

- ``aave-wsteth-risk`` (github.com/mmarfinetz/aave-wsteth-risk): its ``AccountLiquidationReplayEngine``, floats over
  accounts and paths at once. What is liquidated must agree with ours within a thousandth, path by path.
- ``AgentStan`` (github.com/systemshift/AgentStan): its ``LendingMarket``, one path at a time. It repays a half of each
  account once a step, so that amounts differ; the figure is accounts times steps a second.

Without the folder our own figures stand alone. Nothing of theirs is kept here.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backtest.model import AssetId
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.what_if.ahead import standing
from backtest.scenario import Competitive, Scenario
from backtest.shocks import StressCase, Suite, fits_of
from backtest.shocks.models import Jumps
from backtest.stress.paths import Prepared, StressQuestion, row_of
from tests.bench.bench_replay import market, timeline
from tests.bench.bench_stress import data, params_of

SHAPES = ((5_000, 64), (50_000, 8))
"""Accounts and paths."""
STEPS, STEP, ROUNDS = 144, 600, 3
PRICE = 1_000.0
CRASH = StressCase(name="crash", prices=Jumps(per_day=20_000, size=-1_000, deviation=500))
Floats = npt.NDArray[np.float64]


def prepared(accounts: int) -> Prepared:
    """A book under the rules of Aave V3.0, which has no rule about small positions, as the peers have none."""
    scenario = Scenario(name="peers", liquidators=Competitive())
    suite = Suite(name="peers", version=1, cases=(CRASH,), horizon=STEPS * STEP, step=STEP, scenario=scenario)
    history, panel = timeline(accounts, 20, fall=0.0, assets=2, revision=1), data(2, step=STEP)
    stands = standing(AAVE_V3, market(accounts, 2), history, params_of(history), 1)
    asked = StressQuestion(suite=suite, block=1, seed=1, panel=(panel.assets, panel.step, panel.end))
    fits = fits_of(suite.cases, panel)
    return Prepared(asked, stands, panel, (fits[CRASH.name],), (AssetId(0), AssetId(1)), None)


def positions(accounts: int) -> tuple[Floats, Floats]:
    """Collateral (whole tokens) and debt (dollars) of the accounts, as ``timeline`` draws them."""
    draw = np.random.default_rng(1)
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(np.int64)
    owed = (worth * 0.8 / draw.uniform(1.05, 3, accounts)).astype(np.int64)
    return worth / PRICE, owed.astype(np.float64)


def ours(made: Prepared, paths: range) -> list[float]:
    """What each path liquidates, dollars."""
    return [row_of(made, 0, number)["repaid_base"] / 1e8 for number in paths]


def prices(made: Prepared, paths: range) -> Floats:
    """The oracle's price at the beginning and at each step, a row a path."""
    rows = [made.path(0, number).oracle[:, 0] for number in paths]
    return PRICE * np.concatenate([np.ones((len(rows), 1)), np.stack(rows)], axis=1)


def wsteth_risk(folder: Path, held: Floats, owed: Floats) -> Any:
    """What each path liquidates by aave-wsteth-risk, as a function of the price paths; None where it is not there."""
    if not (folder / "models" / "account_liquidation_replay.py").is_file():
        return None
    sys.path.insert(0, str(folder))
    peer = importlib.import_module("models.account_liquidation_replay")
    engine = peer.AccountLiquidationReplayEngine(liquidation_bonus=0.05, max_iterations=50)
    accounts = [
        peer.AccountState(str(one), collateral_eth=have, debt_eth=owe / PRICE, avg_lt=0.8, debt_usdc=owe)
        for one, (have, owe) in enumerate(zip(held.tolist(), owed.tolist(), strict=True))
    ]

    def liquidated(paths: Floats) -> list[float]:
        found = engine.simulate(
            paths / PRICE, accounts, base_deposits=1e9, base_borrows=5e8, eth_usd_price_paths=paths
        ).diagnostics
        return [float(one) for one in (found.debt_liquidated_eth * paths).sum(axis=1)]

    return liquidated


def agent_stan(folder: Path, held: Floats, owed: Floats) -> Any:
    """The same by AgentStan, of one path."""
    if not (folder / "agentstan" / "defi" / "engine.py").is_file():
        return None
    sys.path.insert(0, str(folder))
    peer = importlib.import_module("agentstan.defi")
    most = 0.79
    borrowers = [
        peer.AgentPopulation(
            "borrower", 1, params={"collateral": have, "borrow_ltv_fraction": owe / PRICE / have / most}
        )
        for have, owe in zip(held.tolist(), owed.tolist(), strict=True)
    ]
    others = [
        peer.AgentPopulation("lender", 1, params={"supply": 1e12}),
        peer.AgentPopulation("liquidator", 1, policy="greedy", params={"capital": 1e15}),
    ]
    terms = peer.ProtocolConfig(
        max_ltv=most, liquidation_threshold=0.8, rate_model=peer.RateModel(slope1=0.0, slope2=0.0)
    )

    def liquidated(path: Floats) -> float:
        scenario = peer.ScenarioConfig(initial_price=PRICE, price_path=path.tolist())
        config = peer.MarketConfig(protocol=terms, scenario=scenario, populations=[*borrowers, *others])
        found = peer.LendingMarket(config).run(len(path) - 1)
        return float(found["summary"]["total_liquidation_volume"])

    return liquidated


def _seconds(action: Any) -> tuple[float, Any]:
    begun = time.process_time()
    result = action()
    return time.process_time() - begun, result


def run() -> list[dict[str, Any]]:
    """Accounts times steps a second of the processor, the best of interleaved rounds of each."""
    folder = Path(os.environ.get("PEERS", "peers"))
    return [row for accounts, paths in SHAPES for row in _compared(folder, accounts, range(paths))]


def _compared(folder: Path, accounts: int, paths: range) -> list[dict[str, Any]]:
    made, (held, owed) = prepared(accounts), positions(accounts)
    along = prices(made, paths)
    row_of(made, 0, 0)  # compiles, once
    shape = f"{len(paths)} paths x {STEPS} steps x {accounts} accounts, one process"
    peer = wsteth_risk(folder / "aave-wsteth-risk", held, owed)
    other = agent_stan(folder / "AgentStan", held, owed)
    todo = {
        "here": lambda: ours(made, paths),
        "aave-wsteth-risk": peer and (lambda: peer(along)),
        "AgentStan": other and (lambda: [other(along[0])]),
    }
    best: dict[str, float] = {}
    said: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, action in todo.items():
            if action:
                seconds, said[name] = _seconds(action)
                best[name] = max(best.get(name, 0.0), len(said[name]) * STEPS * accounts / seconds)
    rows = [_row("stress paths of the toy model", best["here"], shape)]
    if peer:
        away = max(
            abs(one - two) / max(one, 1) for one, two in zip(said["here"], said["aave-wsteth-risk"], strict=True)
        )
        assert away < 1e-3, f"paths differ by {away:.2%} in what they liquidate"
        shape_of = f"{shape}; what is liquidated differs by {away:.0e}"
        rows.append(_row("against aave-wsteth-risk", best["here"], shape_of, best["aave-wsteth-risk"]))
    if other:
        part = said["AgentStan"][0] / max(said["here"][0], 1)
        shape_of = f"{shape}, one path of its; it liquidates {part:.2f} times as much of that"
        rows.append(_row("against AgentStan", best["here"], shape_of, best["AgentStan"]))
    for name, action in todo.items():
        if not action:
            print(f"bench_peers: no {name} in {folder} (PEERS=<folder of checkouts>)", file=sys.stderr)
    return rows


def _row(name: str, value: float, shape: str, baseline: float | None = None) -> dict[str, Any]:
    figures = {"baseline": baseline, "ratio": None if baseline is None else value / baseline}
    return {"name": name, "value": value, "unit": "account-steps/s", **figures, "shape": shape}


if __name__ == "__main__":
    for figure in run():
        print(figure)
