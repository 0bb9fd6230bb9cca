"""``backtest prove``: an account of a lake, proven from the chain's storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.nodes import Nodes, node_of
from backtest.cli.numbers import Whole
from backtest.errors import UserError
from backtest.foreign import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.proofs import Checked
    from backtest.protocols.storage import Input


def prove(
    address: str,
    *,
    lake: Path,
    out: Path,
    market: str | None = None,
    block: Whole | None = None,
    rpc: Nodes = None,
    workers: int = 16,
    timeout: float = 30.0,
) -> int:
    """Write a file that proves what the lake says of an account at the end of a block: the words of the contracts'
    storage, with the nodes that lead from them to the block's hash. backtest verify checks it without a node.

    The node must have the state of the block (eth_getProof): any node for the last blocks, an archive node for older
    ones. Where the chain's storage says something else than the lake, each difference is named, nothing is written, and
    the exit code is 1.

    Examples:

        export BACKTEST_RPC=http://127.0.0.1:8545

        backtest prove 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --lake data/lake --out alice.proof

        backtest prove 0x70997970c51812dc3a010c7d01b50e0d17dc79c8 --lake data/lake --block 19000000 --out alice.proof

    Parameters
    ----------
    address
        Address of the account, or the name that the market knows it by.
    lake
        Folder of the lake.
    out
        The file to write.
    market
        Market; may be left out where the lake holds one.
    block
        At the end of this block; without it at the end of the history.
    rpc
        Address of the node, or a TOML file of providers; given several times, all are asked. Else the environment
        variable BACKTEST_RPC. Keys are shown nowhere.
    workers
        Requests in flight, 1 to 256.
    timeout
        Seconds until a request counts as lost; 0.1 to 3,600.
    """
    from backtest.cli.replay import only_market
    from backtest.lake import Lake
    from backtest.prove import prove as proved

    if out.is_dir():
        raise UserError(f"{shown(str(out))} is a folder", "name a file for --out")
    opened = Lake(lake)
    with node_of(rpc, workers, timeout) as node:
        found = proved(opened, market or only_market(opened), address, node, block=block)
    if found.differences:
        for line in found.differences:
            print(f"  {line}")
        print("the lake does not say what the chain's storage says: no proof was written")
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.unfinished")
    unfinished.write_bytes(found.data)
    unfinished.replace(out)
    for line in told(found.checked):
        print(line)
    print(f"{shown(str(out))}: {len(found.data):,} bytes; the lake says the same")
    print(f"  to check it: backtest verify {shown(str(out))} --block-hash {found.checked.block.hash}")
    return 0


def told(checked: Checked) -> Iterator[str]:
    """A checked account in lines: what it is, its numbers, and what each of them rests on."""
    from backtest.report.tables import moment

    subject, block, config = checked.subject, checked.block, checked.subject.config
    yield (
        f"{subject.account}: market {shown(config.name)} ({shown(config.protocol)}), block {block.number},"
        f" {moment(block.timestamp)} UTC ({block.timestamp})"
    )
    yield f"  block hash {block.hash}"
    for role, address in config.contracts.items():
        yield f"  {shown(role)} {address}"
    for name, value in config.parameters.items():
        yield f"  {shown(name)} {shown(value)}"
    if checked.missing is not None:
        yield f"  the contract would revert: {checked.missing}"
    for figure in checked.figures or ():
        unit = f"{config.base_currency}, {config.base_decimals} decimals" if figure.unit == "base" else figure.unit
        value = "none" if figure.value is None else str(figure.value)
        yield f"  {figure.name:<30} {value:<40} {shown(unit)}"
    for holding in checked.holdings:
        for side, amount, scaled in (
            ("collateral", holding.collateral, holding.collateral_scaled),
            ("debt", holding.debt, holding.debt_scaled),
        ):
            if amount or scaled:
                symbol = shown(checked.symbols[holding.asset])
                off = " (not used as collateral)" if side == "collateral" and not holding.collateral_enabled else ""
                yield f"  {side} {symbol}: {amount} native units, {scaled} scaled{off}"
    yield from _health(checked)
    yield f"  {checked.slots} words of storage"
    for kind, heading in _KINDS.items():
        lines = [each for each in checked.inputs if _kind(each, checked) == kind]
        if lines:
            yield f"  {heading}:"
        for each in lines:
            value = "" if each.value is None else f" = {each.value}"
            yield f"    {shown(each.what)}{value}: {shown(each.why, 400)}"


_KINDS = {
    "proven": "proven by storage",
    "run": "worked out by running the contracts' code, which is proven, on storage, which is proven",
    "stated": "not proven: a view said it when the proof was made",
}


def _kind(of: Input, checked: Checked) -> str:
    if of.view is None:
        return "proven"
    return "stated" if of.view in checked.stated else "run"


def _health(checked: Checked) -> Iterator[str]:
    from backtest.units import WAD

    view = checked.view
    if view is None:
        return
    if view.health is None:
        yield "  health: no debt"
        return
    whole, rest = divmod(view.health, WAD)
    said = "below one: it may be liquidated" if view.health < WAD else "one or more: it may not be liquidated"
    yield f"  health {whole}.{rest:018d}, {said}"
