"""Twin chains, and how they are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import pytest

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.model import Market
from backtest.protocols.aave_v3.state import AaveState
from backtest.reconstruct import reconstruct
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from tests.chain.twin import (
    Held,
    Liquidated,
    Lost,
    ReserveAt,
    Twin,
    holdings,
    reserves,
)

MARKET = "twins"


@dataclass(frozen=True)
class History:
    """Chain A, and what our lake makes of it."""

    twin: Twin
    market: Market
    timeline: Timeline


VERSIONS = [
    pytest.param(version, marks=pytest.mark.xdist_group(f"twins {version}"), id=version) for version in ("3.0", "3.6")
]


def _recorded(twin: Twin, tmp_path_factory: pytest.TempPathFactory) -> History:
    """A chain fetched into a lake of its own."""
    lake = Lake(tmp_path_factory.mktemp("twins"), create=True)
    fetch(
        lake,
        twin.deployment.market_config(MARKET),
        Rpc(twin.deployment.node.url),
        to_block=twin.last_block,
        finality=0,
        headers="all",
    )
    lake.refresh()
    reconstruct(lake, MARKET)
    lake.refresh()
    return History(twin, load_market(lake, MARKET), load_timeline(lake, MARKET))


def _skipped(outcome: Replay[AaveState]) -> Counter[str]:
    """Users' actions that the replay refused, by kind."""
    counts: Counter[str] = Counter()
    for count in outcome.actions:
        if count.outcome == "skipped":
            counts[count.action] += count.count
    return counts


def _losses(outcome: Replay[AaveState], symbols: list[str]) -> tuple[list[Liquidated], list[Lost]]:
    book = outcome.book
    calls = [
        Liquidated(
            block=row.clock.block_number,
            account=book.address(row.fill.order.account),
            debt=symbols[row.fill.order.pair.debt_asset],
            collateral=symbols[row.fill.order.pair.collateral_asset],
            repaid=row.fill.repaid,
            seized=row.fill.seized,
            fee=row.fill.protocol_fee,
        )
        for row in outcome.liquidations
    ]
    lost = [
        Lost(row.clock.block_number, book.address(row.account), symbols[row.asset], row.amount)
        for row in outcome.deficits
    ]
    return calls, lost


def _compare(outcome: Replay[AaveState], chain: Twin, symbols: list[str], block: int | str, accrued: bool) -> list[str]:
    """Accounts and reserves at the end of a replay and at a block of the chain: one line for every number that
    differs.
    """
    state, market = outcome.book.state, outcome.book.market
    ours = {
        market.accounts[id]: Held(
            collateral={symbols[asset]: amount for asset, amount in account.collateral.items()},
            debt={symbols[asset]: amount for asset, amount in account.debt.items()},
            enabled=frozenset(symbols[asset] for asset in account.enabled),
            emode=account.emode,
        )
        for id, account in state.accounts.items()
    }
    theirs = holdings(chain, block)
    empty = Held({}, {}, frozenset(), 0)
    lines = []
    for account in sorted(ours.keys() | theirs.keys()):
        mine, chains = ours.get(account, empty), theirs.get(account, empty)
        lines += [
            f"{chain.names.get(account, account)} {f.name}: {getattr(mine, f.name)} here, {getattr(chains, f.name)} on"
            " the chain"
            for f in fields(Held)
            if getattr(mine, f.name) != getattr(chains, f.name)
        ]
    covered = {"liquidity", "accrued_to_treasury", "deficit"}
    for id, symbol in enumerate(symbols):
        stored = reserves(chain, block)[symbol]
        lines += [
            f"{symbol} {f.name}: {getattr(state.reserves[id], f.name)} here, {getattr(stored, f.name)} on the chain"
            for f in fields(ReserveAt)
            if (accrued or f.name not in covered) and getattr(state.reserves[id], f.name) != getattr(stored, f.name)
        ]
    return lines
