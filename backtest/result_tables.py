"""The columns of every result table: what replays and validations store, append-only, beside the history they are of; a
digest of a run's rows.

Columns that rows of older versions lack are null there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from operator import index
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import UserError
from backtest.tables import AMOUNT, TEXT

_LARGEST = 10**38 - 1
_WORD = 2**64 - 1

_RUN = [pa.field("run_id", TEXT, nullable=False)]


def _result(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema(_RUN + [pa.field(f[0], f[1], nullable=f[2] if len(f) == 3 else False) for f in fields])


def _keyed(key: str, *fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    own = [pa.field(f[0], f[1], nullable=f[2] if len(f) == 3 else False) for f in fields]
    return pa.schema([pa.field(key, TEXT, nullable=False), pa.field("market", TEXT, nullable=False), *own])


def _amounts_named(*names: str) -> tuple[tuple[str, pa.DataType], ...]:
    return tuple((name, AMOUNT) for name in names)


_PATH = (("ordinal", pa.int64()), ("path", pa.int64()))
_sweep, _joint, _stress = (partial(_keyed, key) for key in ("sweep_id", "joint_id", "stress_id"))


RESULTS: dict[str, pa.Schema] = {
    # One row per run; scenario is canonical TOML-able JSON, notes the printed assumptions and warnings (JSON list).
    # ``terms`` is the scenario without its overrides: runs of equal terms are comparable; ``question`` is it with
    # frozen users: runs that differ in the users' response alone share it. An observed run is history. Columns that
    # runs of older versions lack are null there.
    "runs": _result(
        ("name", TEXT),
        ("market", TEXT),
        ("protocol", TEXT),
        ("scenario", TEXT),
        ("terms", TEXT, True),
        ("question", TEXT, True),
        ("seed", pa.int64()),
        ("rules_version", TEXT),
        ("engine_version", TEXT, True),
        ("lake_digest", TEXT),
        ("synthetic", pa.bool_(), True),
        ("proxy_prices", pa.bool_(), True),
        ("from_block", pa.int64()),
        ("to_block", pa.int64()),
        ("from_timestamp", pa.int64()),
        ("to_timestamp", pa.int64()),
        ("liquidator_model", TEXT),
        ("overridden", pa.bool_(), True),
        ("response", TEXT, True),
        ("refused", TEXT, True),
        ("rates", TEXT, True),
        ("liquidations", pa.int64()),
        ("accounts_liquidated", pa.int64()),
        ("actions", pa.int64(), True),
        ("actions_altered", pa.int64(), True),
        ("rate_updates", pa.int64(), True),
        ("rate_updates_differing", pa.int64(), True),
        ("rate_difference", AMOUNT, True),
        ("missing_windows", TEXT, True),
        ("notes", TEXT),
    ),
    # Native units, and base-currency units (market.base_decimals) at the oracle price of the execution.
    "run_liquidations": _result(
        ("market", TEXT),
        ("ordinal", pa.int64()),
        ("seq", pa.int64()),
        ("block_number", pa.int64()),
        ("log_index", pa.int32()),
        ("timestamp", pa.int64()),
        ("account", TEXT),
        ("liquidator", TEXT),
        ("debt_asset", TEXT),
        ("collateral_asset", TEXT),
        ("repaid", AMOUNT),
        ("seized", AMOUNT),
        ("protocol_fee", AMOUNT),
        ("receive_collateral_token", pa.bool_()),
        ("repaid_base", AMOUNT),
        ("seized_base", AMOUNT),
        ("protocol_fee_base", AMOUNT),
        ("profit_base", AMOUNT),
        ("health_before", AMOUNT, True),
        ("health_after", AMOUNT, True),
        ("rules_tested", pa.bool_()),
        ("matches_history", pa.bool_(), True),
        ("made_by_override", pa.bool_(), True),
        # whole: settled at once; opened: collateral and debt leave the account into an auction; auction: a step of one.
        # step: what it is called.
        ("stage", TEXT, True),
        ("step", TEXT, True),
        ("lot", pa.int64(), True),
    ),
    # Where the bonus of each liquidation (``ordinal``, as in run_liquidations) goes, base-currency units: bonus + basis
    # + reward is the sum of the rest.
    "run_waterfalls": _result(
        ("market", TEXT),
        ("ordinal", pa.int64()),
        ("bonus_base", AMOUNT),
        ("basis_base", AMOUNT),
        ("reward_base", AMOUNT),
        ("protocol_fee_base", AMOUNT),
        ("slippage_base", AMOUNT),
        ("sandwich_base", AMOUNT),
        ("gas_base", AMOUNT),
        ("funding_base", AMOUNT),
        ("private_base", AMOUNT),
        ("bid_base", AMOUNT),
        ("protocol_share_base", AMOUNT),
        ("oracle_share_base", AMOUNT),
        ("rent_base", AMOUNT),
    ),
    # What came of each opportunity: one row for each stretch of looks at which it was the same. The offer is the best
    # one at the first look. ending: taken, expired (reason: owner acted, price back) or missed (with its reason); the
    # last row of an opportunity (``spell`` numbers the run's rows in order) says how it ended, missed being still open
    # at the end.
    "run_opportunities": _result(
        ("market", TEXT),
        ("spell", pa.int64()),
        ("opportunity", pa.int64()),
        ("account", TEXT),
        ("from_block", pa.int64()),
        ("to_block", pa.int64()),
        ("from_timestamp", pa.int64()),
        ("to_timestamp", pa.int64()),
        ("looks", pa.int64()),
        ("debt_asset", TEXT),
        ("collateral_asset", TEXT),
        ("repaid", AMOUNT),
        ("repaid_base", AMOUNT),
        ("seized_base", AMOUNT),
        ("profit_base", AMOUNT),
        ("ending", TEXT),
        ("reason", TEXT),
        ("ordinal", pa.int64(), True),
    ),
    # What each searcher bid where an opportunity was taken, base-currency units; losers may have paid for reverted
    # calls.
    "run_bids": _result(
        ("market", TEXT),
        ("opportunity", pa.int64()),
        ("ordinal", pa.int64(), True),
        ("timestamp", pa.int64()),
        ("searcher", TEXT),
        ("value_base", AMOUNT),
        ("bid_base", AMOUNT),
        ("paid_base", AMOUNT),
        ("won", pa.bool_()),
    ),
    "run_deficits": _result(
        ("market", TEXT),
        ("ordinal", pa.int64()),
        ("seq", pa.int64()),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("account", TEXT),
        ("asset", TEXT),
        ("amount", AMOUNT),
        ("amount_base", AMOUNT),
    ),
    # State at the end of the window: scaled balances per account and asset (rows with a balance only).
    "run_balances": _result(
        ("market", TEXT),
        ("account", TEXT),
        ("asset", TEXT),
        ("collateral_scaled", AMOUNT),
        ("debt_scaled", AMOUNT),
        ("collateral", AMOUNT),
        ("debt", AMOUNT),
        ("collateral_enabled", pa.bool_()),
    ),
    # Totals at the end of each sampled block: for charts.
    "run_totals": _result(
        ("market", TEXT),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("collateral_base", AMOUNT),
        ("debt_base", AMOUNT),
        ("liquidatable_debt_base", AMOUNT),
        ("bad_debt_base", AMOUNT),
        ("deficit_base", AMOUNT),
        ("accounts_liquidatable", pa.int64()),
    ),
    # The outcome as it stands at the end of the window, and later where the data allow (label: end, +1h, +1d, +7d);
    # sums run from the first block. Base-currency units; bad debt is realised (written off) or open; the peak is of
    # both together.
    "run_windows": _result(
        ("market", TEXT),
        ("label", TEXT),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("liquidations", pa.int64()),
        ("deficits", pa.int64()),
        ("repaid_base", AMOUNT),
        ("seized_base", AMOUNT),
        ("protocol_fee_base", AMOUNT),
        ("realised_bad_debt_base", AMOUNT),
        ("open_bad_debt_base", AMOUNT),
        ("peak_bad_debt_base", AMOUNT),
        ("peak_block", pa.int64()),
        ("peak_timestamp", pa.int64()),
        ("collateral_base", AMOUNT),
        ("debt_base", AMOUNT),
        ("borrowing_power_base", AMOUNT, True),
        ("liquidatable_debt_base", AMOUNT),
        ("accounts_liquidatable", pa.int64()),
        ("accounts_unpriced", pa.int64()),
    ),
    # Collateral minus debt (signed) of every account that holds or owes something at the end of each of these windows.
    "run_equity": _result(
        ("market", TEXT),
        ("label", TEXT),
        ("account", TEXT),
        ("equity_base", AMOUNT),
        ("outside_base", AMOUNT, True),
    ),
    # Users' actions that were not made as in history, counted.
    "run_actions": _result(
        ("market", TEXT),
        ("action", TEXT),
        ("outcome", TEXT),
        ("reason", TEXT),
        ("unfunded", pa.bool_()),
        ("actions", pa.int64()),
        ("value_base", AMOUNT),
    ),
    # Accounts that an override itself, not a price, made liquidatable.
    "run_override_accounts": _result(
        ("market", TEXT),
        ("account", TEXT),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("debt_base", AMOUNT),
    ),
    # A model held against the liquidations that happened. mode: one-step (asked in history's own book) or free (a
    # replay from the start); alarms: all, or throughout (at every price within the range that is stated for the
    # oracle's; then events that only other alarms predicted count as missed); accounts: all, or without the largest
    # (left_out, JSON list). explained: misses and false alarms whose cause can be told. accepted: actions of history
    # that the stated range was held against, accepted_beyond: those of them that the rules refuse at every price within
    # it; null where oracle prices are known. Rates and errors are DOUBLE: shares from 0 to 1, seconds, relative errors;
    # null where there is nothing to measure.
    "validations": _result(
        ("market", TEXT),
        ("name", TEXT),
        ("scenario", TEXT),
        ("seed", pa.int64()),
        ("rules_version", TEXT),
        ("engine_version", TEXT),
        ("lake_digest", TEXT),
        ("from_block", pa.int64()),
        ("to_block", pa.int64()),
        ("mode", TEXT),
        ("alarms", TEXT),
        ("accounts", TEXT),
        ("left_out", TEXT),
        ("questions", pa.int64()),
        ("accepted", pa.int64(), True),
        ("accepted_beyond", pa.int64(), True),
        ("actual", pa.int64()),
        ("predicted", pa.int64()),
        ("hits", pa.int64()),
        ("explained", pa.int64()),
        ("actual_debt_base", AMOUNT),
        ("predicted_debt_base", AMOUNT),
        ("hit_actual_debt_base", AMOUNT),
        ("hit_predicted_debt_base", AMOUNT),
        *(
            (f"{rate}{end}", pa.float64(), True)
            for rate in ("recall", "precision", "recall_by_debt", "precision_by_debt")
            for end in ("", "_low", "_high")
        ),
        ("whole_episodes", pa.int64()),
        *(
            (f"{error}_{quantile}", pa.float64(), True)
            for error in ("collateral_error", "debt_error", "time_error", "amount_error")
            for quantile in ("least", "median", "p95", "largest")
        ),
        ("notes", TEXT),
    ),
    # One row per hit, miss and false alarm of a validation. Times are seconds since 1970; amounts native, ``*_base``
    # base units; health is that of the first alarm, or where there was none right before the liquidation.
    "validation_episodes": _result(
        ("market", TEXT),
        ("mode", TEXT),
        ("number", pa.int64()),
        ("account", TEXT),
        ("outcome", TEXT),
        ("cause", TEXT, True),
        ("detail", TEXT, True),
        ("throughout", pa.bool_(), True),
        ("whole", pa.bool_(), True),
        ("largest", pa.bool_()),
        ("predicted_from", pa.int64(), True),
        ("predicted_to", pa.int64(), True),
        ("predicted_rows", pa.int64(), True),
        ("predicted_debt_base", AMOUNT, True),
        ("actual_from", pa.int64(), True),
        ("actual_to", pa.int64(), True),
        ("actual_rows", pa.int64(), True),
        ("actual_debt_base", AMOUNT, True),
        ("actual_repaid", AMOUNT, True),
        ("actual_seized", AMOUNT, True),
        ("held_collateral", AMOUNT, True),
        ("held_debt", AMOUNT, True),
        ("health", AMOUNT, True),
        ("time_error", pa.int64(), True),
        ("amount_error", pa.float64(), True),
    ),
    # Where prices answer to sales: the three prices of each such asset (base units a whole token, in the market's
    # price_decimals) from each change on, and why it changed. ``step`` numbers a run's rows in order.
    "run_prices": _result(
        ("market", TEXT),
        ("step", pa.int64()),
        ("block_number", pa.int64()),
        ("log_index", pa.int32()),
        ("timestamp", pa.int64()),
        ("asset", TEXT),
        ("history_price", AMOUNT, True),
        ("oracle_price", AMOUNT, True),
        ("market_price", AMOUNT, True),
        ("reason", TEXT),
    ),
    # What each liquidation (``ordinal``) gave to sell or, where ``amount`` is below zero, made its liquidator buy.
    # brought: of every 10^27 of its worth at the market price before;
    # round: rounds of oracles since history's last one that history did not have; endogenous: at history's prices the
    # account could not have been liquidated.
    "run_sales": _result(
        ("market", TEXT),
        ("ordinal", pa.int64()),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("account", TEXT),
        ("asset", TEXT),
        ("amount", AMOUNT),
        ("proceeds_asset", TEXT),
        ("market_before", AMOUNT, True),
        ("market_after", AMOUNT, True),
        ("brought", AMOUNT),
        ("round", pa.int64()),
        ("endogenous", pa.bool_()),
    ),
    # Sales that belong together, a row for each asset whose price answers (replay.response.cascades).
    "run_cascades": _result(
        ("market", TEXT),
        ("cascade", pa.int64()),
        ("asset", TEXT),
        ("from_block", pa.int64()),
        ("to_block", pa.int64()),
        ("from_timestamp", pa.int64()),
        ("to_timestamp", pa.int64()),
        ("liquidations", pa.int64()),
        ("endogenous_liquidations", pa.int64()),
        ("repaid_base", AMOUNT),
        ("endogenous_repaid_base", AMOUNT),
        ("sold", AMOUNT),
        ("rounds", pa.int64()),
        ("history_before", AMOUNT, True),
        ("oracle_before", AMOUNT, True),
        ("history_low", AMOUNT, True),
        ("oracle_low", AMOUNT, True),
        ("market_low", AMOUNT, True),
    ),
    # How many accounts with debt each override touched when it took effect.
    "run_reach": _result(
        ("market", TEXT),
        ("override", TEXT),
        ("accounts", pa.int64()),
        ("accounts_with_debt", pa.int64()),
        ("accounts_in_emode", pa.int64()),
    ),
    # What each mitigation of the scenario did (its place in the list): effect and detail as in ``replay.record``.
    "run_mitigations": _result(
        ("market", TEXT),
        ("ordinal", pa.int64()),
        ("place", pa.int64()),
        ("kind", TEXT),
        ("effect", TEXT),
        ("detail", TEXT),
        ("number", pa.int64()),
        ("value_base", AMOUNT),
    ),
}

RUN_TABLES = tuple(name for name in RESULTS if not name.startswith("validation"))
"""Those of a replay; the others are of a validation."""
LATER = frozenset({"run_prices", "run_sales", "run_cascades", "run_mitigations"})
"""Those of them that older runs lack: without rows they are no part of a digest."""


def rows_digest(tables: Mapping[str, pa.Table]) -> str:
    """SHA-256, hex, of a run's outcome: the rows of all its tables but ``runs``, in the order of ``RUN_TABLES`` and as
    the replay made them; tables that came later only where they have rows.

    Every value is taken as text (integers and amounts as decimal digits), columns in order but for the run's id, so
    that files and how they are laid out do not matter. Runs of the same digest came to the same result.
    """
    digest = hashlib.sha256()
    for name in RUN_TABLES:
        if name == "runs" or (name in LATER and not (name in tables and tables[name].num_rows)):
            continue
        columns = [column for column in tables[name].column_names if column != "run_id"]
        digest.update(_END.join([name, _NEXT.join(columns), ""]).encode())
        for batch in tables[name].select(columns).to_batches(max_chunksize=100_000):
            texts = [pc.fill_null(pc.cast(_plain(column), pa.string()), _NULL) for column in batch.columns]
            digest.update(_END.join([*pc.binary_join_element_wise(*texts, _NEXT).to_pylist(), ""]).encode())
    return digest.hexdigest()


_NULL, _NEXT, _END = "\x00", "\x1f", "\x1e"  # no value has these


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


# What sweeps are and which runs they are made of; the runs themselves are those of ``RESULTS``. Datasets
# ``results/...`` as well.
SWEEPS: dict[str, pa.Schema] = {
    # One row per sweep; spec is canonical JSON, scenarios the number planned, baselines included.
    "sweeps": _sweep(
        ("name", TEXT),
        ("spec", TEXT),
        ("design", TEXT),
        ("points", pa.int64()),
        ("scenarios", pa.int64()),
        ("lake_digest", TEXT),
        ("rules_version", TEXT),
        ("engine_version", TEXT),
    ),
    # ``of``: the window that it is with one of its seeds, where combinations are repeated; null else.
    "sweep_windows": _sweep(
        ("name", TEXT),
        ("ordinal", pa.int64()),
        ("from_block", pa.int64(), True),
        ("to_block", pa.int64(), True),
        ("held_out", pa.bool_()),
        ("of", TEXT, True),
    ),
    # Which way a measure is better: min or max.
    "sweep_objectives": _sweep(("measure", TEXT), ("better", TEXT)),
    # The level of each axis at each point: its place among the axis's levels, as text, and as a number where it is one.
    "sweep_values": _sweep(
        ("point", pa.int64()), ("axis", TEXT), ("level", pa.int64()), ("value", TEXT), ("number", pa.int64(), True)
    ),
    # One row per attempt at a scenario. role: scenario, or baseline (then point is null); replayed: by this sweep, else
    # the lake held the run.
    "sweep_scenarios": _sweep(
        ("ordinal", pa.int64()),
        ("attempt", pa.int64()),
        ("role", TEXT),
        ("point", pa.int64(), True),
        ("window", TEXT),
        ("response", TEXT),
        ("name", TEXT),
        ("run_id", TEXT, True),
        ("status", TEXT),
        ("error", TEXT, True),
        ("replayed", pa.bool_()),
    ),
}


# Joint replays of several markets, each of them a run (``run_id``) of each market. Datasets ``results/...`` as well.
JOINTS: dict[str, pa.Schema] = {
    # One row per market. alone_id: the run of the market's own part of the scenario, without the others; ``worth`` is
    # how many base units of the joint's currency one of the market's is, a fraction.
    "joints": _result(
        ("market", TEXT),
        ("joint_id", TEXT),
        ("name", TEXT),
        ("place", pa.int64()),
        ("markets", TEXT),
        ("alone_id", TEXT, True),
        ("currency", TEXT),
        ("decimals", pa.int64()),
        ("worth_numerator", AMOUNT),
        ("worth_denominator", AMOUNT),
    ),
    # A joint replay without a market, an owner or an asset's impact (``kind``, ``left_out``), one row for each market
    # that is there (``of_market``), in its own base units at the end of the window, under the first of them
    # (``market``): figures of all accounts that are not left out, and (``joint_``) of the same accounts in the whole
    # replay. place: in the order of markets and assets, of owners by ``debt_base``, base units of the first market.
    # drawn: whether chance decides anything, so that another seed may come to another difference.
    "leave_one_out": _joint(
        ("kind", TEXT),
        ("left_out", TEXT),
        ("place", pa.int64()),
        ("debt_base", AMOUNT, True),
        ("of_market", TEXT),
        ("liquidations", pa.int64()),
        ("repaid_base", AMOUNT),
        ("seized_base", AMOUNT),
        ("protocol_fee_base", AMOUNT),
        ("realised_bad_debt_base", AMOUNT),
        ("open_bad_debt_base", AMOUNT),
        ("joint_liquidations", pa.int64()),
        ("joint_repaid_base", AMOUNT),
        ("joint_seized_base", AMOUNT),
        ("joint_protocol_fee_base", AMOUNT),
        ("joint_realised_bad_debt_base", AMOUNT),
        ("joint_open_bad_debt_base", AMOUNT),
        ("drawn", pa.bool_()),
    ),
    # What markets of a joint replay hold in common, in its own books at some moments (``step``: 0 right before its
    # first block, the last one at the window's end), under the first of them (``market``), whose base units amounts are
    # in: by market (``of_market``) and asset. held: collateral behind debt; depth: whose sale takes all of the price in
    # linear form, null: no sale moves it, or nothing tells; claim_on: the market that it is a claim on deposits of.
    "joint_exposures": _joint(
        ("step", pa.int64()),
        ("timestamp", pa.int64()),
        ("place", pa.int64()),
        ("of_market", TEXT),
        ("asset", TEXT),
        ("symbol", TEXT),
        ("claim_on", TEXT, True),
        ("held_base", AMOUNT),
        ("supplied_base", AMOUNT),
        ("lent_base", AMOUNT),
        ("depth_base", AMOUNT, True),
    ),
    # Accounts of owners who have some in several of the markets, however late in the window, and owe something at a
    # moment or lose by a liquidation. since: when its balance first changed, in history.
    "joint_accounts": _joint(("of_market", TEXT), ("account", TEXT), ("owner", TEXT), ("since", pa.int64())),
    # What these owners owe at the moments; no row: nothing.
    "joint_debts": _joint(
        ("step", pa.int64()), ("timestamp", pa.int64()), ("of_market", TEXT), ("owner", TEXT), ("debt_base", AMOUNT)
    ),
    # What the matrices make of them and of what the markets lost, columns as those of ``contagion``.
    "joint_network": _joint(
        ("step", pa.int64()),
        ("timestamp", pa.int64()),
        ("measure", TEXT),
        ("subject", TEXT),
        ("other", TEXT, True),
        ("amount_base", AMOUNT, True),
        ("number", pa.float64(), True),
    ),
    # Measures of what connects markets at one moment, one row each, under the first of them (``market``). subject: the
    # market, asset or owner that it is of; other: the second one of measures of pairs. Amounts in base units of the
    # first market, numbers DOUBLE; shock: JSON. lake_digest: of the first market (``contagion_id`` holds those of all).
    "contagion": _keyed(
        "contagion_id",
        ("lake_digest", TEXT),
        ("markets", TEXT),
        ("timestamp", pa.int64()),
        ("shock", TEXT),
        ("currency", TEXT),
        ("decimals", pa.int64()),
        ("measure", TEXT),
        ("subject", TEXT),
        ("other", TEXT, True),
        ("amount_base", AMOUNT, True),
        ("number", pa.float64(), True),
    ),
}


# What stresses are and what each path came to. Datasets ``results/...`` as well.
STRESSES: dict[str, pa.Schema] = {
    # One row per stress; suite is canonical JSON, notes what it assumes (JSON list); collateral, debt and bad debt are
    # those of the book before anything happened, still_... what comes to pass where no price moves.
    "stresses": _stress(
        ("name", TEXT),
        ("suite_version", pa.int64()),
        ("suite", TEXT),
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("seed", pa.int64()),
        ("steps", pa.int64()),
        ("step_seconds", pa.int64()),
        ("collateral_base", AMOUNT),
        ("debt_base", AMOUNT),
        ("bad_debt_base", AMOUNT),
        ("still_bad_debt_base", AMOUNT),
        ("still_repaid_base", AMOUNT),
        ("notes", TEXT),
        ("lake_digest", TEXT),
        ("rules_version", TEXT),
        ("engine_version", TEXT),
    ),
    # paths: how many are planned; 0 where the case does not concern the market.
    "stress_cases": _stress(
        ("ordinal", pa.int64()),
        ("name", TEXT),
        ("model", TEXT),
        ("events", TEXT),
        ("source", TEXT),
        ("paths", pa.int64()),
    ),
    # lowest_price: the deepest that the asset which fell most came to, basis points of its beginning; gas_most and
    # depth_least in basis points of the moment's. A path that failed has nulls and an error.
    "stress_paths": _stress(
        *_PATH,
        ("liquidations", pa.int64(), True),
        ("deficits", pa.int64(), True),
        ("repaid_base", AMOUNT, True),
        ("seized_base", AMOUNT, True),
        ("protocol_fee_base", AMOUNT, True),
        ("bad_debt_base", AMOUNT, True),
        ("realised_bad_debt_base", AMOUNT, True),
        ("open_bad_debt_base", AMOUNT, True),
        ("peak_bad_debt_base", AMOUNT, True),
        ("liquidatable_debt_base", AMOUNT, True),
        ("debt_base", AMOUNT, True),
        ("borrowing_power_base", AMOUNT, True),
        ("lowest_asset", TEXT, True),
        ("lowest_price", pa.int64(), True),
        ("gas_most", pa.int64(), True),
        ("depth_least", pa.int64(), True),
        ("error", TEXT, True),
    ),
    # What selling costs on a path, of scenarios that state depth (``stress.selling.SellingCost``).
    "stress_selling": _stress(*_PATH, *_amounts_named("sold_base", "left_base", "unstated_base")),
    # What suppliers who leave on a path get, and how much is lent out, by asset at some steps of it (``stress.runs``):
    # native units from the path's beginning on.
    "stress_runs": _stress(
        *_PATH,
        ("of_market", TEXT),
        ("asset", TEXT),
        ("step", pa.int64()),
        *_amounts_named("asked", "paid", "supplied", "lent"),
    ),
    # Liquidations of a path that the market could not pay in an asset.
    "stress_unpaid": _stress(
        *_PATH, ("of_market", TEXT), ("asset", TEXT), ("accounts", pa.int64()), ("value_base", AMOUNT)
    ),
    # Of several markets, where one asset falls alone by ``fall`` basis points: bad debt that this adds in each of them,
    # together with the others and alone, in base units of the first market.
    "stress_contagion": _stress(
        ("fallen", TEXT),
        ("fall", pa.int64()),
        ("place", pa.int64()),
        ("of_market", TEXT),
        ("loss_base", AMOUNT),
        ("alone_loss_base", AMOUNT),
    ),
    # Of a stress of several markets, one row per market (``of_market``; ``market`` is the first), amounts in the first
    # one's base units: its debt, and what comes to pass where no price moves, with the others and alone. ``worth``: how
    # many base units of the first one of its own is, a fraction.
    "stress_members": _stress(
        ("place", pa.int64()),
        ("of_market", TEXT),
        ("worth_numerator", AMOUNT),
        ("worth_denominator", AMOUNT),
        ("debt_base", AMOUNT),
        ("still_bad_debt_base", AMOUNT),
        ("alone_still_bad_debt_base", AMOUNT),
    ),
    # What each of several markets came to on a path, with the others and alone; amounts as above.
    "stress_markets": _stress(
        *_PATH,
        ("place", pa.int64()),
        ("of_market", TEXT),
        ("liquidations", pa.int64()),
        ("repaid_base", AMOUNT),
        ("bad_debt_base", AMOUNT),
        ("alone_liquidations", pa.int64()),
        ("alone_repaid_base", AMOUNT),
        ("alone_bad_debt_base", AMOUNT),
    ),
    # Quantiles over some paths of an asset's market price, as a multiple of its beginning: for display.
    "stress_fan": _stress(
        ("ordinal", pa.int64()),
        ("asset", TEXT),
        ("step", pa.int64()),
        ("lowest", pa.float64()),
        ("q05", pa.float64()),
        ("q25", pa.float64()),
        ("q50", pa.float64()),
        ("q75", pa.float64()),
        ("q95", pa.float64()),
    ),
    # A case's model held against the data (shocks.statistics).
    "stress_statistics": _stress(
        ("ordinal", pa.int64()),
        ("asset", TEXT),
        ("statistic", TEXT),
        ("data", pa.float64(), True),
        ("model", pa.float64(), True),
    ),
    # The book under the scenario's parameters: what all may owe where no price moves; changes: what the scenario
    # changes, in words; draws: the same for stresses whose paths have the same prices.
    "stress_books": _stress(("borrowing_power_base", AMOUNT), ("changes", TEXT), ("draws", TEXT)),
    # The cascade map of an asset whose price answers: fall, answered (how much further its sales lower it) in basis
    # points; sold in whole tokens.
    "stress_levels": _stress(
        ("asset", TEXT),
        ("fall", pa.int64()),
        ("accounts", pa.int64()),
        ("repaid_base", AMOUNT),
        ("sold", pa.float64()),
        ("answered", pa.float64()),
        ("slope", pa.float64(), True),
    ),
    # Depth within 2 %, whole tokens; critical: the depth at which the map ruptures nowhere, as a multiple of it; null:
    # none does.
    "stress_depths": _stress(
        ("asset", TEXT), ("depth", pa.float64()), ("rupture_fall", pa.int64(), True), ("critical", pa.float64(), True)
    ),
    # Where the price of one asset alone falls (basis points): collateral of each that is then sold, and debt in it that
    # goes bad.
    "stress_spread": _stress(
        ("fallen", TEXT), ("fall", pa.int64()), ("asset", TEXT), ("sold_base", AMOUNT), ("bad_debt_base", AMOUNT)
    ),
}

# Who liquidates, as last calibrated on a market, one row: questions about its parameters are asked under it
# (``backtest.paired``). text: the ensemble as TOML. Datasets ``results/...`` as well.
ENSEMBLES: dict[str, pa.Schema] = {
    "ensembles": pa.schema(
        [
            pa.field(name, kind, nullable=False)
            for name, kind in (
                ("market", TEXT),
                ("title", TEXT),
                ("source", TEXT),
                ("draws", pa.int64()),
                ("text", TEXT),
                ("lake_digest", TEXT),
                ("rules_version", TEXT),
                ("engine_version", TEXT),
            )
        ]
    ),
    # How its borrowers acted, as they were fitted last, by market: JSON of ``scenario.users.FittedUsers``.
    "fitted_users": pa.schema(
        [
            pa.field(name, kind, nullable=False)
            for name, kind in (
                ("market", TEXT),
                ("source", TEXT),
                ("step", pa.int64()),
                ("fitted", TEXT),
                ("lake_digest", TEXT),
                ("rules_version", TEXT),
                ("engine_version", TEXT),
            )
        ]
    ),
}


def as_table(schema: pa.Schema, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any] | None = None) -> pa.Table:
    """Rows in the schema's columns, amounts given as ints; ``common`` are columns with one value. UserError where a
    value does not fit.
    """
    columns = []
    for field in schema:
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        try:
            if common is not None and field.name in common:
                column = pa.repeat(pa.scalar(common[field.name], plain), len(rows))
            else:
                values = [row[field.name] for row in rows]
                column = _amounts(values) if field.type == AMOUNT else pa.array(values, plain)
            columns.append(column.cast(field.type))
        except pa.ArrowInvalid:
            raise UserError(
                f"a value of {field.name} does not fit {field.type}", "please report it with the run's scenario"
            ) from None
    return pa.table(columns, schema=schema)


def _amounts(values: Sequence[int | None]) -> pa.Array:
    """Integers as AMOUNT, by their 128-bit words; ArrowInvalid for more than 38 digits."""
    whole = [0 if value is None else index(value) for value in values]
    if max(whole, default=0) > _LARGEST or min(whole, default=0) < -_LARGEST:
        raise pa.ArrowInvalid("more than 38 digits")
    try:
        low = np.array(whole, dtype=np.int64)
        high = low >> 63
    except OverflowError:
        low = np.array([value & _WORD for value in whole], dtype=np.uint64).view(np.int64)
        high = np.array([value >> 64 for value in whole], dtype=np.int64)
    words = np.stack([low, high], axis=1)
    found = pa.Array.from_buffers(AMOUNT, len(whole), [None, pa.py_buffer(words)])
    return (
        pc.if_else(pa.array([value is not None for value in values]), found, pa.scalar(None, AMOUNT))
        if None in values
        else found
    )
