"""The columns of every raw and canonical table (results: ``result_tables``): one place that fetch, reconstruction,
replay and SQL agree on.

Types: ``AMOUNT`` is DECIMAL(38, 0) and exact; addresses of canonical tables are lower-case 0x text; ``seq`` is dense
within a market from 0 and increases with (block_number, log_index). Every table carries ``market``.
A change here needs a new ``RULES_VERSION`` (stamped on each rebuilt table, so that stale ones are refused).
"""

from __future__ import annotations

import pyarrow as pa

RULES_VERSION = "5"

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
    # What a file of logs or blocks says of a block that no header is known of.
    "raw/chain/BlockTime": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
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
    # The revision constant of an implementation contract that a proxy was upgraded to (POOL_REVISION, ATOKEN_REVISION,
    # ...).
    "raw/chain/Revision": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("implementation", ADDRESS, nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
        ]
    ),
    # What a view without arguments of a contract that never changes returned: parameters of a rate strategy. Null where
    # it has none.
    "raw/chain/Constant": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("name", TEXT, nullable=False),
            pa.field("value", AMOUNT),
        ]
    ),
    # All that a view of a contract returned at the end of a block; null where the call gave nothing. call: its
    # signature, then its arguments.
    "raw/chain/Reading": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("address", ADDRESS, nullable=False),
            pa.field("call", TEXT, nullable=False),
            pa.field("value", pa.binary()),
        ]
    ),
    # The other contract that such a view named: the token that a market lends. Null where it names none.
    "raw/chain/Reference": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("name", TEXT, nullable=False),
            pa.field("target", ADDRESS),
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
    # What a view of a price source returned at the end of a block; null where it reverted. name: answer (an
    # aggregator's latestAnswer), ratio, snapshot_ratio, snapshot_timestamp, max_growth_percent, price_cap, price,
    # max_discount.
    "raw/oracle/State": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("address", ADDRESS, nullable=False),
            pa.field("name", TEXT, nullable=False),
            pa.field("value", AMOUNT),
        ]
    ),
    # The market's oracle at the end of a block; price null where the call reverts for that asset.
    "raw/oracle/Read": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("asset", ADDRESS, nullable=False),
            pa.field("price", AMOUNT),
        ]
    ),
    # The same of oracles whose prices may need more than 38 digits: 32 big-endian bytes.
    "raw/oracle/WideRead": pa.schema(
        [
            pa.field("block_number", pa.int64(), nullable=False),
            pa.field("asset", ADDRESS, nullable=False),
            pa.field("price", WORD),
        ]
    ),
    # What is fixed about a pool that the market's file names. kind: uniswap-v3.
    "raw/chain/Pool": pa.schema(
        [
            pa.field("address", ADDRESS, nullable=False),
            pa.field("kind", TEXT, nullable=False),
            pa.field("token0", ADDRESS, nullable=False),
            pa.field("token1", ADDRESS, nullable=False),
            pa.field("fee", pa.int32(), nullable=False),
            pa.field("tick_spacing", pa.int32(), nullable=False),
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

# What ``backtest import`` stores: facts of exports in the project's own words, whatever their source called them.
# Dataset name to schema; IMPORT_KEY comes first in each. Amounts are native units; accounts and assets are lower-case
# text as the mapping gives them. An import merges into these datasets and writes them anew: what they hold does not
# depend on the order of imports.
IMPORT_KEY: list[pa.Field] = [
    pa.field("block_number", pa.int64(), nullable=False),
    pa.field(
        "log_index", pa.int32(), nullable=False
    ),  # unique in the block over all events; the export's own wherever that leaves room
    pa.field("timestamp", pa.int64(), nullable=False),
    pa.field("transaction_hash", pa.binary(32)),
    pa.field("ordered", pa.bool_(), nullable=False),  # false: the order within the block is not known
    pa.field("ambiguous", pa.bool_(), nullable=False),  # true: an identical row without transaction hash is stored too
    pa.field(
        "block_known", pa.bool_(), nullable=False
    ),  # false: the export has a time only, and the block is placed by it
    pa.field("own_index", pa.int32()),  # the export's own log index
    pa.field("rank", pa.int32(), nullable=False),  # order among rows of the block that have no index
    pa.field(
        "identity", TEXT, nullable=False
    ),  # what makes a row the same fact: its natural key, else file digest and row
    pa.field(
        "source_digest", WORD, nullable=False
    ),  # SHA-256 of the file that the row comes from, and its row there from 0
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
    # Amounts that the export lacks are null; debt_scaled is what the protocol stores, repaid is native.
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
    # Base-currency units per whole token. kind: market (a venue's price at the start of its period; low and high are
    # the period's), oracle (what a protocol's oracle said from here on), source (what it reads said, as an OSM's
    # LogValue: when the oracle took it up is not known), or derived (what it must have said for a period, in-sample,
    # with the interval that history leaves: backtest calibrate oracle).
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
    # What an independent source says that all accounts together hold of an asset on one side at the end of a block,
    # native units.
    "raw/import/Checkpoint": pa.schema(
        [
            *IMPORT_KEY,
            pa.field("asset", TEXT, nullable=False),
            pa.field("side", TEXT, nullable=False),
            pa.field("amount", AMOUNT, nullable=False),
        ]
    ),
    # Rows that could not be taken, whole: nothing of a file is lost. dataset: what it would have become, where that is
    # known.
    "raw/import/Quarantine": pa.schema(
        [
            pa.field("mapping", TEXT, nullable=False),
            pa.field("dataset", TEXT),
            pa.field("source", TEXT, nullable=False),
            pa.field("file", TEXT, nullable=False),
            pa.field("source_digest", WORD, nullable=False),
            pa.field("source_row", pa.int64(), nullable=False),
            pa.field("reason", TEXT, nullable=False),
            pa.field("text", TEXT, nullable=False),  # JSON: column to text as in the file
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
    # Every raw event of the market once: the spine that gives all others their seq. Exports may lack the nullable
    # columns.
    "events": _table(
        ("transaction_index", pa.int32(), True),
        ("transaction_hash", pa.binary(32), True),
        ("address", TEXT, True),
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
    # method: feed (a log), formula (computed from logs), read (archive call), fixed, proxy (a market's price, later by
    # the oracle's delay), proxy-gap (the same where the market has no price for that moment: the last one before),
    # source (imported: what the oracle reads said), derived (in-sample, from what the chain accepted: backtest
    # calibrate oracle).
    # exact is false where the price between two reads is not known at this position. price is null where the oracle
    # would revert. price_rest are the digits below a base unit of markets whose prices have some (price_decimals above
    # base_decimals): the oracle's own number is price, then these digits.
    "prices": _table(
        ("asset_id", pa.int16()),
        ("price", AMOUNT, True),
        ("price_rest", AMOUNT, True),
        ("source", TEXT, True),
        ("method", CATEGORY),
        ("exact", pa.bool_()),
    ),
    # Prices of a venue, where a market's oracle is known by them only (method 'proxy' in prices) or beside it. low and
    # high are those of the ``period`` seconds from here on. source: the address of the pool whose price it is, in force
    # until the next of its asset, null where it is not known any more; a row without source was imported.
    "market_prices": _table(
        ("asset_id", pa.int16()),
        ("price", AMOUNT, True),
        ("low", AMOUNT, True),
        ("high", AMOUNT, True),
        ("period", pa.int64(), True),
        ("source", TEXT, True),
    ),
    # Pools that the market's file names. prices: the token whose market price the pool tells, and that is sold into it.
    "pools": _table(
        ("pool_id", pa.int16()),
        ("pool", TEXT),
        ("kind", CATEGORY),
        ("token0", TEXT),
        ("token1", TEXT),
        ("decimals0", pa.int16()),
        ("decimals1", pa.int16()),
        ("asset0_id", pa.int16(), True),  # null where the token is no asset of the market
        ("asset1_id", pa.int16(), True),
        ("fee", pa.int32()),
        ("tick_spacing", pa.int32()),
        ("prices", TEXT),
        event=False,
    ),
    # What happened to pools. event: initialize and swap leave the pool at sqrt_price (X96, 32 big-endian bytes) and
    # tick, with liquidity active; mint and burn add liquidity (burn: negative) to the ticks from tick up to below
    # upper. Amounts are what the pool got (negative: gave), native units. What happened before the market's first block
    # is summed up at its start: one mint for each range of ticks, then one initialize; these have log_index -1 and no
    # amounts.
    "pool_events": _table(
        ("pool_id", pa.int16()),
        ("event", CATEGORY),
        ("tick", pa.int32()),
        ("upper", pa.int32(), True),
        ("liquidity", AMOUNT),
        ("sqrt_price", WORD, True),
        ("amount0", AMOUNT, True),
        ("amount1", AMOUNT, True),
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
        ("debt_scaled", AMOUNT, True),  # what was repaid as the protocol stores it, where its log says so
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
