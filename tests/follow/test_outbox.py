"""Alerts on disk and on their way: each once, whatever is cut off, undone or done again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backtest.errors import LakeBusy, LakeError, UserError
from backtest.follow.destinations import Destination, to_command, to_webhook
from backtest.follow.limits import LIQUIDATABLE, NEAR, Happened
from backtest.follow.outbox import Outbox, Reached
from backtest.follow.state import SeenBlock
from backtest.lake import Lake
from tests.support.followed import Hook

ALICE = Happened(NEAR, "alice", {"health": "1.02"})
BOB = Happened(LIQUIDATABLE, "bob", {"health": "0.98"})


def block(number: int, branch: str = "a") -> SeenBlock:
    return SeenBlock(number, f"0x{branch}{number}", f"0x{branch}{number - 1}", 1_600_000_000 + number)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def outbox(lake: Lake) -> Outbox:
    return Outbox(lake, "market", 1)


def rows(box: Outbox) -> list[dict[str, object]]:
    return [json.loads(line) for line in box.path.read_text().splitlines()]


def test_the_same_block_again_adds_nothing(lake: Lake) -> None:
    with outbox(lake) as box:
        assert box.write(block(7), [ALICE, BOB]) == 2
        assert box.write(block(7), [ALICE, BOB]) == 0
    with outbox(lake) as box:  # another process
        assert box.write(block(7), [BOB, ALICE]) == 0
        assert box.write(block(8), [ALICE]) == 1  # in another block it happened again
        assert box.reached == Reached(8, "0xa8")
        found = [row for row in rows(box) if row["kind"] != "block"]
    assert [(row["kind"], row["who"], row["block"]) for row in found] == [
        (NEAR, "alice", 7),
        (LIQUIDATABLE, "bob", 7),
        (NEAR, "alice", 8),
    ]
    assert len({row["id"] for row in found}) == 3


def test_undone_and_done_again(lake: Lake) -> None:
    """An alert is undone once its block is replaced, and comes anew, with an id of its own, where the block is back."""
    with outbox(lake) as box:
        box.write(block(7), [ALICE])
        assert box.retract({7: "0xa7"}, Reached(6, "0xa6")) == 0
        assert box.retract({6: "0xa6"}, Reached(6, "0xa6")) == 0  # the new branch does not reach it yet
        assert box.retract({7: "0xb7"}, Reached(6, "0xa6")) == 1
        assert box.retract({7: "0xb7"}, Reached(6, "0xa6")) == 0
        assert box.reached == Reached(6, "0xa6")
    with outbox(lake) as box:
        assert box.write(block(7, "b"), [ALICE]) == 1
        assert box.retract({7: "0xa7"}, Reached(6, "0xa6")) == 1
        assert box.write(block(7), [ALICE]) == 1
        found = [row for row in rows(box) if row["kind"] != "block"]
    assert [row["kind"] for row in found] == [NEAR, "undone", NEAR, "undone", NEAR]
    assert [row.get("undoes") for row in found] == [None, found[0]["id"], None, found[2]["id"], None]
    assert len({row["id"] for row in found}) == 5


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_what_was_never_whole_is_cut_off(lake: Lake, cut: int) -> None:
    """However much of the last append came to disk, its block is looked at again from nothing."""
    with outbox(lake) as box:
        box.write(block(7), [ALICE])
        whole = box.path.stat().st_size
        box.write(block(8), [ALICE, BOB])
        path, data = box.path, box.path.read_bytes()
    path.write_bytes(data[: min(whole + cut, len(data) - 1)])
    with outbox(lake) as box:
        assert (box.path.read_bytes(), box.reached) == (data[:whole], Reached(7, "0xa7"))
        assert box.write(block(8), [ALICE, BOB]) == 2
        assert box.path.read_bytes() == data


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"kind":"near"}',
        '{"kind":"near","block":"7","block_hash":"0x"}',
        "{" * 100,
        '{"kind":"block"}',
    ],
)
def test_a_damaged_outbox_is_named(lake: Lake, line: str) -> None:
    with outbox(lake) as box:
        box.write(block(7), [ALICE])
        path = box.path
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(LakeError, match=r"outbox.jsonl, line 1: .*; restore it from a copy"):
        outbox(lake)


def test_one_follower_of_a_market_at_a_time(lake: Lake) -> None:
    with outbox(lake), pytest.raises(LakeBusy):
        outbox(lake)
    outbox(lake).close()


def test_a_destination_gets_each_alert_once(lake: Lake) -> None:
    """From where it was named on; what it could not take before, when it is back, marked as perhaps seen."""
    with Hook() as hook:
        name, send = "hook", to_webhook(hook.url)
        with outbox(lake) as box:
            box.write(block(1), [BOB])
            one = Destination(box, name, send, lambda text: None)
            box.write(block(2), [ALICE, BOB])
            assert one.close(5) == 0
        assert [(row["who"], row["block"], "again" in row) for row in hook.got] == [
            ("alice", 2, False),
            ("bob", 2, False),
        ]
        notes: list[str] = []
        hook.refuse = True
        with outbox(lake) as box:
            one = Destination(box, name, send, notes.append)
            box.write(block(3), [ALICE])
            assert one.close(0.2) == 1
        hook.refuse = False
        with outbox(lake) as box:
            assert Destination(box, name, send, notes.append).close(5) == 0
        assert notes == ["hook: the webhook answered 503; it is tried again"]
        assert [(row["who"], row["block"], "again" in row) for row in hook.got[2:]] == [("alice", 3, True)]


def test_a_command_gets_an_alert_on_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "got"
    send = to_command(f'{sys.executable} -c \'import sys; open("{path}", "a").write(sys.stdin.read())\'')
    assert send(b'{"id":"1"}\n', False) is None
    assert send(b'{"id":"2"}\n', True) is None
    assert path.read_text() == '{"id":"1"}\n{"id":"2","again":true}\n'
    failing = to_command(f"{sys.executable} -c 'import sys; sys.exit(\"no way\")'")
    assert failing(b"{}\n", False) == f"{sys.executable} ended with 1: no way"
    assert (
        to_command("/no/such/program")(b"{}\n", False)
        == "/no/such/program cannot be started: No such file or directory"
    )


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/x", "https://127.0.0.1/x", "http://example.org", "http://127.0.0.1.example.org/", "", "http://[::2]/",
     "http://127.0.0.1:99999/"],
)  # fmt: skip
def test_a_webhook_is_of_this_machine(url: str) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:PORT"):
        to_webhook(url)


@pytest.mark.slow
def test_nobody_reads_standard_output_any_more(lake: Lake, tmp_path: Path) -> None:
    """The others go on."""
    code = f"""
import sys
from backtest.follow.destinations import Destination, to_stdout
from backtest.follow.outbox import Outbox
from backtest.lake import Lake
from backtest.follow.limits import Happened
from backtest.follow.state import SeenBlock
box = Outbox(Lake({str(lake.path)!r}), "market", 1)
one = Destination(box, "out", to_stdout, lambda text: print(text, file=sys.stderr))
for number in range(5):
    box.write(SeenBlock(number, f"0x{{number}}", "0x", number), [Happened("near", "alice")])
print(one.close(0.5), file=sys.stderr)
"""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} - | head -0"], input=code, text=True, capture_output=True, check=True
    )
    assert done.stderr.splitlines()[0] == "out: nobody reads it any more"
