"""The columns of every canonical and result table: one place that fetch, reconstruction, replay and SQL agree on.

Types: ``AMOUNT`` is DECIMAL(38, 0) and exact; addresses of canonical tables are lower-case 0x text; ``seq`` is dense
within a market from 0 and increases with (block_number, log_index). Every table carries ``market``.
A change here needs a new ``RULES_VERSION`` (stamped on each rebuilt table, so that stale ones are refused).
"""

from __future__ import annotations

import pyarrow as pa

RULES_VERSION = "2"

AMOUNT = pa.decimal128(38, 0)
WORD = pa.binary(32)
ADDRESS = pa.binary(20)
TEXT = pa.string()
CATEGORY = pa.dictionary(pa.int32(), pa.string())

# Every raw event dataset starts with these columns; the decoded arguments follow in the order of the signature.
RAW_KEY: list[pa.Field] = [
    pa.field("block_number", pa.int64(), nullable=False),
    pa.field("transaction_index", pa.int32(), nullable=False),
    pa.field("log_index", pa.int32(), nullable=False),
    pa.field("transaction_hash", pa.binary(32), nullable=False),
    pa.field("address", ADDRESS, nullable=False),
]

# Facts read from the chain by calls, not logs. Dataset name to schema; ``address`` columns are 20 bytes.
RAW_STATE: dict[str, pa.Schema] = {
    "raw/chain/Header": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("block_hash", WORD, nullable=False),
            pa.field("parent_hash", WORD, nullable=False),
            pa.field("timestamp", pa.int64(), nullable=False),
            pa.field("base_fee", AMOUNT),
        ]
    ),
    # ERC-20 metadata of underlying assets.
    "raw/chain/Token": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("symbol", TEXT, nullable=False),
            pa.field("decimals", pa.int16(), nullable=False),
        ]
    ),
    # The revision constant of an implementation contract that a proxy was upgraded to (POOL_REVISION, ATOKEN_REVISION, ...).
    "raw/chain/Revision": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("implementation", ADDRESS, nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
        ]
    ),
    # What a view without arguments of a contract that never changes returned: parameters of a rate strategy. Null where it has none.
    "raw/chain/Constant": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("name", TEXT, nullable=False),
            pa.field("value", AMOUNT),
        ]
    ),
    # What an oracle source is. kind: feed (Chainlink proxy or aggregator), fixed, capped-feed, capped-ratio, cross,
    # discounted, sampled (rule unknown: only reads say its price).
    # parameters: JSON of what its formula needs (feeds, ratio provider, caps, decimals).
    "raw/oracle/Source": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("kind", TEXT, nullable=False),
            pa.field("description", TEXT, nullable=False),
            pa.field("decimals", pa.int16()),
            pa.field("parameters", TEXT, nullable=False),
        ]
    ),
    # The aggregator behind a feed proxy in each phase; the phase is in force from from_block on.
    "raw/oracle/Phase": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("phase", pa.int32(), nullable=False),
            pa.field("aggregator", ADDRESS, nullable=False),
            pa.field("from_block", pa.int64(), nullable=False),
            pa.field("exact", pa.bool_(), nullable=False),
        ]
    ),
    # What a view of a price source returned at the end of a block; null where it reverted. name: answer (an aggregator's
    # latestAnswer), ratio, snapshot_ratio, snapshot_timestamp, max_growth_percent, price_cap, price, max_discount.
    "raw/oracle/State": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("address", ADDRESS, nullable=False),
            pa.field("name", TEXT, nullable=False),
            pa.field("value", AMOUNT),
        ]
    ),
    # getAssetsPrices at the end of a block; price null where the call reverts for that asset.
    "raw/oracle/Read": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("asset", ADDRESS, nullable=False),
            pa.field("price", AMOUNT),
        ]
    ),
}

