"""Text to exact integers: what converts, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.imports.numbers import digest32, scaled, seconds, whole


@pytest.mark.parametrize(
    ("text", "decimals", "value"),
    [
        ("0.35", 18, 350000000000000000),
        ("3.66901E+20", 0, 366901000000000000000),
        ("8.00E-18", 18, 8),
        ("190818855732e-8", 8, 190818855732),
        ("-1.5", 1, -15),
        ("+7", 0, 7),
        (".5", 1, 5),
        ("5.", 0, 5),
        ("0e-999", 0, 0),
        ("1.10", 1, 11),
    ],
)
def test_decimals_are_exact(text: str, decimals: int, value: int) -> None:
    assert scaled(text, decimals) == value


@pytest.mark.parametrize(
    "text",
    ["", ".", "nan", "inf", "0x10", "1,000", "1 000", "1_000", "--5", "1e", "e5", " 1", "1\n", "١٢", "1.2.3", "True"],
)
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a decimal number"):
        scaled(text, 18)


def test_more_decimals_than_the_asset_has_are_refused_unless_rounding_is_allowed() -> None:
    with pytest.raises(ValueError, match="more than 2 decimals"):
        scaled("1.005", 2)
    assert [scaled(text, 2, "down") for text in ("1.005", "1.009", "-1.009")] == [100, 100, -100]
    assert [scaled(text, 2, "half-up") for text in ("1.005", "1.0049", "-1.005")] == [101, 100, -101]


@pytest.mark.parametrize(
    ("text", "reason"), [("1e21", "38 digits"), ("1e500", "out of range"), ("1e-500", "out of range")]
)
def test_amounts_beyond_38_digits_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        scaled(text, 18)


@given(st.integers(-(10**37), 10**37), st.integers(0, 18), st.integers(-20, 20))
def test_any_way_to_write_an_integer_gives_it_back(value: int, decimals: int, shift: int) -> None:
    with localcontext() as context:
        context.prec = 80
        text = str(Decimal(value).scaleb(-decimals))
        assert scaled(text, decimals) == value
        assert scaled(f"{Decimal(value).scaleb(-decimals - shift):f}e{shift}", decimals) == value


@given(st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,12})?(e-?[0-9])?", fullmatch=True), st.integers(0, 8))
def test_rounding_is_the_one_that_its_name_says(text: str, decimals: int) -> None:
    exact = Fraction(text) * 10**decimals
    down, half = scaled(text, decimals, "down"), scaled(text, decimals, "half-up")
    assert 0 <= abs(exact) - abs(down) < 1
    assert abs(exact - half) <= Fraction(1, 2)
    assert abs(half) >= abs(exact) or abs(exact) - abs(half) < Fraction(1, 2)
    if exact.denominator == 1:
        assert scaled(text, decimals) == exact == down == half


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 4, 14 * 4), st.sampled_from("T "))
def test_times_with_an_offset(moment: datetime, quarters: int, between: str) -> None:
    moment = moment.replace(microsecond=0)
    sign, minutes = "-" if quarters < 0 else "+", 15 * abs(quarters)
    text = f"{moment:%Y-%m-%d}{between}{moment:%H:%M:%S}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    assert seconds(text, None) == int((moment.replace(tzinfo=UTC) - timedelta(minutes=15 * quarters)).timestamp())


def test_times() -> None:
    assert seconds("2020-10-19T20:04:20Z", None) == 1603137860
    assert seconds("2020-03-12T00:00:00.0000000Z", None) == 1583971200
    assert seconds("1603137860", None) == 1603137860
    assert seconds("2020-10-19 20:04:20 UTC", None) == 1603137860
    assert seconds("2020-07-01 12:00:00", ZoneInfo("UTC")) == 1593604800
    assert seconds("2020-07-01 12:00:00+02:00", ZoneInfo("UTC")) == 1593597600


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2020-10-19 20:04:20", "states no time zone"),
        ("2020-10-19T20:04:20.5Z", "not a full second"),
        ("1603137860000", "neither an ISO time nor epoch seconds"),
        ("19.10.2020", "neither"),
        ("2021-02-29T00:00:00Z", "is no date"),
        ("2021-02-28T24:00:00Z", "no time of day"),
        ("2020-10-19 2:04:20Z", "neither"),
    ],
)
def test_times_that_say_too_little_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        seconds(text, None)


def test_hours_that_come_twice_or_never_are_refused() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for text in ("2020-10-25 02:30:00", "2020-03-29 02:30:00"):
        with pytest.raises(ValueError, match="comes twice or never"):
            seconds(text, zone)
    assert seconds("2020-10-25 03:30:00", zone) == 1603593000


def test_whole_numbers_and_hashes() -> None:
    assert [whole(text) for text in ("0042", "100.0", "1E2", "7.")] == [42, 100, 100, 7]
    for text in ("-1", "1.5", "", "１", "1.0000000001", "nan", "0x10", "1 0"):
        with pytest.raises(ValueError, match="not a whole number"):
            whole(text)
    assert digest32("0x" + "aB" * 32) == bytes([0xAB]) * 32
    for text in ("0x" + "aB" * 32, "0X" + "AB" * 32, "\\x" + "ab" * 32, "ab" * 32):
        assert digest32(text) == bytes([0xAB]) * 32
    for text in ("0x12", "12" * 33, "0x" + "zz" * 32, "0x" + "ab " * 21 + "a", "\\X" + "ab" * 32):
        with pytest.raises(ValueError, match="not a transaction hash"):
            digest32(text)
