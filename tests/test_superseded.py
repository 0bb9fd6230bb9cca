"""Results made from blocks that were fetched again and came out otherwise are named wherever they are shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from backtest.cli import main
from backtest.lake import Lake, checks, superseded
from backtest.report import write_report
from backtest.resources import resource
from backtest.results import run
from backtest.runs import stored
from backtest.scenario import Competitive, Scenario
from tests.support import faults as f
from tests.support.fetching import calls_of
from tests.support.fetching import run as fetch
from tests.support.made_up_runs import MARKET, make_lake
from tests.support.synthetic import ChainNode, made_up_chain

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

CRASH = "sample-crash"


def finding(lake: Lake) -> checks.Finding:
    return next(found for found in checks.run(lake) if found.check == "results__of_current_data")


def test_results_of_blocks_that_came_out_otherwise_are_noted_by_fetch(tmp_path: Path) -> None:
    chain = made_up_chain(height=80, per_block=2.0, seed=3, odd=False)
    lake = Lake(tmp_path / "lake", create=True)
    block, log = next((b, log) for b, own in sorted(chain.logs.items()) for log in own if len(log.data) == 192)

    def false(body: bytes, forward: f.Forward, draw: object) -> f.Response | None:
        status, headers, data = forward(body)
        return status, headers, data.replace(log.data.encode(), (log.data[:-2] + "ff").encode())

    with ChainNode(chain, calls_of(chain)) as node:
        with f.FaultProxy(node.url, f.Plan(always=[false])) as proxy:
            fetch(lake, proxy.url)
        some = make_lake(tmp_path / "runs").read("results/runs", MARKET)
        row = some.to_pylist()[0] | {"market": "made-up", "lake_digest": lake.digest("made-up")}
        with lake.writer() as writer:
            writer.append("made-up", "results/runs", pa.Table.from_pylist([row], some.schema))
        fetch(lake, node.url, again=(block, block))
        (noted,) = superseded.rows(lake, "made-up")
        assert noted[2] == f"blocks {block} to {block}"
        fetch(lake, node.url, again=(block, block))  # the same again supersedes nothing
        assert superseded.rows(lake, "made-up") == [noted]
        assert [found.superseded for found in stored(lake)] == [noted[2]]
        found = finding(lake)
        assert found.violations == 1
        assert f"superseded blocks {block} to {block}" in found.examples[0]


def test_they_are_named_in_lists_reports_and_by_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    old = run(lake, CRASH, Scenario(name="old", liquidators=Competitive())).run_id
    assert finding(lake).violations == 0
    with lake.writer() as writer:
        superseded.note(lake, writer, CRASH, 5, 9)
    assert finding(lake).violations == 0, "made from what the lake holds now"
    with lake.writer() as writer:
        table = lake.read("raw/chain/Token", CRASH)
        writer.replace(CRASH, "raw/chain/Token", [("raw/chain/Token", table.slice(1))], stamp="")
    assert finding(lake).violations == 1
    assert [found.superseded for found in stored(lake, CRASH)] == ["blocks 5 to 9"]
    with pytest.raises(SystemExit):
        main(["runs", "list", "--lake", str(lake.path)])
    assert f"run {old[:12]} was made before blocks 5 to 9 were fetched again" in capsys.readouterr().out
    write_report(lake, [old], tmp_path / "page.html")
    assert "superseded data: blocks 5 to 9" in (tmp_path / "page.html").read_text()
