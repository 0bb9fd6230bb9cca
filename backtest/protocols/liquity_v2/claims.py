"""What the contracts are asked when a lake is compared with the chain.

Source: liquity/bold at b40fa9b9, ``TroveManager.sol`` (``getLatestTroveData``), ``LiquityBase.sol``
(``getEntireBranchColl``, ``getEntireBranchDebt``), ``StabilityPool.sol``, ``ActivePool.sol``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, ParamChange, PositionChange, SettingChange
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.liquity_v2.state import ACTIVE, BOLD, COLL, POOL, BranchState, apply, open_state

_PLACE = ["seq", "block_number", "log_index", "timestamp"]
_CHANGE = ["account_id", "asset_id", "side", "delta", "action"]
_SET = ["account_id", "setting", "asset_id", "value", "action"]
_ASSETS = (Asset(COLL, "", "COLL", 18), Asset(BOLD, "", "BOLD", 18))
TROVE_DIGITS = 66
"""Characters of a trove's address, which is its id; a depositor's has 42."""


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Of the branch its recorded debt, the sum of weighted debts, both sums of management fees, deposits, the pool's
    collateral, its product and scale, and the yield it owes; of troves debt, collateral and what redistributions gave,
    interest and fee; of depositors what is left of their deposit and what it gained.
    """
    names = {row["account_id"]: row["account"] for row in tables("accounts", ["account_id", "account"]).to_pylist()}
    if POOL not in names:
        return
    market = Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=_ASSETS,
        accounts=tuple(names[n] for n in sorted(names)),
    )
    state, rows, place = open_state(market), _rows(tables), 0
    times = dict(
        zip(*tables("blocks", ["block_number", "timestamp"]).select(["block_number", "timestamp"]).to_pydict().values(),
            strict=True)
    )  # fmt: skip
    managers = _manager(config, tables)
    for block in sorted(blocks):
        while place < len(rows) and rows[place]["block_number"] <= block:
            _apply(state, rows[place])
            place += 1
        for function, value in (
            ("aggRecordedDebt()", state.recorded),
            ("aggWeightedDebtSum()", state.weighted),
            ("aggBatchManagementFees()", state.fees),
            ("aggWeightedBatchManagementFeeSum()", state.weighted_fees),
            ("getCollBalance()", state.active_coll),
            ("shutdownTime()", state.shutdown),
        ):
            yield Claim(f"{function.removesuffix('()')} of the active pool", block, names[ACTIVE], function, value)
        for function, value in (
            ("getTotalBoldDeposits()", state.pool_deposits),
            ("getCollBalance()", state.pool_coll),
            ("getYieldGainsOwed()", state.yield_owed),
            ("P()", state.product),
            ("currentScale()", state.scale),
        ):
            yield Claim(f"{function.removesuffix('()')} of the stability pool", block, names[POOL], function, value)
        for account, name in accounts.items():
            if account in state.troves and managers and block in times:
                yield from _trove(state, account, name, block, managers, times[block])
            elif len(name) < TROVE_DIGITS:
                yield from _depositor(state, account, name, block, names[POOL])


def _manager(config: MarketConfig, tables: Tables) -> str | None:
    return config.contracts.get("trove_manager")


def _trove(state: BranchState, account: AccountId, name: str, block: int, manager: str, now: int) -> Iterator[Claim]:
    latest, words = state.latest(state.trove(account), now), (int(name, 16),)
    for number, (what, value) in enumerate(
        (
            ("debt", latest.debt),
            ("collateral", latest.coll),
            ("redistributed debt", latest.shared_debt),
            ("redistributed collateral", latest.shared_coll),
            ("interest", latest.interest),
        )
    ):
        yield Claim(f"{what} of {name}", block, manager, "getLatestTroveData(uint256)", value, words, number)


def _depositor(state: BranchState, account: AccountId, name: str, block: int, pool: str) -> Iterator[Claim]:
    words, deposit = (int(name, 16),), state.deposits.get(account)
    left, gain, yields = (
        (state.deposit_of(deposit), state.gain_of(deposit), state.yield_of(deposit)) if deposit else (0, 0, 0)
    )
    yield Claim(f"deposit of {name}", block, pool, "getCompoundedBoldDeposit(address)", left, words)
    yield Claim(f"gain of {name}", block, pool, "getDepositorCollGain(address)", gain, words)
    yield Claim(f"yield of {name}", block, pool, "getDepositorYieldGain(address)", yields, words)
    yield Claim(f"stash of {name}", block, pool, "stashedColl(address)", state.stashed.get(account, 0), words)


def _rows(tables: Tables) -> list[dict[str, Any]]:
    """In order; of one log parameters, then changes of balances, then settings, as a replay has them."""
    found = tables("params", [*_PLACE, "name", "value"]).to_pylist()
    found += tables("position_events", [*_PLACE, *_CHANGE]).to_pylist()
    found += tables("setting_events", [*_PLACE, *_SET]).to_pylist()
    return sorted(found, key=lambda row: row["seq"])


def _apply(state: BranchState, row: Mapping[str, Any]) -> None:
    place = {name: row[name] for name in _PLACE}
    if "name" in row:
        apply(state, ParamChange(**place, name=row["name"], value=int(row["value"])))
        return
    own: dict[str, Any] = {
        **place,
        "account": AccountId(row["account_id"]),
        "asset": AssetId(row["asset_id"]),
        "action": row["action"],
        "action_seq": row["seq"],
    }
    if "setting" in row:
        apply(state, SettingChange(**own, setting=row["setting"], value=int(row["value"])))
    else:
        apply(state, PositionChange(**own, side=row["side"], delta=int(row["delta"])))
