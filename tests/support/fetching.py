"""Fetching the made-up chain, for tests."""

from __future__ import annotations

from typing import Any

from backtest.fetch import FetchSummary, fetch
from backtest.fetch.adapters import selector
from backtest.fetch.providers import Providers
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from tests.support.synthetic import Chain, Vaults, market, text_data, word


def calls_of(chain: Chain) -> dict[tuple[str, str], str]:
    """Answers of every asset and vault of the chain."""
    created = [log for logs in chain.logs.values() for log in logs if log.address == market().contracts["factory"]]
    answers = {}
    for number, log in enumerate(created):
        asset, vault = "0x" + log.data[-40:], "0x" + log.topics[1][-40:]
        symbol = "0x" + (text_data(f"TOK{number}") if number % 2 else word(f"OLD{number}".encode()))
        answers |= {(asset, selector("symbol()")): symbol, (asset, selector("decimals()")): "0x" + word(18 - number)}
        answers[vault, selector("VAULT_REVISION()")] = "0x" + word(number + 1)
    return answers


def run(lake: Lake, url: str | Providers, **options: Any) -> FetchSummary:
    """A fetch with a patient but fast client."""
    rpc_options = {name: options.pop(name) for name in ("workers", "attempts", "timeout") if name in options}
    with Rpc(url, backoff=0.001, max_backoff=0.02, **rpc_options) as rpc:
        return fetch(lake, market(), rpc, **{"finality": 0, "protocol": Vaults(), **options})