# Logs that matched a filter but could not be decoded: kept whole, counted, named.
QUARANTINE = pa.schema(
    [
        *RAW_KEY,
        pa.field("event", TEXT, nullable=False),
        pa.field("reason", TEXT, nullable=False),
        pa.field("topics", pa.list_(WORD), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)

# What ``backtest import`` stores: facts of exports in the project's own words, whatever their source called them. Dataset name to
# schema; IMPORT_KEY comes first in each. Amounts are native units; accounts and assets are lower-case text as the mapping gives them.
IMPORT_KEY: list[pa.Field] = [
    pa.field("block_number", pa.int64(), nullable=False),
    pa.field("log_index", pa.int32(), nullable=False),  # the export's own where it has one, else behind them in the documented order
    pa.field("timestamp", pa.int64(), nullable=False),
    pa.field("transaction_hash", pa.binary(32)),
    pa.field("ordered", pa.bool_(), nullable=False),  # false: the order within the block is not known
    pa.field("ambiguous", pa.bool_(), nullable=False),  # true: an identical row without transaction hash is stored too
    pa.field("source_digest", WORD, nullable=False),  # SHA-256 of the file that the row comes from, and its row there from 0
    pa.field("source_row", pa.int64(), nullable=False),
]

IMPORTED: dict[str, pa.Schema] = {
    # A user's own change of one balance; amount is signed: positive adds to the side.
    "raw/import/Flow": pa.schema(
        [
            *IMPORT_KEY,
            pa.field("account", TEXT, nullable=False),
            pa.field("asset", TEXT, nullable=False),
            pa.field("side", TEXT, nullable=False),
            pa.field("action", TEXT, nullable=False),
            pa.field("amount", AMOUNT, nullable=False),
        ]
    ),
    # Amounts that the export lacks are null; debt_scaled is what the protocol stores (Maker: art), repaid is native.
    "raw/import/Liquidation": pa.schema(
        [
            *IMPORT_KEY,
            pa.field("account", TEXT, nullable=False),
            pa.field("liquidator", TEXT),
            pa.field("debt_asset", TEXT, nullable=False),
            pa.field("collateral_asset", TEXT, nullable=False),
            pa.field("repaid", AMOUNT),
            pa.field("debt_scaled", AMOUNT),
            pa.field("seized", AMOUNT, nullable=False),
            pa.field("bad_debt", AMOUNT),
        ]
    ),
    # Names and units are the protocol's own (``params``).
    "raw/import/Parameter": pa.schema(
        [
            *IMPORT_KEY,
            pa.field("name", TEXT, nullable=False),
            pa.field("asset", TEXT),
            pa.field("category", pa.int32()),
            pa.field("value", AMOUNT, nullable=False),
        ]
    ),
    # Base-currency units per whole token. kind: market (a venue's price at the start of its period; low and high are the period's), or
    # oracle (what a protocol's oracle said from here on).
    "raw/import/Price": pa.schema(
        [
            *IMPORT_KEY,
            pa.field("asset", TEXT, nullable=False),
            pa.field("kind", TEXT, nullable=False),
            pa.field("price", AMOUNT, nullable=False),
            pa.field("low", AMOUNT),
            pa.field("high", AMOUNT),
            pa.field("period", pa.int64()),  # seconds that low and high cover, from the row's timestamp on
        ]
    ),
}

_EVENT: list[pa.Field] = [
    pa.field("market", CATEGORY, nullable=False),
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("block_number", pa.int64(), nullable=False),
    pa.field("log_index", pa.int32(), nullable=False),
    pa.field("timestamp", pa.int64(), nullable=False),
]


def _table(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool], event: bool = True) -> pa.Schema:
    own = [pa.field(f[0], f[1], nullable=f[2] if len(f) == 3 else False) for f in fields]
    return pa.schema((_EVENT if event else [_EVENT[0]]) + own)


CANONICAL: dict[str, pa.Schema] = {
    # One row per account and market; account_id is dense in order of first appearance.
    "accounts": _table(("account_id", pa.int32()), ("account", TEXT), event=False),
    "assets": _table(
        ("asset_id", pa.int16()),
        ("asset", TEXT),
        ("symbol", TEXT),
        ("decimals", pa.int16()),
        ("collateral_token", TEXT, True),
        ("debt_token", TEXT, True),
        event=False,
    ),
    # Blocks whose header is known: those with events, and samples.
    "blocks": _table(
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("base_fee", AMOUNT, True),
        event=False,
    ),
    # Every raw event of the market once: the spine that gives all others their seq.
    "events": _table(
        ("transaction_index", pa.int32()),
        ("transaction_hash", pa.binary(32)),
        ("address", TEXT),
        ("event", CATEGORY),
    ),
    "position_events": _table(
        ("account_id", pa.int32()),
        ("asset_id", pa.int16()),
        ("side", CATEGORY),
        ("delta", AMOUNT),
        ("action", CATEGORY),
        ("action_seq", pa.int64()),
        ("amount", AMOUNT, True),  # native units that the call moved, as logged, not negative
    ),
    "setting_events": _table(
        ("account_id", pa.int32()),
        ("setting", CATEGORY),
        ("asset_id", pa.int16(), True),
        ("value", AMOUNT),
        ("action", CATEGORY),
        ("action_seq", pa.int64()),
    ),
    "indexes": _table(
        ("asset_id", pa.int16()),
        ("supply_index", AMOUNT),
        ("borrow_index", AMOUNT),
        ("supply_rate", AMOUNT),
        ("borrow_rate", AMOUNT),
    ),
    # method: feed (a log), formula (computed from logs), read (archive call), fixed. exact is false where the price
    # between two reads is not known at this position. price is null where the oracle would revert.
    "prices": _table(
        ("asset_id", pa.int16()),
        ("price", AMOUNT, True),
        ("source", TEXT, True),
        ("method", CATEGORY),
        ("exact", pa.bool_()),
    ),
    # Prices of a venue, where a market's oracle is known by them only (method 'proxy' in prices) or beside it. low and high are those of
    # the ``period`` seconds from here on.
    "market_prices": _table(
        ("asset_id", pa.int16()),
        ("price", AMOUNT),
        ("low", AMOUNT, True),
        ("high", AMOUNT, True),
        ("period", pa.int64(), True),
    ),
    "params": _table(
        ("asset_id", pa.int16(), True),
        ("category", pa.int32(), True),
        ("name", CATEGORY),
        ("value", AMOUNT),
    ),
    "liquidations": _table(
        ("transaction_hash", pa.binary(32)),
        ("account_id", pa.int32()),
        ("liquidator_id", pa.int32()),
        ("debt_asset_id", pa.int16()),
        ("collateral_asset_id", pa.int16()),
        ("repaid", AMOUNT),
        ("seized", AMOUNT),
        ("protocol_fee", AMOUNT),
        ("receive_collateral_token", pa.bool_()),
    ),
    # kind: created (bad debt written off in a liquidation; liquidation_seq names it) or covered.
    "deficits": _table(
        ("account_id", pa.int32()),
        ("asset_id", pa.int16()),
        ("amount", AMOUNT),
        ("kind", CATEGORY),
        ("liquidation_seq", pa.int64(), True),
    ),
}

_RUN = [pa.field("run_id", TEXT, nullable=False)]


def _result(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema(_RUN + [pa.field(f[0], f[1], nullable=f[2] if len(f) == 3 else False) for f in fields])


RESULTS: dict[str, pa.Schema] = {
    # One row per run; scenario is canonical TOML-able JSON, notes the printed assumptions and warnings (JSON list). ``terms`` is the
    # scenario without its overrides: runs of equal terms are comparable; ``question`` is it with frozen users: runs that differ in the
    # users' response alone share it. An observed run is history. Columns that runs of older versions lack are null there.
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
    # The outcome as it stands at the end of the window, and later where the data allow (label: end, +1h, +1d, +7d); sums run from the
    # first block. Base-currency units; bad debt is realised (written off) or open; the peak is of both together.
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
    # How many accounts with debt each override touched when it took effect.
    "run_reach": _result(
        ("market", TEXT),
        ("override", TEXT),
        ("accounts", pa.int64()),
        ("accounts_with_debt", pa.int64()),
        ("accounts_in_emode", pa.int64()),
    ),
}


def _sweep(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    own = [pa.field(f[0], f[1], nullable=f[2] if len(f) == 3 else False) for f in fields]
    return pa.schema([pa.field("sweep_id", TEXT, nullable=False), pa.field("market", TEXT, nullable=False), *own])


# What sweeps are and which runs they are made of; the runs themselves are those of ``RESULTS``. Datasets ``results/...`` as well.
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
    "sweep_windows": _sweep(
        ("name", TEXT), ("ordinal", pa.int64()), ("from_block", pa.int64(), True), ("to_block", pa.int64(), True), ("held_out", pa.bool_())
    ),
    # Which way a measure is better: min or max.
    "sweep_objectives": _sweep(("measure", TEXT), ("better", TEXT)),
    # The level of each axis at each point: its place among the axis's levels, as text, and as a number where it is one.
    "sweep_values": _sweep(("point", pa.int64()), ("axis", TEXT), ("level", pa.int64()), ("value", TEXT), ("number", pa.int64(), True)),
    # One row per attempt at a scenario. role: scenario, or baseline (then point is null); replayed: by this sweep, else the lake held the run.
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
