"""The fault campaign with a fixed budget; ``python -m tests.campaign`` prints the table of a longer one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from backtest.errors import LakeError
from backtest.lake import Lake, storage
from tests.campaign import FailingOs, campaign


@pytest.mark.slow
def test_a_campaign_of_faults_leaves_no_wrong_lake() -> None:
    """Every kind once at least: transport, content, order, lies, oracles, kills, disk."""
    table = campaign(150, seed=2)
    assert {kind: counts["wrong"] for kind, counts in table.items() if counts["wrong"]} == {}
    assert sum(counts["tried"] for counts in table.values()) >= 150
    assert {kind.split(":")[0].split(" ")[0] for kind in table} == {
        "transport", "content", "order", "lies", "oracle", "kills", "disk"
    }  # fmt: skip
    kills = table["kills: SIGKILL"]
    assert kills["equal"] == kills["tried"], "an interrupted fetch that goes on needs no remedy"


@pytest.mark.parametrize("call", range(8))
def test_a_disk_that_fails_at_any_call_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Syncing a folder among them, which comes after the write."""
    lake = Lake(tmp_path / "lake", create=True)
    failing = FailingOs(call, errno.EIO)
    with monkeypatch.context() as disk:
        disk.setattr(storage, "os", failing)
        with pytest.raises(LakeError, match=r"Input/output error.*run again"):
            _write_four_times(lake)
    assert failing.failed
    with Lake(lake.path).writer() as writer:
        writer.set_provenance("m", {"last": "1"})
    assert Lake(lake.path).provenance("m")["last"] == "1"


def _write_four_times(lake: Lake) -> None:
    with lake.writer() as writer:
        for number in range(4):
            writer.set_provenance("m", {"fact": str(number)})
