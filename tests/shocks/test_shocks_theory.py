"""Models of prices against what theory says of them, on data whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from backtest.shocks import fits, models
from backtest.shocks.draws import stream
from backtest.shocks.models import Bootstrap, Copula, Filtered, Jumps, Regimes, stationary, tail_dependence
from backtest.shocks.statistics import clustering, dependence, fall_within, hill
from tests.support.made_up_prices import garch_returns, panel, student_returns


def test_blocks_of_the_bootstrap_are_geometric_with_the_stated_mean() -> None:
    rows = stationary(stream(1, "x", 0), 1_000, 200_000, 20)
    follows = (np.diff(rows) % 1_000) == 1
    assert follows.mean() == pytest.approx(1 - 1 / 20 + 1 / 20 / 1_000, abs=3e-3)
    lengths = np.diff(np.flatnonzero(~follows))
    assert lengths.mean() == pytest.approx(20, rel=0.03)
    assert lengths.std() == pytest.approx(np.sqrt(1 - 1 / 20) * 20, rel=0.05)  # of a geometric law
    assert (np.bincount(rows, minlength=1_000) > 0).all()  # the circle is closed: every row is as likely


def test_a_mean_of_the_bootstrap_has_the_variance_of_politis_and_romano() -> None:
    """Politis and Romano (1994), lemma 1: the sum of weighted circular autocovariances."""
    draw = np.random.default_rng(3)
    noise = draw.normal(size=300)
    data = noise + 0.8 * np.roll(noise, 1)
    block, steps = 8.0, 60
    centred = data - data.mean()
    circular = [float((centred * np.roll(centred, -lag)).mean()) for lag in range(steps)]
    keep = 1 - 1 / block
    theory = circular[0] / steps + 2 / steps * sum(
        (1 - lag / steps) * keep**lag * circular[lag] for lag in range(1, steps)
    )
    means = [data[stationary(stream(7, "x", path), 300, steps, block)].mean() for path in range(20_000)]
    assert np.mean(means) == pytest.approx(data.mean(), abs=4 * np.sqrt(theory / 20_000))
    assert np.var(means) == pytest.approx(theory, rel=0.04)


def test_gas_stays_with_the_prices_of_its_moment() -> None:
    returns = np.arange(1, 501)[:, None] * np.array([[1e-5, -2e-5]])
    of = panel(returns, gas=np.arange(1, 501) / 250)
    for model in (Bootstrap(block=5), Filtered(), models.ScaledHistory()):
        fit = model.fit(of)
        drawn = model.draw(fit, stream(1, "x", 4), 100)
        assert drawn.gas is not None
        rows = np.rint(drawn.gas * 250).astype(int) - 1
        if not isinstance(model, Filtered):
            assert drawn.returns == pytest.approx(returns[rows])
        else:  # the standardised rows, scaled by the path's own volatility
            scaled = drawn.returns / fit["residuals"][rows]
            assert (scaled > 0).all()


def test_the_dependence_of_a_t_copula_in_the_tail_is_that_of_its_formula() -> None:
    assert tail_dependence(4, 0.5) == pytest.approx(0.253, abs=5e-4)  # Demarta and McNeil, table 1
    assert tail_dependence(4, 0.8) == pytest.approx(0.490, abs=1.5e-3)


def test_a_copula_finds_its_law_again_and_draws_it() -> None:
    truth = student_returns(6_000, 4, 0.7)
    fit = Copula().fit(panel(truth))
    correlation = fit["root"] @ fit["root"].T
    assert correlation[0, 1] == pytest.approx(0.7, abs=0.03)
    assert 3 <= float(fit["freedom"][0]) <= 5
    drawn = Copula(freedom=4).draw(Copula(freedom=4).fit(panel(truth)), stream(1, "x", 0), 40_000).returns
    assert stats.kendalltau(drawn[:5_000, 0], drawn[:5_000, 1]).statistic == pytest.approx(
        2 / np.pi * np.arcsin(correlation[0, 1]), abs=0.02
    )
    for asset in range(2):  # each asset's own law is the data's
        assert stats.ks_2samp(drawn[:, asset], truth[:, asset]).statistic < 0.02
    # both beyond the worst hundredth: by the bivariate t itself
    worst = stats.t.ppf(0.01, 4)
    law = stats.multivariate_t(shape=correlation, df=4)
    expected = law.cdf([worst, worst], random_state=1) / 0.01
    low = np.quantile(drawn, 0.01, axis=0)
    assert ((drawn <= low).all(axis=1)).mean() / 0.01 == pytest.approx(expected, abs=0.06)
    assert expected > tail_dependence(4, 0.7)


def test_a_garch_finds_its_terms_again_and_the_path_follows_them() -> None:
    truth = garch_returns(12_000, 4e-8, 0.08, 0.90)
    found = fits.garch(panel(truth[:, None]))
    assert found.filtered.all()
    assert found.alpha[0] == pytest.approx(0.08, abs=0.02)
    assert found.beta[0] == pytest.approx(0.90, abs=0.03)
    assert found.residuals.std() == pytest.approx(1, abs=0.03)
    assert abs(clustering([found.residuals[:, 0]]) or 0) < 0.03 < (clustering([truth]) or 0)
    fit = dict(Filtered().fit(panel(truth[:, None])))
    fit["residuals"] = np.array([[2.0]])  # one row: every step is two deviations
    fit["terms"] = np.array([[1.0], [0.25], [0.5], [4.0]])
    drawn = Filtered().draw(fit, stream(1, "x", 0), 3).returns[:, 0]
    # variances 4; 1 + 0.25 * 16 + 0.5 * 4 = 7; 1 + 0.25 * 28 + 0.5 * 7 = 11.5
    assert drawn == pytest.approx(2 * np.sqrt([4, 7, 11.5]))


def test_a_variance_that_does_not_come_back_is_made_to() -> None:
    """Data whose alpha and beta come to one, as months of crisis do: beta is lowered, the mean stays the data's."""
    draw = np.random.default_rng(9)
    truth, variance = np.empty(8_000), 1e-6
    for row in range(8_000):
        truth[row] = np.sqrt(variance) * draw.standard_t(6) * np.sqrt(4 / 6)
        variance = 1e-9 + 0.13 * truth[row] ** 2 + 0.87 * variance
    found = fits.garch(panel(truth[:, None]))
    assert found.filtered.all()
    assert found.alpha[0] + found.beta[0] == pytest.approx(fits.PERSISTENCE)
    assert found.omega[0] / (1 - fits.PERSISTENCE) == pytest.approx(truth.var(), rel=0.01)
    assert found.residuals.std() == pytest.approx(1)


