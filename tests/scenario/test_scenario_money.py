"""Amounts of mitigations in words: whole units of the base currency where the currency is known."""

from __future__ import annotations

import pytest

from backtest.scenario import DepthCap, Mitigation, Pause, ReserveFund, SizeTiers, Throttle


@pytest.mark.parametrize(
    ("mitigation", "said"),
    [
        (Throttle(most_repaid=10**12, seconds=60), "At most 10,000 USD of debt are liquidated within 60 s"),
        (SizeTiers(tiers=((10**11, 9_500),)), "up to 1,000 USD below 0.95"),
        (DepthCap(asset="CRV", depth_base=5 * 10**8), "beyond 2 times a depth of 5 USD is refused"),
        (ReserveFund(name="umbrella", reserve=7 * 10**8), "with 7 USD"),
    ],
    ids=["throttle", "size tiers", "depth cap", "reserve fund"],
)
def test_amounts_are_in_the_currency(mitigation: Mitigation, said: str) -> None:
    told = mitigation.told(lambda base: f"{base // 10**8:,} USD")
    assert said in told
    assert "base units" not in told
    assert "base units" in mitigation.said


def test_what_has_no_amount_says_the_same() -> None:
    pause = Pause(from_time="2024-01-01", until_time="2024-01-02", market="a")
    assert pause.told(str) == pause.said
    assert "of a from" in pause.said
