"""Markets that are pooled share one set of draws, and are told of each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest.baseline import Counted, Fit, Packed, Portion, TooFew, _sides, fit, poolable
from backtest.calibration import frictions as f
from backtest.calibration import shown as s
from backtest.cli import main
from backtest.cli.calibrate_baseline import told
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.paired import kept_ensemble
from backtest.protocols.registry import PROTOCOLS
from backtest.scenario import Costs, Gas, Scenario, Step
from backtest.scenario.ensemble import parse_ensemble
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.support.liquidated import Liquidated, config
from tests.support.sketch_lake import lake_of


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake of two small markets of one protocol, and two that belong to no pool with them."""
    monkeypatch.setitem(PROTOCOLS, "sketch", FixedSpreadPool())
    for name, terms in (
        ("quick", {}),
        ("slow", {}),
        ("else", {"protocol": "aave-v3"}),
        ("ether", {"base_currency": "ETH"}),
    ):
        made = Liquidated(name, accounts=10 if name == "slow" else 8, steps=10, wait=5 if name == "slow" else 1)
        lake_of(tmp_path / "lake", made.history, config=config(name, **terms))
    return tmp_path / "lake"


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main(["calibrate", "baseline", *map(str, words)])
    out, err = capsys.readouterr()
    assert end.value.code == code, err
    assert (err.count("\n"), out if code else "") == (1 if code else 0, "")
    return err if code else out


def test_two_markets_that_are_too_small_alone_are_fitted_together(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One alone is not fitted, and that says what would help. Together they are: the file and the lake say of which
    blocks of which market, and what was not seen is scored in each.
    """
    file = tmp_path / "pooled.toml"
    alone = said(capsys, "--lake", path, "--market", "quick")
    assert "nothing was fitted" in alone
    assert "pool it with other markets of its protocol" in alone
    assert "--market quick --market ANOTHER" in alone
    text = said(
        capsys, "--lake", path, "--market", "quick", "--market", "slow", "--draws", 15, "--keep", 5, "--workers", 1,
        "--out", file,
    )  # fmt: skip
    assert text.startswith("pooled over quick, slow: one set of frictions")
    assert "Of gas no policy is fitted: gas costs nothing" in text
    for words in ("In quick:", "In slow:"):
        assert words in text
    assert text.count("Log score of what was held out") == text.count("Not matched on the window held out") == 2
    ensemble = parse_ensemble(file.read_text(), "pooled.toml")
    assert ensemble.title == "pooled over quick, slow, calibrated"
    assert [each.market for each in ensemble.fitted_on] == ["quick", "slow"]
    assert all(kept_ensemble(Lake(path), market) == ensemble for market in ("quick", "slow"))
    again = said(
        capsys, "--lake", path, "--market", "quick", "--market", "slow", "--draws", 15, "--keep", 5, "--workers", 1
    )
    assert again.splitlines() == text.splitlines()[:-1]


def test_distance_is_over_markets_each_on_its_own_scale(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept is nearest by the root mean square over both markets' measures, each in units of how far the
    prior's draws lie from their median there.
    """
    infer, seen = f.infer, []
    monkeypatch.setattr(f, "infer", lambda *words, **named: seen.append(infer(*words, **named)) or seen[0])
    found = fit(Lake(path), [Portion("quick"), Portion("slow")], Scenario(), draws=15, kept=5, workers=1)
    assert isinstance(found, Fit)
    prior, means = seen[0].vectors[:10], []
    prior = prior[np.isfinite(prior).all(axis=1)]
    for each, its in zip(found.markets, np.split(prior, 2, axis=1), strict=True):
        gaps = (each.learnt - s.vector(each.learn.history)) / f.scale_of(its)
        means.append((gaps**2).mean(axis=1))
    assert found.kept.distance == pytest.approx(np.sqrt(np.mean(means, axis=0)))
    assert found.kept.distance.tolist() == sorted(found.kept.distance)
    assert found.kept.distance[-1] > 0


def test_where_gas_costs_something_a_cap_on_it_is_fitted(path: Path) -> None:
    """Between the median base fee that liquidators met and the highest, and every kept draw is held to its own."""
    steps = (
        Step(from_time="1970-01-01T00:00:00", base_fee=10**9),
        Step(from_time="1970-01-01T00:08:00", base_fee=10**11),
    )
    base = Scenario(costs=Costs(gas=Gas(fee="steps", steps=steps, units=1)))
    found = fit(Lake(path), [Portion("quick"), Portion("slow")], base, draws=15, kept=5, workers=1)
    assert isinstance(found, Fit)
    [prior] = [each for each in found.priors if each.name == "gas_cap"]
    assert (prior.high, found.without_cap) == (100.0, "")
    assert 1.0 <= prior.low < 100.0
    caps = [draw["gas_cap"] for draw in found.kept.draws]
    assert all(cap == 0 or prior.low <= cap <= prior.high for cap in caps)
    assert "gas cap" in "\n".join(told(found, 0))
    assert "Of gas no policy" not in "\n".join(told(found, 0))


def test_too_few_in_all_are_counted_by_market(path: Path) -> None:
    few = fit(Lake(path), [Portion("quick", last=50), Portion("slow", last=60)], Scenario())
    assert isinstance(few, TooFew)
    assert [(each.market, each.first, each.last) for each in few.markets] == [("quick", 1, 50), ("slow", 1, 60)]
    assert few.liquidations == sum(each.liquidations for each in few.markets) < 20
    assert isinstance(few.markets[0], Counted)


def test_what_cannot_be_pooled_is_one_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for other, wrong in (
        ("else", "quick is a market of sketch, else of aave-v3; pool markets of one protocol"),
        ("ether", "quick counts in USD (8 decimals), ether in ETH (8); pool markets of one base currency"),
        ("quick", "--market quick is given twice"),
    ):
        assert wrong in said(capsys, "--lake", path, "--market", "quick", "--market", other, code=2)
    held = ("--market", "quick", "--market", "slow", "--held-out", path)
    assert "several --market and --held-out" in said(capsys, "--lake", path, *held, code=2)
    poolable(Lake(path), ["quick", "slow"])


def test_each_market_of_a_pool_has_something_to_learn_from_and_to_test_on() -> None:
    """By hand: liquidations in blocks 1 to 9 and 11 to 19, split in the middle of each or at a block."""
    packed = [_packed("a"), _packed("b")]
    asked = [(0, 30, list(range(1, 10))), (0, 30, list(range(11, 20)))]
    sides = _sides(packed, asked, [0.6, 0.6])
    assert [(side.first, side.last, side.begin, side.end, len(side.taken)) for side in sides] == [
        (0, 5, 6, 30, 4), (0, 15, 16, 30, 4),
    ]  # fmt: skip
    with pytest.raises(UserError, match="b has no liquidation to learn from"):
        _sides(packed, asked, [11, 11])
    with pytest.raises(UserError, match="a has no liquidation to learn from, or nothing after"):
        _sides(packed, [(0, 9, [9]), asked[1]], [0.5, 0.5])
    with pytest.raises(UserError, match="8 liquidations of 2 markets, up to the split and 10 after it"):
        _sides(packed, asked, [5, 15])


def _packed(name: str) -> Packed:
    return Packed(name, "", 1)
