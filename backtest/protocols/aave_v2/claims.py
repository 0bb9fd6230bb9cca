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

    Every balance is in some token's total; flags have none. A debt that a liquidation repaid in full leaves its bit
    set.
    """
    pool, rows, chosen = config.contracts["pool"], changes(tables), list(accounts)
    debts = tables("position_events", ["seq", "block_number", "account_id", "asset_id", "side", "delta", "action"])
    settings = tables("setting_events", ["seq", "block_number", "account_id", "setting", "asset_id", "value", "action"])
    own_changes, own_settings = (of_accounts(table, chosen).to_pylist() for table in (debts, settings))
    names = ["asset_id", "symbol", "collateral_token", "debt_token"]
    assets = {row["asset_id"]: row for row in tables("assets", names).to_pylist()}
    for block in blocks:
        for (asset, side), total in totals(rows, block).items():
            row = assets[asset]
            token = row["collateral_token"] if side == "collateral" else row["debt_token"]
            what = f"scaled {side} total of {row['symbol']} ({token})"
            yield Claim(what, block, token, "scaledTotalSupply()", total)
        bitmaps = _bitmaps([*own_changes, *own_settings], block)
        for account, address in accounts.items():
            what, arguments = f"user configuration of {address}", (int(address, 16),)
            yield Claim(what, block, pool, "getUserConfiguration(address)", bitmaps.get(account, 0), arguments)


def _bitmaps(rows: Sequence[Mapping[str, int | str]], block: int) -> dict[int, int]:
    """By account, at the end of a block, from changes of balances and of settings. The bit of borrowing is set with a
    debt's first unit, and cleared by a repayment of the last one alone (``lendingpool/LendingPool.sol`` repay).
    """
    debts: dict[tuple[int, int], int] = defaultdict(int)
    stable: dict[tuple[int, int], int] = {}
    flags: dict[tuple[int, int], int] = {}
    by: dict[tuple[int, int], str] = {}
    for row in sorted(rows, key=lambda row: int(row["seq"])):
        if int(row["block_number"]) > block:
            break
        key = int(row["account_id"]), int(row["asset_id"])
        if row.get("side") == "debt":
            debts[key] += int(row["delta"])
        elif row.get("setting") == "stable_principal":
            stable[key] = int(row["value"])
        elif row.get("setting") == "collateral_enabled":
            flags[key] = int(row["value"])
            continue
        else:
            continue
        by[key] = str(row["action"])
    bitmaps: dict[int, int] = defaultdict(int)
    for (account, asset), action in by.items():
        owes = debts.get((account, asset), 0) or stable.get((account, asset), 0) or action == "liquidation"
        bitmaps[account] |= bool(owes) << 2 * asset
    for (account, asset), enabled in flags.items():
        bitmaps[account] |= bool(enabled) << 2 * asset + 1
    return bitmaps