def test_an_oracle_that_seldom_speaks_is_drawn_as_it_is() -> None:
    truth = np.where(np.arange(3_000) % 12 == 0, np.random.default_rng(2).normal(0, 0.01, 3_000), 0.0)
    fit = Filtered(start="worst").fit(panel(truth[:, None]))
    assert not fit["filtered"].any()
    paths = [Filtered(start="worst").draw(fit, stream(1, "x", path), 288).returns for path in range(200)]
    assert np.concatenate(paths).std() == pytest.approx(truth.std(), rel=0.05)


def test_an_asset_that_does_not_move_is_no_failure_of_the_fit() -> None:
    truth = np.column_stack([garch_returns(2_000, 4e-8, 0.08, 0.90), np.zeros(2_000)])
    for model in (Filtered(), Bootstrap(), Copula(), Regimes(), Jumps(), models.Sigmas()):
        drawn = model.draw(model.fit(panel(truth)), stream(1, "x", 0), 288).returns
        assert np.isfinite(drawn).all()
        assert np.abs(drawn[:, 1]).max() < 1e-6


def test_jumps_have_mertons_moments() -> None:
    draw = np.random.default_rng(5)
    truth = draw.normal(0, 0.001, (20_000, 3))
    model = Jumps(per_day=50_000, size=-200, deviation=100)
    fit = model.fit(panel(truth))
    rate = 5 * 300 / 86_400
    drawn = np.concatenate([model.draw(fit, stream(1, "x", path), 288).returns for path in range(400)])
    assert drawn.mean(axis=0) == pytest.approx(rate * -0.02, rel=0.1)
    variance = 0.001**2 + rate * (0.02**2 + 0.01**2)
    assert drawn.var(axis=0) == pytest.approx(variance, rel=0.1)
    fourth = rate * (0.02**4 + 6 * 0.02**2 * 0.01**2 + 3 * 0.01**4)  # the fourth cumulant of a compound Poisson law
    assert stats.kurtosis(drawn[:, 0]) == pytest.approx(fourth / variance**2, rel=0.15)


def test_jumps_are_found_in_data_that_have_them() -> None:
    draw = np.random.default_rng(6)
    truth = draw.normal(0, 0.001, (20_000, 3))
    at = np.arange(100, 20_000, 400)
    truth[at] -= 0.03
    found = fits.jumps(panel(truth), 5)
    assert found.joint_rate == pytest.approx(1 / 400, rel=0.02)
    assert found.joint_mean == pytest.approx(-0.03, rel=0.05)
    assert np.sqrt(np.diag(found.root @ found.root.T)) == pytest.approx(0.001, rel=0.05)


def test_regimes_are_found_again_with_their_correlations() -> None:
    draw = np.random.default_rng(8)
    calm = draw.multivariate_normal([0, 0], 1e-6 * np.array([[1, 0.1], [0.1, 1]]), 18_000)
    stress = draw.multivariate_normal([0, 0], 25e-6 * np.array([[1, 0.9], [0.9, 1]]), 2_000)
    truth = np.concatenate([calm[:9_000], stress, calm[9_000:]])
    model = Regimes(start="stressed")
    fit = model.fit(panel(truth))
    covariance = [fit[name] @ fit[name].T for name in ("calm", "stress")]
    assert [each[0, 1] / each[0, 0] for each in covariance] == pytest.approx([0.1, 0.9], abs=0.06)
    assert np.sqrt(covariance[1][0, 0] / covariance[0][0, 0]) == pytest.approx(5, rel=0.1)
    drawn = np.concatenate([model.draw(fit, stream(1, "x", path), 10).returns for path in range(3_000)])
    assert drawn.var(axis=0) == pytest.approx(np.diag(covariance[1]), rel=0.15)  # stays where it begins for so long


def test_statistics_by_hand() -> None:
    pareto = stats.pareto(3).rvs(100_000, random_state=1)
    assert hill(pareto) == pytest.approx(3, rel=0.05)
    assert fall_within(np.log([0.9, 1.1, 0.8, 0.9]), 2) == pytest.approx(1 - 0.72)  # the last two; three give 0.208
    assert fall_within(np.log([1.1, 1.1]), 6) == 0
    same = np.random.default_rng(1).normal(size=1_000)
    assert dependence(same, same) == 1
    assert dependence(same, -same) == 0
    assert hill(np.zeros(1_000)) is None
    assert clustering([np.zeros(100)]) is None
