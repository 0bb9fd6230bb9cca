"""A proof of what a lake says of an account: the chain's own storage at the block, valued by the same rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backtest.account import AccountState, account_at
from backtest.errors import UserError
from backtest.fetch.proofs import Prover, fetch_header
from backtest.fetch.rpc import Rpc
from backtest.foreign import shown
from backtest.lake import Lake
from backtest.model import AssetId, Market
from backtest.proofs import Checked, accounted, check, clock_of, decoded, encoded, make
from backtest.protocols.interface import Holding
from backtest.protocols.storage import Subject
from backtest.results import load_market


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof with what it shows. ``data`` is the file; ``differences`` say, one line each, where the lake says
    something else: then the proof is of the chain's account, not of the lake's.
    """

    data: bytes
    checked: Checked
    differences: tuple[str, ...]


def prove(lake: Lake, market: str, account: str, rpc: Rpc, *, block: int | None = None) -> Proved:
    """Prove an account at the end of a block, by default of the last one that the lake has.

    Raises:
        UserError: as ``account_at``; or the protocol names no slots; or the node is of another chain.
        FetchError: the node does not have the block, or no state of it, or its proofs do not hold.
    """
    config, fixed = lake.market_config(market), load_market(lake, market)
    said = account_at(lake, market, account) if block is None else None
    name = said.account if said is not None else account
    if not re.fullmatch("0x[0-9a-fA-F]{40}", name.strip(), re.ASCII):
        raise UserError(f"'{shown(name, 60)}' is a name, not an address", "only accounts of a chain can be proven")
    if block is not None and block < 0:
        raise UserError(f"--block {block}", "give 0 or more")
    if (chain := rpc.chain_id()) != config.chain_id:
        raise UserError(f"{rpc.name} is a node of chain {chain}, '{market}' is on {config.chain_id}", "choose its node")
    header, found = fetch_header(rpc, said.block if said is not None else block or 0)
    said = said or account_at(lake, market, account, block=block, time=found.timestamp)
    subject = Subject(
        config=config,
        account=said.account,
        now=clock_of(found),
        assets=tuple(sorted(fixed.assets[each.asset].asset for each in said.holdings)),
        tokens={asset.asset: (asset.symbol, asset.decimals) for asset in fixed.assets},
    )
    storage = Prover(rpc, found)
    accounted(subject, found, storage.answer)
    data = encoded(make(subject, header, storage.nodes, storage.view))
    checked = check(decoded(data, "the proof"), found.hash)
    return Proved(data, checked, tuple(_differences(said, fixed, checked)))


def _differences(said: AccountState, fixed: Market, checked: Checked) -> Iterator[str]:
    """Where the lake says something else than the chain, a line each."""
    here = {asset.id: asset.asset for asset in fixed.assets}
    labels = {asset.asset: fixed.label(asset.id) for asset in fixed.assets}
    mine: dict[str, int | None] = {**_by_side(said.holdings, here, labels)}
    theirs: dict[str, int | None] = {**_by_side(checked.holdings, checked.addresses, labels)}
    for name in sorted({*mine, *theirs}):
        mine.setdefault(name, 0)
        theirs.setdefault(name, 0)
    for asset, price in checked.prices.items():
        if asset in said.prices:
            mine[f"price of {labels[asset]}"], theirs[f"price of {labels[asset]}"] = said.prices[asset], price
    for figures, into in ((said.figures, mine), (checked.figures, theirs)):
        into |= {each.name: each.value for each in figures or ()}
    mine["time of the block"], theirs["time of the block"] = said.timestamp, checked.block.timestamp
    for name in {**mine, **theirs}:
        if (lake := mine.get(name)) != (chain := theirs.get(name)):
            yield f"{name}: the lake says {_whole(lake)}, the chain {_whole(chain)}"


def _by_side(
    holdings: Sequence[Holding], addresses: Mapping[AssetId, str], labels: Mapping[str, str]
) -> dict[str, int]:
    """Every number of some holdings by a name of its own."""
    return {
        f"{name} of {labels.get(addresses[each.asset], addresses[each.asset])}": number
        for each in holdings
        for name, number in (
            ("collateral", each.collateral),
            ("collateral as stored", each.collateral_scaled),
            ("debt", each.debt),
            ("debt as stored", each.debt_scaled),
            ("use as collateral", int(each.collateral_enabled)),
        )
    }


def _whole(value: int | None) -> str:
    return "none" if value is None else str(value)
