"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables, changes, of_accounts, totals


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Scaled totals of aTokens and variable debt tokens (``IScaledBalanceToken.scaledTotalSupply``); of accounts which
    assets they use as collateral and borrow (``ILendingPool.getUserConfiguration``: bit 2i borrowing, 2i + 1 used as
    collateral, of the reserve listed as the i-th).

    Every balance is in some token's total; flags have none. The bit of a debt that a liquidation repaid in full stays
    set in the contract: such an account differs.
    """
    pool, rows, chosen = config.contracts["pool"], changes(tables), list(accounts)
    settings = tables("setting_events", ["block_number", "account_id", "setting", "asset_id", "value"])
    own_changes, own_settings = (of_accounts(table, chosen).to_pylist() for table in (rows, settings))
    names = ["asset_id", "symbol", "collateral_token", "debt_token"]
    assets = {row["asset_id"]: row for row in tables("assets", names).to_pylist()}
    for block in blocks:
        for (asset, side), total in totals(rows, block).items():
            row = assets[asset]
            token = row["collateral_token"] if side == "collateral" else row["debt_token"]
            what = f"scaled {side} total of {row['symbol']} ({token})"
            yield Claim(what, block, token, "scaledTotalSupply()", total)
        bitmaps = _bitmaps(own_changes, own_settings, block)
        for account, address in accounts.items():
            what, arguments = f"user configuration of {address}", (int(address, 16),)
            yield Claim(what, block, pool, "getUserConfiguration(address)", bitmaps.get(account, 0), arguments)


def _bitmaps(
    changes: Sequence[Mapping[str, int | str]], settings: Sequence[Mapping[str, int | str]], block: int
) -> dict[int, int]:
    """By account, at the end of a block."""
    debts: dict[tuple[int, int], int] = defaultdict(int)
    for row in changes:
        if row["side"] == "debt" and int(row["block_number"]) <= block:
            debts[int(row["account_id"]), int(row["asset_id"])] += int(row["delta"])
    last: dict[tuple[str, int, int], int] = {}
    for row in settings:
        if int(row["block_number"]) <= block:
            last[str(row["setting"]), int(row["account_id"]), int(row["asset_id"])] = int(row["value"])
    bitmaps: dict[int, int] = defaultdict(int)
    for (account, asset), debt in debts.items():
        bitmaps[account] |= (debt > 0) << 2 * asset
    for (setting, account, asset), value in last.items():
        if setting == "stable_principal":
            bitmaps[account] |= (value > 0) << 2 * asset
        elif setting == "collateral_enabled":
            bitmaps[account] |= bool(value) << 2 * asset + 1
    return bitmaps
