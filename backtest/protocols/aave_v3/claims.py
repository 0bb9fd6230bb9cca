"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables, changes, of_accounts, totals


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Scaled totals of aTokens and variable debt tokens (``IScaledBalanceToken.scaledTotalSupply``); of accounts the
    bitmap (``IPool.getUserConfiguration``: bit 2i borrowing, 2i + 1 used as collateral, of the reserve with id i) and
    the e-mode.

    Every balance is in some token's total; flags and e-modes have none.
    """
    pool, rows, chosen = config.contracts["pool"], changes(tables), list(accounts)
    params = tables("params", ["block_number", "name", "asset_id", "value"])
    listings = params.filter(pc.equal(params["name"].cast(pa.string()), "reserve_id")).to_pylist()
    since = {row["asset_id"]: row["block_number"] for row in listings}  # of the tokens that ``assets`` names: the last
    settings = tables("setting_events", ["block_number", "account_id", "setting", "asset_id", "value"])
    own_changes, own_settings = (of_accounts(table, chosen).to_pylist() for table in (rows, settings))
    assets = {
        row["asset_id"]: row
        for row in tables("assets", ["asset_id", "symbol", "collateral_token", "debt_token"]).to_pylist()
    }
    for block in blocks:
        for (asset, side), total in totals(rows, block).items():
            row = assets[asset]
            token = row["collateral_token"] if side == "collateral" else row["debt_token"]
            if token is not None and block >= since[asset]:
                what = f"scaled {side} total of {row['symbol']} ({token})"
                yield Claim(what, block, token, "scaledTotalSupply()", total)
        reserve_ids = {row["asset_id"]: int(row["value"]) for row in listings if row["block_number"] <= block}
        bitmaps, emodes = flags(own_changes, own_settings, reserve_ids, block)
        for account, address in accounts.items():
            for what, getter, values in (
                ("user configuration", "getUserConfiguration", bitmaps),
                ("e-mode", "getUserEMode", emodes),
            ):
                value = values.get(account, 0)
                yield Claim(f"{what} of {address}", block, pool, f"{getter}(address)", value, (int(address, 16),))


def flags(
    changes: Sequence[Mapping[str, int | str]],
    settings: Sequence[Mapping[str, int | str]],
    reserve_ids: Mapping[int, int],
    block: int,
) -> tuple[dict[int, int], dict[int, int]]:
    """(bitmap by account, e-mode by account) at the end of a block."""
    debts: dict[tuple[int, int], int] = defaultdict(int)
    for row in changes:
        if row["side"] == "debt" and int(row["block_number"]) <= block:
            debts[int(row["account_id"]), int(row["asset_id"])] += int(row["delta"])
    stable: dict[tuple[int, int], int] = {}
    flags: dict[tuple[int, int], int] = {}
    emodes: dict[int, int] = {}
    for row in settings:
        if int(row["block_number"]) > block:
            continue
        account, value = int(row["account_id"]), int(row["value"])
        if row["setting"] == "emode":
            emodes[account] = value
        elif row["setting"] == "collateral_enabled":
            flags[account, int(row["asset_id"])] = value
        elif row["setting"] == "stable_principal":
            stable[account, int(row["asset_id"])] = value
    bitmaps: dict[int, int] = defaultdict(int)
    for (account, asset), debt in [*debts.items(), *stable.items()]:
        bitmaps[account] |= (debt > 0) << 2 * reserve_ids[asset]
    for (account, asset), enabled in flags.items():
        bitmaps[account] |= bool(enabled) << 2 * reserve_ids[asset] + 1
    return bitmaps, emodes
