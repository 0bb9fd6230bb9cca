"""A lake with made-up prices and runs, to test pages and tables that only read results: nothing in it was replayed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.outcome import question_of, terms_of
from backtest.result_tables import RESULTS
from backtest.scenario import Competitive, Contest, Override, Scenario, Users
from backtest.tables import CANONICAL
from tests.support.made_up_competition import competition

MARKET = "made-up"
START, HOUR, BLOCK_SECONDS = 1_583_971_200, 3600, 12
FIRST_BLOCK, HOURS = 1000, 48
SYMBOLS = ("WETH", "WBTC", "wstETH", "LINK", "USDC", "DAI")
ASSETS = tuple(f"0x{i + 1:040x}" for i in range(len(SYMBOLS)))
SCENARIOS = (
    Scenario(),
    Scenario(name="baseline", liquidators=Competitive()),
    Scenario(
        name="WETH threshold −3 points",
        liquidators=Competitive(),
        overrides=(Override(parameter="liquidation_threshold", asset="WETH", value=8000),),
    ),
    # Of other liquidators than the baseline: it has none to be compared with.
    Scenario(
        name="bonus +2 points",
        liquidators=Competitive(gas_cost=5 * 10**8),
        overrides=(Override(parameter="liquidation_bonus", value=10_700),),
    ),
)
RESPONDING = tuple(
    replace(scenario, name=f"{scenario.name}, {response}", users=Users(response=response))
    for scenario in SCENARIOS[1:3]
    for response in ("same-ltv", "same-health")
)
"""The rest of the band of the second alternative, with its baselines."""


def make_lake(
    path: Path,
    *,
    liquidations: int = 60,
    name: str = "history",
    market: str = MARKET,
    band: bool = False,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> Lake:
    """A lake of a run of each scenario in one market; ``liquidations`` in the first, named ``name``, a few more in each
    other; 0: none in any.

    With ``band`` the first alternative and its baseline are there for users who respond, too. Runs of searchers that
    compete have opportunities, bids and waterfalls.
    """
    lake = Lake(path, create=True)
    draw = random.Random(7)
    config = MarketConfig(
        name=market, protocol="aave-v3", chain_id=31_337, start_block=1, contracts={"pool": "0x" + "11" * 20}
    )
    prices = _prices(draw)
    with lake.writer() as writer:
        writer.set_market(config)
        canonical = [
            ("canonical/assets", _assets(market)),
            ("canonical/prices", _table(CANONICAL["prices"], prices, market)),
        ]
        writer.replace(market, "canonical/", canonical, stamp="1:made-up")
        for i, scenario in enumerate((*scenarios, *(RESPONDING if band else ()))):
            rows_of = _run(draw, market, i, scenario, prices, liquidations + 6 * i if liquidations else 0)
            if i == 0:
                rows_of["runs"][0]["name"] = name
            for dataset, rows in rows_of.items():
                writer.append(market, f"results/{dataset}", _table(RESULTS[dataset], rows, market))
    lake.refresh()
    return lake


def _table(schema: pa.Schema, rows: list[dict[str, Any]], market: str) -> pa.Table:
    columns = {}
    for field in schema:
        values = [market if field.name == "market" else row.get(field.name) for row in rows]
        if pa.types.is_decimal(field.type):
            values = [None if value is None else Decimal(value) for value in values]
        kind = pa.string() if pa.types.is_dictionary(field.type) else field.type
        columns[field.name] = pa.array(values, kind).cast(field.type)
    return pa.table(columns, schema=schema)


def _assets(market: str) -> pa.Table:
    rows = [{"asset_id": i, "asset": asset, "symbol": SYMBOLS[i], "decimals": 18} for i, asset in enumerate(ASSETS)]
    return _table(CANONICAL["assets"], rows, market)


def _prices(draw: random.Random) -> list[dict[str, Any]]:
    level = [194.0, 7930.0, 210.0, 3.8, 1.0, 1.01]
    volatile = [1.0, 0.9, 1.0, 1.3, 0.0, 0.02]
    rows = []
    for hour in range(HOURS):
        drop = -0.09 if hour in (10, 11, 12, 22, 23) else 0.001
        for asset in range(len(SYMBOLS)):
            level[asset] *= 1 + volatile[asset] * (drop + draw.gauss(0, 0.012))
            rows.append(
                {
                    "seq": len(rows),
                    "block_number": FIRST_BLOCK + hour * HOUR // BLOCK_SECONDS,
                    "log_index": asset,
                    "timestamp": START + hour * HOUR,
                    "asset_id": asset,
                    "price": int(level[asset] * 10**8),
                    "method": "feed",
                    "exact": True,
                }
            )
    return rows


def _run(
    draw: random.Random, market: str, i: int, scenario: Scenario, prices: list[dict[str, Any]], liquidations: int
) -> dict[str, list[dict[str, Any]]]:
    digest = scenario.digest() if market == MARKET else hashlib.sha256(market.encode()).hexdigest()
    run_id = f"{i + 1}" * 4 + digest[:60]
    hits, deficits, totals = [], [], []
    for ordinal in range(liquidations):
        hour = min(HOURS - 1, max(0, int(draw.gauss(12 if draw.random() < 0.7 else 23, 2))))
        timestamp = START + hour * HOUR + draw.randrange(HOUR)
        repaid = int(draw.paretovariate(1.1) * 400 * 10**8)
        seized = repaid * 107 // 100
        fee = (seized - repaid) // 10
        hits.append(
            {
                "seq": 10_000 + ordinal,
                "block_number": FIRST_BLOCK + (timestamp - START) // BLOCK_SECONDS,
                "log_index": 3,
                "timestamp": timestamp,
                "account": f"0x{0xACC0 + draw.randrange(40):040x}",
                "liquidator": f"0x{0x111:040x}",
                "debt_asset": ASSETS[draw.choice((4, 5))],
                "collateral_asset": ASSETS[draw.choice((0, 0, 0, 1, 2, 3))],
                "repaid": repaid * 10**10,
                "seized": seized * 10**8,
                "protocol_fee": fee * 10**8,
                "receive_collateral_token": False,
                "repaid_base": repaid,
                "seized_base": seized - fee,
                "protocol_fee_base": fee,
                "profit_base": seized - fee - repaid,
                "health_before": int((1 - draw.paretovariate(3) / 40) * 10**18),
                "health_after": 11 * 10**17,
                "rules_tested": True,
                "matches_history": True if i == 0 else None,
                "made_by_override": False,
            }
        )
    hits.sort(key=lambda row: row["timestamp"])
    if hits:
        hits[0]["made_by_override"] = bool(scenario.overrides)
    for ordinal, hit in enumerate(hits):
        hit["ordinal"] = ordinal
        if ordinal % 9 == 5 + i % 3:
            amount = hit["repaid_base"] // 20
            asset = hit["debt_asset"]
            row = {key: hit[key] for key in ("seq", "block_number", "timestamp", "account")}
            deficits.append(
                {**row, "ordinal": len(deficits), "asset": asset, "amount": amount * 10**10, "amount_base": amount}
            )
    for hour in range(HOURS):
        end = START + hour * HOUR
        weth = next(row["price"] for row in prices if row["asset_id"] == 0 and row["timestamp"] == end)
        gone = sum(hit["repaid_base"] for hit in hits if hit["timestamp"] <= end)
        totals.append(
            {
                "block_number": FIRST_BLOCK + hour * HOUR // BLOCK_SECONDS,
                "timestamp": end,
                "collateral_base": weth * 5000 - gone,
                "debt_base": 500_000 * 10**8 - gone,
                "liquidatable_debt_base": sum(
                    hit["repaid_base"] for hit in hits if end < hit["timestamp"] <= end + HOUR // 2
                ),
                "bad_debt_base": sum(
                    row["amount_base"] for row in deficits if end < row["timestamp"] <= end + HOUR * 4
                ),
                "deficit_base": sum(row["amount_base"] for row in deficits if row["timestamp"] <= end),
                "accounts_liquidatable": 0,
            }
        )
    kind = str(scenario.liquidators.__struct_config__.tag)
    equity = _equity(draw, hits)
    run = {
        "name": scenario.name,
        "protocol": "aave-v3",
        "scenario": scenario.canonical(),
        "terms": terms_of(scenario),
        "question": question_of(scenario),
        "seed": scenario.seed,
        "rules_version": "1",
        "engine_version": "1",
        "lake_digest": "ab" * 32,
        "synthetic": True,
        "proxy_prices": False,
        "from_block": FIRST_BLOCK,
        "to_block": FIRST_BLOCK + HOURS * HOUR // BLOCK_SECONDS,
        "from_timestamp": START,
        "to_timestamp": START + HOURS * HOUR,
        "liquidator_model": kind,
        "overridden": bool(scenario.overrides),
        "response": scenario.users.response,
        "refused": scenario.users.refused,
        "rates": scenario.rates,
        "liquidations": len(hits),
        "accounts_liquidated": len({hit["account"] for hit in hits}),
        "actions": 900,
        "actions_altered": 2 * i,
        "missing_windows": json.dumps(["+1d", "+7d"]),
        "notes": json.dumps(["Market and execution prices are the oracle's.", f"Liquidators: {kind}."]),
    }
    tables = {
        "runs": [run],
        "run_liquidations": hits,
        "run_deficits": deficits,
        "run_totals": totals,
        "run_windows": [_window(label, hits, deficits, totals, equity) for label in ("end", "+1h")],
        "run_equity": [
            {"label": label, "account": account, "equity_base": value}
            for label in ("end", "+1h")
            for account, value in equity.items()
        ],
        "run_actions": (
            [
                {
                    "action": "borrow",
                    "outcome": "skipped",
                    "reason": "health factor",
                    "unfunded": False,
                    "actions": i,
                    "value_base": i * 10**11,
                },
                {
                    "action": "repay",
                    "outcome": "cut",
                    "reason": "",
                    "unfunded": True,
                    "actions": i,
                    "value_base": i * 10**9,
                },
            ]
            * bool(i)
        ),
        "run_override_accounts": [
            {"account": hit["account"], "block_number": FIRST_BLOCK, "timestamp": START, "debt_base": 7 * 10**10}
            for hit in hits
            if hit["made_by_override"]
        ],
        "run_reach": (
            [{"override": "made up", "accounts": 12, "accounts_with_debt": 48, "accounts_in_emode": 5}]
            * bool(scenario.overrides)
        ),
        **(competition(draw, hits, run) if isinstance(scenario.liquidators, Contest) else {}),
    }
    return {dataset: [{"run_id": run_id, **row} for row in rows] for dataset, rows in tables.items()}


def _equity(draw: random.Random, hits: list[dict[str, Any]]) -> dict[str, int]:
    """Of every account that was liquidated and of ten others; the first two owe more than they hold."""
    accounts = sorted({hit["account"] for hit in hits} | {f"0x{0xBEEF + n:040x}" for n in range(10)})
    return {
        account: draw.randrange(10**10, 10**13) * (-1 if place < 2 else 1) for place, account in enumerate(accounts)
    }


def _window(
    label: str,
    hits: list[dict[str, Any]],
    deficits: list[dict[str, Any]],
    totals: list[dict[str, Any]],
    equity: dict[str, int],
) -> dict[str, Any]:
    realised, still_open = sum(row["amount_base"] for row in deficits), sum(max(0, -value) for value in equity.values())
    later = HOUR * (label == "+1h")
    return {
        "label": label,
        "block_number": totals[-1]["block_number"] + later // BLOCK_SECONDS,
        "timestamp": totals[-1]["timestamp"] + later,
        "liquidations": len(hits),
        "deficits": len(deficits),
        **{key: sum(hit[key] for hit in hits) for key in ("repaid_base", "seized_base", "protocol_fee_base")},
        "realised_bad_debt_base": realised,
        "open_bad_debt_base": still_open,
        "peak_bad_debt_base": 2 * (realised + still_open),
        "peak_block": totals[3]["block_number"],
        "peak_timestamp": totals[3]["timestamp"],
        **{
            key: totals[-1][key]
            for key in ("collateral_base", "debt_base", "liquidatable_debt_base", "accounts_liquidatable")
        },
        "accounts_unpriced": 0,
    }
