"""What a fetch says while a node lets it wait: once, whom it waits for, why and how long."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backtest.cli.fetch import ProgressBar
from backtest.fetch import provider_pool
from backtest.fetch.provider_pool import Waiting
from backtest.fetch.providers import Providers, ProviderSettings
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.synthetic import ChainNode, made_up_chain


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(provider_pool, "_NOTICED", 0.0)
    chain = made_up_chain(height=60, seed=5)
    with ChainNode(chain, calls_of(chain)) as node:
        yield node


def _asked(proxy: f.FaultProxy, told: Callable[[Waiting], None], *others: str) -> int:
    providers = Providers(
        [ProviderSettings(url, name) for url, name in ((proxy.url, "mine"), *((u, u) for u in others))]
    )
    with Rpc(providers, backoff=0.001, max_backoff=0.002) as rpc:
        rpc.pool.on_waiting = told
        return rpc.block_number()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (f.too_many_requests, "project ID request rate exceeded"),
        (f.dropped, "the connection failed"),
        (f.server_error, "Bad Gateway"),
    ],
)
def test_a_wait_names_the_node_and_why_until_it_answers(node: ChainNode, fault: f.Fault, why: str) -> None:
    waits: list[Waiting] = []
    left = [True] * 3

    def thrice(body: bytes, forward: f.Forward, draw: Any) -> f.Response | None:
        return fault(body, forward, draw) if left and left.pop() else None

    with f.FaultProxy(node.url, f.Plan(always=[thrice])) as proxy:
        assert _asked(proxy, waits.append) == 60
    assert [(wait.name, wait.tries, why in wait.why) for wait in waits] == [
        ("mine", tries, True) for tries in (1, 2, 3)
    ]
    assert all(wait.over for wait in waits)
    assert str(waits[-1]).startswith("waiting for mine: ")
    assert "try 4 of 8" in str(waits[-1])


def test_nothing_is_said_where_another_node_answers(node: ChainNode, tmp_path: Path) -> None:
    waits: list[Waiting] = []
    with f.FaultProxy(node.url, f.Plan(always=[f.too_many_requests])) as proxy:
        assert _asked(proxy, waits.append, node.url) == 60
    assert waits == []


def _wait(member: Any, seconds: float = 12.0) -> Waiting:
    until = provider_pool.time.monotonic() + seconds
    return Waiting("mine", "HTTP 429", until, 2, 8, member, member.stats.answers)


def test_without_a_terminal_it_is_said_once_until_it_answers() -> None:
    written = io.StringIO()
    with Rpc("http://127.0.0.1:9") as rpc, ProgressBar(Console(file=written), rpc) as bar:
        (member,) = rpc.pool.members
        tell = rpc.pool.on_waiting
        assert tell is not None
        bar.begin("logs", 100)
        for _ in range(3):
            tell(_wait(member))
        assert written.getvalue() == "note: waiting for mine: HTTP 429; asked again in 12 s, try 3 of 8\n"
        member.stats.answers += 1
        tell(_wait(member, 0.0))
        assert written.getvalue().count("note: ") == 2
        assert "asked again now" in written.getvalue()


def test_on_a_terminal_it_is_below_the_bar_until_it_answers() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Rpc("http://127.0.0.1:9") as rpc, ProgressBar(console, rpc) as bar:
        (member,) = rpc.pool.members
        tell = rpc.pool.on_waiting
        assert tell is not None

        def seen() -> str:
            shown = Console(file=io.StringIO(), width=120)
            shown.print(bar._bar.get_renderable())
            return shown.file.getvalue()  # type: ignore[attr-defined, no-any-return]

        tell(_wait(member))
        assert "waiting for mine: HTTP 429; asked again in 12 s" in seen()
        bar.begin("logs", 100)
        assert "waiting for mine" in seen()
        member.stats.answers += 1
        assert "waiting" not in seen()
        assert "logs" in seen()


def test_a_wait_that_a_fetch_survives_leaves_no_trace(node: ChainNode, tmp_path: Path) -> None:
    calm, lake = (Lake(tmp_path / name, create=True) for name in ("calm", "lake"))
    run(calm, node.url)
    plan = f.Plan(sometimes=[f.too_many_requests, f.dropped], most=5)
    with f.FaultProxy(node.url, plan) as proxy:
        run(lake, proxy.url)
    assert lake.digest("made-up") == calm.digest("made-up")
