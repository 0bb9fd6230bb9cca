"""What the contracts are asked when a lake is compared with the chain.

Source: liquity/dev at 5174ecd0, ``TroveManager.sol`` (``getEntireDebtAndColl``, ``getTroveStake``, ``L_ETH`` and the
other public words), ``StabilityPool.sol``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Market, ParamChange, PositionChange
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.liquity_v1.events import MANAGER
from backtest.protocols.liquity_v1.state import ETH, LUSD, POOL, LiquityState, apply, open_state

_PLACE = ["seq", "block_number", "log_index", "timestamp"]
_CHANGE = ["account_id", "asset_id", "side", "delta", "action"]


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Of the system its collateral and debt, deposits, the sums per unit staked, all stakes with both snapshots, and
    the pool's product; of accounts their trove with what is pending, its stake, what is left of their deposit and what
    it gained.
    """
    names = {row["account_id"]: row["account"] for row in tables("accounts", ["account_id", "account"]).to_pylist()}
    manager, pool = config.contracts[MANAGER], names.get(POOL)
    if pool is None:
        return
    market = Market(
        name=config.name,
        protocol=config.protocol,
        chain_id=config.chain_id,
        assets=_ASSETS,
        accounts=tuple(names[n] for n in sorted(names)),
    )
    state = open_state(market)
    rows = _rows(tables)
    place = 0
    for block in sorted(blocks):
        while place < len(rows) and rows[place]["block_number"] <= block:
            _apply(state, rows[place])
            place += 1
        for function, value in (
            ("getEntireSystemColl()", state.coll),
            ("getEntireSystemDebt()", state.debt),
            ("L_ETH()", state.coll_sum),
            ("L_LUSDDebt()", state.debt_sum),
            ("totalStakes()", state.stakes),
            ("totalStakesSnapshot()", state.stakes_then),
            ("totalCollateralSnapshot()", state.colls_then),
        ):
            yield Claim(f"{function.removesuffix('()')} of the system", block, manager, function, value)
        for function, value in (("getTotalLUSDDeposits()", state.pool_deposits), ("P()", state.product)):
            yield Claim(f"{function.removesuffix('()')} of the stability pool", block, pool, function, value)
        for account, name in accounts.items():
            yield from _of(state, account, name, block, manager, pool)


_ASSETS = (Asset(ETH, "", "ETH", 18), Asset(LUSD, "", "LUSD", 18))


def _of(state: LiquityState, account: AccountId, name: str, block: int, manager: str, pool: str) -> Iterator[Claim]:
    words = (int(name, 16),)
    trove, deposit = state.trove(account), state.deposits.get(account)
    coll, debt = state.entire(trove)
    more_coll, more_debt = state.pending(trove)
    function = "getEntireDebtAndColl(address)"
    for number, (what, value) in enumerate(
        (("debt", debt), ("collateral", coll), ("pending debt", more_debt), ("pending collateral", more_coll))
    ):
        yield Claim(f"{what} of {name}", block, manager, function, value, words, number)
    yield Claim(f"stake of {name}", block, manager, "getTroveStake(address)", trove.stake, words)
    left, gain = (state.deposit_of(deposit), state.gain_of(deposit)) if deposit else (0, 0)
    yield Claim(f"deposit of {name}", block, pool, "getCompoundedLUSDDeposit(address)", left, words)
    yield Claim(f"gain of {name}", block, pool, "getDepositorETHGain(address)", gain, words)


def _rows(tables: Tables) -> list[dict[str, Any]]:
    """Parameters and changes of balances in order, of one log the parameters first."""
    found = tables("params", [*_PLACE, "name", "value"]).to_pylist()
    found += tables("position_events", [*_PLACE, *_CHANGE]).to_pylist()
    return sorted(found, key=lambda row: (row["seq"], "delta" in row))


def _apply(state: LiquityState, row: Mapping[str, Any]) -> None:
    place = {name: row[name] for name in _PLACE}
    if "delta" not in row:
        apply(state, ParamChange(**place, name=row["name"], value=int(row["value"])))
        return
    apply(
        state,
        PositionChange(
            **place,
            account=AccountId(row["account_id"]),
            asset=AssetId(row["asset_id"]),
            side=row["side"],
            delta=int(row["delta"]),
            action=row["action"],
            action_seq=row["seq"],
        ),
    )
