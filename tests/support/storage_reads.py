"""Accounts as the storage of contracts on the local node says them, each word proven."""

from __future__ import annotations

from backtest.fetch.proofs import Prover, fetch_header
from backtest.fetch.rpc import Rpc
from backtest.markets import MarketConfig
from backtest.proofs import Checked, accounted, check, clock_of, decoded, encoded, make
from backtest.protocols.storage import Subject


def from_storage(rpc: Rpc, config: MarketConfig, account: str, block: int, assets: tuple[str, ...] = ()) -> Checked:
    """What the proof of an account shows, checked as a reader would. Every view can be worked out."""
    header, found = fetch_header(rpc, block)
    subject = Subject(config, account.lower(), clock_of(found), assets=tuple(each.lower() for each in assets))
    storage = Prover(rpc, found)
    accounted(subject, found, storage.answer)
    proof = make(subject, header, storage.nodes, storage.view)
    assert proof.stated == ()
    return check(decoded(encoded(proof), "proof"), found.hash)


def numbers(checked: Checked) -> tuple[int | None, ...] | None:
    """The figures' values; None where the contract would revert."""
    return None if checked.figures is None else tuple(each.value for each in checked.figures)
