"""A follower of a market of real contracts at the head of its chain: whatever happens, no alert is lost, none is
doubled, and the lake ends as a later fetch leaves it. ``python -m tests.followed`` does the same for as long as it is
told.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.errors import FetchError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.follow.branch import Undone
from backtest.follow.head import near_at_head
from backtest.lake import Lake
from backtest.near import near_in_lake
from backtest.reconstruct import is_current, reconstruct
from tests.chain.market import Record
from tests.support.branching import BranchingNode
from tests.support.followed import DEEPEST, LIMITS, Hook, Trial
from tests.support.heads import assert_head_is_as_fetched

pytestmark = [pytest.mark.slow, pytest.mark.chain]
NAME = "local-aave"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


@pytest.fixture
def trial(market_upgraded: Record, tmp_path: Path, hook: Hook) -> Iterator[Trial]:
    """From shortly before the crash on; the pool's upgrade comes within."""
    with BranchingNode(market_upgraded.deployment.node, market_upgraded.last_block, finality=20) as node:
        node.height = 260
        changes = market_upgraded.marks["source"][0]
        yield Trial(node, market_upgraded.deployment.market_config(NAME), tmp_path, hook, sources_until=changes)


def test_reorganisations_restarts_and_kills(trial: Trial) -> None:
    """Every depth up to twelve, restarts, a webhook that refuses, a node that stalls, and kills in between."""
    trial.start()
    while trial.node.height < 340 or len(trial.depths) < DEEPEST:
        trial.live()
        trial.step()
        if trial.counts["reorganisations"] // 5 > trial.counts["restarts"]:
            trial.stop()
            trial.hook.refuse = not trial.hook.refuse
            trial.start()
    trial.hook.refuse = False
    trial.node.stalls.set()
    trial.grow(3)
    with pytest.raises(FetchError):
        trial.step()
    trial.node.stalls.clear()
    trial.step()
    for _ in range(2):
        trial.stop()
        trial.killed(trial.live, trial.draw.uniform(0.5, 2.0))
        trial.start()
    trial.finish()
    assert {*trial.depths} >= {*range(1, DEEPEST + 1)}
    assert trial.counts["redone"]
    assert {row["kind"] for row in trial.alerts()} >= {"near", "liquidatable", "bad debt", "large position", "undone"}
    trial.check()
    assert trial.counts["late"]


def test_blocks_that_somebody_else_fetched(trial: Trial) -> None:
    """While nobody followed, a plain fetch took final blocks into the lake: their alerts come all the same."""
    trial.start()
    trial.grow(5)
    trial.step()
    trial.reorganise(3)  # what was said of these blocks is undone at the next start
    trial.stop()
    trial.grow(40)
    with Rpc(trial.node.url, workers=4) as rpc:
        last = trial.node.height - 20
        fetch(Lake(trial.path), trial.config, rpc, from_block=trial.first, to_block=last, finality=20, headers="all")
    trial.start()
    trial.finish()
    trial.check()


def test_deeper_than_final_is_named(trial: Trial) -> None:
    """A final block that is gone is told, and the lake stays as it was."""
    follower = trial.start()
    trial.grow(5)
    trial.step()
    follower.settle(all_of_it=True)
    final, before = follower.head.branch.final.number, Lake(trial.path).digest(NAME)
    trial.reorganise(trial.node.height - final + 3)
    trial.grow(1)
    with pytest.raises(Undone, match=f"at or below block {final}, which counted as final.*--again"):
        trial.step()
    trial.stop()
    assert Lake(trial.path).digest(NAME) == before


def test_near_at_the_head_is_near_in_a_later_lake(trial: Trial) -> None:
    """The head, read into memory above a lake that stays as it is, against the same block once it is fetched."""
    trial.start()
    lake = Lake(trial.path)
    trial.grow(60)
    with Rpc(trial.node.url, workers=4) as rpc:
        head = near_at_head(lake, NAME, rpc, LIMITS.within)
    trial.finish()
    lake.refresh()
    reconstruct(lake, NAME)
    lake.refresh()
    later = near_in_lake(lake, NAME, LIMITS.within)
    assert (head.block, head.timestamp, head.accounts, head.of) == (
        later.block,
        later.timestamp,
        later.accounts,
        later.of,
    )
    assert len(head.accounts) > 3


def test_a_market_that_lists_more(trial: Trial, tmp_path: Path) -> None:
    """Assets that the lake does not know come at the head, and are used there."""
    trial.node.height = 170
    whole = Lake(tmp_path / "whole", create=True)
    with Rpc(trial.node.url, workers=4) as rpc:
        fetch(whole, trial.config, rpc, finality=0, headers="all")
    reconstruct(whole, NAME)
    whole.refresh()
    listed = whole.read("raw/aave-v3/ReserveInitialized", NAME)["block_number"].to_pylist()
    assert len(listed) > 4
    assert_head_is_as_fetched(trial.config, trial.node.url, whole, listed[2], tmp_path / "part")


def test_the_commands(trial: Trial, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``follow`` until it is told to end: alerts on standard output, the lake current; ``near`` of a block and the
    head.
    """
    trial.start()
    trial.stop()
    monkeypatch.setenv("BACKTEST_RPC", trial.node.url)
    first = trial.node.height

    def live() -> None:
        for _ in range(6):
            trial.grow(10)
            time.sleep(0.2)
        until = time.monotonic() + 60
        while time.monotonic() < until and trial.node.last_asked < trial.node.height:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    living = threading.Thread(target=live)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    living.start()
    try:
        lake = ["--lake", str(trial.path)]
        options = ["--within", "3", "--large", "20000", "--poll", "0.01", "--finality", "20"]
        assert _ended("follow", "aave-v3", "--market", NAME, *options, *lake) == 0
    finally:
        living.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    out, said = capsys.readouterr()
    alerts = [json.loads(line) for line in out.splitlines()]
    assert {alert["kind"] for alert in alerts} >= {"near", "liquidatable"}
    assert len({alert["id"] for alert in alerts}) == len(alerts) > 10
    assert f"the lake has blocks up to {first + 60 - 20}" in said
    opened = Lake(trial.path)
    assert is_current(opened, NAME)
    assert _ended("near", "--head", "--within", "3", "--as-json", *lake) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["block"] == first + 60
    assert [float(row["health"]) for row in rows] == sorted(float(row["health"]) for row in rows)
    assert _ended("near", "--within", "3", "--block", str(first), "--limit", "2", *lake) == 0
    shown = capsys.readouterr().out.splitlines()
    near = near_in_lake(opened, NAME, 300, block=first)
    assert f"block {first}" in shown[0]
    assert shown[1].startswith(f"{len(near.accounts)} are within 3 % of liquidation")
    assert shown[3].split()[0] == near.accounts[0][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--within", "100"], "--within 100; give percent"),
        (["--within", "1.001"], "--within 1.001; give percent"),
        (["--large", "0"], "--large 0; give an amount above 0"),
        (["--late", "0"], "--late 0; give seconds above 0"),
        (["--poll", "0"], "--poll 0; give 0.01 to 60 seconds"),
        (["--webhook", "http://10.1.1.1/"], "--webhook 10.1.1.1 is not this machine"),
        (["--exec", "'"], "--exec '"),
        (["--finality", "soon"], "--finality soon"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    options = ["--market", "ethereum-core", "--rpc", "http://127.0.0.1:9", "--lake", str(tmp_path / "lake")]
    assert _ended("follow", "aave-v3", *options, *words) == 2
    assert said in capsys.readouterr().err


def _ended(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)
