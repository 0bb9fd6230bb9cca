"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts
from backtest.protocols.gearbox_v3.events import BALANCE, INFO, MANAGER, POOL, QUOTA, QUOTA_KEEPER
from backtest.protocols.gearbox_v3.state import UNDERLYING

_WORDS = {"debt_index": 1, "quota_interest": 2, "quota_fees": 3}
_STORED_WITH_ONE = "quota_interest"


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Each account's tokens (``balanceOf``), principal and what is stored of its debt (``creditAccountInfo``, words 0
    to 3), and quotas (``getQuota``); of the pool, in blocks in which it accrued, index and rate.
    """
    manager, pool, keeper = (config.contracts.get(role) for role in (MANAGER, POOL, QUOTA_KEEPER))
    if manager is None or pool is None or keeper is None:
        raise UserError(
            f"market '{config.name}' names no credit manager, pool and quota keeper",
            "write contracts.manager, contracts.pool and contracts.quota_keeper",
        )
    assets = {AssetId(row["asset_id"]): row["asset"] for row in tables("assets", ["asset_id", "asset"]).to_pylist()}
    own, steps = of_accounts(changes(tables), list(accounts)), _settings(tables, accounts)
    accrued = {
        row["block_number"]: row
        for row in sorted(
            tables("indexes", ["seq", "block_number", "borrow_index", "borrow_rate"]).to_pylist(),
            key=lambda row: int(row["seq"]),
        )
    }
    for block in blocks:
        if block in accrued:
            index, rate = int(accrued[block]["borrow_index"]), int(accrued[block]["borrow_rate"])
            yield Claim(f"index of the pool {pool}", block, pool, "baseInterestIndexLU()", index)
            yield Claim(f"rate of the pool {pool}", block, pool, "baseInterestRate()", rate)
        each = balances(own, block)
        for account, name in accounts.items():
            who = int(name, 16)
            for asset, token in assets.items():
                if (account, asset, "collateral") in each:
                    held = each[account, asset, "collateral"]
                    yield Claim(f"{token} of {name}", block, token, BALANCE, held, (who,))
            debt = each.get((account, UNDERLYING, "debt"))
            if debt is None:
                continue
            yield Claim(f"principal of {name}", block, manager, INFO, debt, (who,))
            told = {key: value for at, key, value in steps.get(account, ()) if at <= block}
            if debt:
                for setting, place in _WORDS.items():
                    if (setting, UNDERLYING) in told:
                        value = told[setting, UNDERLYING] + (setting == _STORED_WITH_ONE)
                        yield Claim(f"{setting} of {name}", block, manager, INFO, value, (who,), place)
            for (setting, which), value in told.items():
                if setting == "quota":
                    words = who, int(assets[AssetId(which)], 16)
                    what = f"quota of {name} for {assets[AssetId(which)]}"
                    yield Claim(what, block, keeper, QUOTA, value, words)


def _settings(
    tables: Tables, accounts: Mapping[AccountId, str]
) -> dict[AccountId, list[tuple[int, tuple[str, int], int]]]:
    """Of each account, in order: block, setting with its asset, value."""
    names = ["seq", "block_number", "account_id", "setting", "asset_id", "value"]
    rows = sorted(tables("setting_events", names).to_pylist(), key=lambda row: int(row["seq"]))
    found: dict[AccountId, list[tuple[int, tuple[str, int], int]]] = {}
    for row in rows:
        if row["account_id"] in accounts:
            key = str(row["setting"]), int(row["asset_id"] or 0)
            found.setdefault(AccountId(row["account_id"]), []).append((row["block_number"], key, int(row["value"])))
    return found
