"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, changes, of_accounts, totals
from backtest.protocols.compound_v2.math import borrow_balance_down
from backtest.protocols.compound_v2.state import INDEX_SCALE


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Of each cToken its supply, borrow index and stored exchange rate (compound-protocol ``contracts/CToken.sol``); of
    accounts what they hold (``balanceOf``) and owe (``borrowBalanceStored``).
    """
    rows = changes(tables)
    ctokens = {
        row["asset_id"]: row["collateral_token"]
        for row in tables("assets", ["asset_id", "collateral_token"]).to_pylist()
    }
    steps = tables("indexes", ["seq", "block_number", "asset_id", "supply_index", "borrow_index"])
    own = of_accounts(
        tables("position_events", ["seq", "block_number", "account_id", "asset_id", "side", "delta"]), list(accounts)
    ).to_pylist()
    for block in blocks:
        supply, last = totals(rows, block), _last(steps, block)
        for asset, (rate, index) in last.items():
            ctoken = ctokens[asset]
            held = supply.get((asset, "collateral"), 0)
            yield Claim(f"supply of {ctoken}", block, ctoken, "totalSupply()", held)
            yield Claim(f"borrow index of {ctoken}", block, ctoken, "borrowIndex()", index)
            if held:
                yield Claim(f"exchange rate of {ctoken}", block, ctoken, "exchangeRateStored()", rate)
        for account, name in accounts.items():
            tokens: dict[AssetId, int] = {}
            debts: dict[AssetId, tuple[int, int]] = {}
            for row in own:
                if row["account_id"] != account or row["block_number"] > block:
                    continue
                asset, delta = AssetId(row["asset_id"]), int(row["delta"])
                if row["side"] == "debt":
                    debts[asset] = debts.get(asset, (0, 0))[0] + delta, row["seq"]
                else:
                    tokens[asset] = tokens.get(asset, 0) + delta
            for asset in sorted(tokens.keys() | debts.keys()):
                ctoken, who = ctokens[asset], (int(name, 16),)
                yield Claim(f"cTokens of {name}", block, ctoken, "balanceOf(address)", tokens.get(asset, 0), who)
                principal, seq = debts.get(asset, (0, 0))
                owed = borrow_balance_down(principal, last[asset][1], _index_at(steps, asset, seq)) if principal else 0
                yield Claim(f"debt of {name}", block, ctoken, "borrowBalanceStored(address)", owed, who)


def _last(steps: pa.Table, block: int) -> dict[AssetId, tuple[int, int]]:
    """Stored exchange rate and borrow index of every asset at the end of a block, mantissas."""
    until = steps.filter(pc.less_equal(steps["block_number"], block)).to_pylist()
    found = {row["asset_id"]: row for row in sorted(until, key=lambda row: row["seq"])}
    return {
        AssetId(asset): (int(row["supply_index"]) // INDEX_SCALE, int(row["borrow_index"]) // INDEX_SCALE)
        for asset, row in found.items()
    }


def _index_at(steps: pa.Table, asset: int, seq: int) -> int:
    """The borrow index as of a place, mantissa."""
    mine = steps.filter(pc.and_(pc.equal(steps["asset_id"], asset), pc.less_equal(steps["seq"], seq)))
    row = max(mine.to_pylist(), key=lambda row: row["seq"])
    return int(row["borrow_index"]) // INDEX_SCALE
