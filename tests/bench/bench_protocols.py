"""The calm and the crash book of ``bench_replay`` as markets of other protocols, beside Aave V3's in the same run.

``python -m tests.bench.bench_protocols`` prints the rows; ``make bench`` collects ``run()``. A ratio is of twice what
Aave V3 took to what this one took: one and more is within two times.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.model import Asset, AssetId, Market
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.maker import MAKER
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.replay.engine import replay
from backtest.replay.shortcuts.common_start import start_of
from backtest.replay.timeline import Timeline
from backtest.tables import AMOUNT
from tests.bench.bench_replay import WINDOW, _row, _seconds, _table, market, timeline

WAD, RAY = 10**18, 10**27
Param = tuple[str, int | None, int]


@dataclass(frozen=True)
class _Pair:
    """A book of one collateral and one debt. ``held`` and ``owed``: which asset each is, and stored units of a dollar's
    worth of debt and of a thousandth of a token of collateral; ``native``: the same as the logs' amounts.
    """

    params: tuple[Param, ...]
    decimals: tuple[int, int]
    held: int = 1
    dollar: int = 10**6
    thousandth: int = 10**15
    native: int | None = None
    native_thousandth: int | None = None
    base_decimals: int = 8
    price_decimals: int | None = None
    price_unit: int = 10**8
    price_digits: int = 0
    lent: tuple[int, int] | None = None
    entered: bool = False
    actions: tuple[str, str] = ("supply", "borrow")


PAIRS: dict[str, _Pair] = {
    "morpho-blue": _Pair(
        (("created", None, 1), ("liquidation_threshold", 1, 8 * 10**17)), (6, 18), dollar=10**12, native=10**6,
        price_decimals=24, price_unit=10**24, lent=(10**24, 10**18),
    ),
    "maker": _Pair(
        (
            ("liquidation_ratio", 0, RAY * 5 // 4), ("liquidation_penalty", 0, 113 * 10**16),
            ("liquidation_system", 0, 20), ("buf", 0, RAY * 12 // 10), ("par", None, RAY),
        ),
        (18, 18), held=0, dollar=WAD, base_decimals=18, price_unit=WAD,
    ),
    "compound-v3": _Pair(
        (
            ("comet_revision", None, 1), ("supply_kink", None, 8 * 10**17), ("supply_rate_base", None, 0),
            ("supply_rate_slope_low", None, 0), ("supply_rate_slope_high", None, 0), ("borrow_kink", None, 8 * 10**17),
            ("borrow_rate_base", None, 0), ("borrow_rate_slope_low", None, 0), ("borrow_rate_slope_high", None, 0),
            ("store_front_price_factor", None, WAD // 2), ("tracking_index_scale", None, 10**15),
            ("base_tracking_supply_speed", None, 0), ("base_tracking_borrow_speed", None, 0),
            ("base_min_for_rewards", None, 10**9), ("base_borrow_min", None, 1), ("target_reserves", None, 10**15),
            ("ltv", 1, 77 * 10**16), ("liquidation_threshold", 1, 8 * 10**17), ("liquidation_factor", 1, 95 * 10**16),
            ("supply_cap", 1, 10**32), ("created", None, 12),
        ),
        (6, 18), lent=(10**18, 10**18),
    ),
    "compound-v2": _Pair(
        (
            ("comptroller_revision", None, 1), ("close_factor", None, WAD // 2), ("created", 0, 1), ("created", 1, 1),
            ("liquidation_threshold", 0, 8 * 10**17), ("liquidation_threshold", 1, 8 * 10**17),
            ("liquidation_bonus", 0, 108 * 10**16), ("liquidation_bonus", 1, 108 * 10**16),
        ),
        (6, 18), thousandth=5_000_000, native_thousandth=10**15, base_decimals=18, price_decimals=36,
        price_unit=WAD,
        price_digits=18, lent=(10**18, 10**18), entered=True,
    ),
    "liquity-v1": _Pair(
        (
            ("liquidation_ratio", None, WAD * 5 // 4), ("critical_ratio", None, 1), ("gas_share", None, WAD // 200),
            ("dust", None, 1), ("fee_time", None, 12),
        ),
        (18, 18), held=0, dollar=WAD, base_decimals=18, price_unit=WAD, actions=("open", "open"),
    ),
}  # fmt: skip


def two_assets(protocol: str, accounts: int, ticks: int, *, fall: float, seed: int = 1) -> tuple[Market, Timeline]:
    """A book of one collateral, whose price is one a block, walks by 0.05 % and falls by ``fall`` in the middle tenth:
    everybody at a health of 1.05 to 3, the last account lends.
    """
    of = PAIRS[protocol]
    held, owed = of.held, 1 - of.held
    listed = tuple(Asset(AssetId(i), f"0x{i:040x}", f"A{i}", of.decimals[i]) for i in range(2))
    first_own = 2 if protocol == "liquity-v1" else 0  # the system's own accounts come first
    names = tuple(f"0x{i:040x}" for i in range(first_own + accounts + 1))
    made = Market(
        name="bench", protocol=protocol, chain_id=1, assets=listed, accounts=names, base_decimals=of.base_decimals,
        price_decimals=of.price_decimals,
    )  # fmt: skip
    draw = np.random.default_rng(seed)
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(np.int64)  # dollars
    debt = (worth * 0.8 / draw.uniform(1.05, 3, accounts)).astype(np.int64)
    log_price = draw.normal(0, 0.0005, ticks)  # as each of four in turn
    log_price[ticks * 9 // 20 : ticks * 11 // 20] += np.log(1 - fall) / max(1, ticks // 10)
    prices = [int(price * 10**6) * of.price_unit // 10**6 for price in np.exp(np.cumsum(log_price)) * 1_000]
    lent = 0 if of.lent is None else 1
    rows, params = np.arange(accounts) + first_own, len(of.params)
    settings = 2 * accounts if of.entered else 0
    opening = params + 2 + settings
    first = opening + 2 * accounts + lent
    seq = opening + np.arange(2 * accounts + lent)
    native = of.dollar if of.native is None else of.native
    native_thousandth = of.thousandth if of.native_thousandth is None else of.native_thousandth
    delta, amount = ([], []) if of.lent is None else ([of.lent[0]], [of.lent[1]])
    for holds, owes in zip(worth.tolist(), debt.tolist(), strict=True):
        delta += [holds * of.thousandth, owes * of.dollar]
        amount += [holds * native_thousandth, owes * native]
    sides = np.concatenate([np.zeros(lent, np.int32), np.tile([0, 1], accounts).astype(np.int32)])
    who = np.concatenate([np.full(lent, first_own + accounts), np.repeat(rows, 2)])
    asset = np.concatenate([np.full(lent, owed), np.tile([held, owed], accounts)])
    tables = {
        "params": _table(
            "params", np.arange(params), np.ones(params, np.int64),
            asset_id=pa.array([a for _, a, _ in of.params], pa.int16()), category=pa.nulls(params, pa.int32()),
            name=pa.array([n for n, _, _ in of.params]).dictionary_encode(),
            value=pa.array([v for _, _, v in of.params], AMOUNT),
        ),
        "prices": _table(
            "prices", np.concatenate([params + np.arange(2), first + np.arange(ticks)]),
            np.concatenate([[1, 1], 2 + np.arange(ticks)]),
            asset_id=pa.array(np.array([owed, held] + [held] * ticks, np.int16)),
            price=pa.array([of.price_unit, 1_000 * of.price_unit, *prices], AMOUNT),
        ),
        "position_events": _table(
            "position_events", seq, np.ones(len(seq), np.int64), account_id=pa.array(who.astype(np.int32)),
            asset_id=pa.array(asset.astype(np.int16)),
            side=pa.DictionaryArray.from_arrays(pa.array(sides), ["collateral", "debt"]), delta=pa.array(delta, AMOUNT),
            action=pa.array([of.actions[side] for side in sides.tolist()]).dictionary_encode(),
            action_seq=pa.array(seq), amount=pa.array(amount, AMOUNT),
        ),
    }  # fmt: skip
    if of.entered:
        of_setting = params + 2 + np.arange(settings)
        tables["setting_events"] = _table(
            "setting_events", of_setting, np.ones(settings, np.int64),
            account_id=pa.array(np.repeat(rows, 2).astype(np.int32)),
            setting=pa.array(["collateral_enabled"] * settings).dictionary_encode(),
            asset_id=pa.array(np.tile([held, owed], accounts).astype(np.int16)),
            value=pa.array([1] * settings, AMOUNT), action=pa.array(["other"] * settings).dictionary_encode(),
            action_seq=pa.array(of_setting),
        )  # fmt: skip
    return made, Timeline.of(tables, price_digits=of.price_digits)


def _aave(revision: int) -> Callable[..., tuple[Market, Timeline]]:
    return lambda accounts, ticks, fall: (market(accounts), timeline(accounts, ticks, fall=fall, revision=revision))


def _pair(name: str) -> Callable[..., tuple[Market, Timeline]]:
    return lambda accounts, ticks, fall: two_assets(name, accounts, ticks, fall=fall)


BOOKS: tuple[tuple[LendingProtocol[Any], Callable[..., tuple[Market, Timeline]]], ...] = (
    (AAVE_V3, _aave(10)), (MORPHO_BLUE, _pair("morpho-blue")), (MAKER, _pair("maker")), (AAVE_V2, _aave(2)),
    (COMPOUND_V3, _pair("compound-v3")), (COMPOUND_V2, _pair("compound-v2")), (LIQUITY_V1, _pair("liquity-v1")),
)  # fmt: skip


def rows_of(
    name: str, accounts: int, ticks: int, fall: float, only: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """One book as each protocol has it: from the beginning, and from a common start."""
    rows, beside = [], (0.0, 0.0)
    for protocol, book in BOOKS:
        if only and protocol is not AAVE_V3 and protocol.name not in only:
            continue
        of, history = book(accounts, ticks, fall)
        replay(protocol, *book(600, 60, 0.3), WINDOW)  # what is compiled is there
        whole, result = _seconds(lambda p=protocol, o=of, h=history: replay(p, o, h, WINDOW))
        _, start = _seconds(lambda p=protocol, o=of, h=history: start_of(p, o, h, WINDOW))
        short, again = _seconds(lambda p=protocol, o=of, h=history, s=start: replay(p, o, h, WINDOW, start=s))
        if result.liquidations != again.liquidations:
            raise AssertionError(f"{name}, {protocol.name}: replays differ")
        if protocol is AAVE_V3:
            beside = whole, short
        shape = f"{accounts} accounts x {ticks} ticks, {len(result.liquidations)} liquidations; against twice Aave V3's"
        for what, seconds, aave in (
            ("exact replay", whole, beside[0]), ("exact replay from a common start", short, beside[1]),
        ):  # fmt: skip
            own = protocol is AAVE_V3
            rows.append(
                _row(
                    f"{what}, {name} book, {protocol.name}", seconds, "s", shape, None if own else 2 * aave,
                    None if own else 2 * aave / seconds,
                )
            )  # fmt: skip
        del of, history, start, result, again
        gc.collect()
    return rows


def run(accounts: int = 100_000, ticks: int = 20_000) -> list[dict[str, Any]]:
    """The calm and the crash book."""
    return rows_of("calm", accounts, ticks, 0.0) + rows_of("crash", accounts, ticks, 0.3)


if __name__ == "__main__":
    size = [int(number) for number in sys.argv[1:3]] or [100_000, 20_000]
    chosen = frozenset(sys.argv[3:])
    for row in rows_of("calm", *size, 0.0, chosen) + rows_of("crash", *size, 0.3, chosen):
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['name']:64} {row['value']:>10,.2f} {row['unit']:4} {ratio:>8} {row['shape']}")
