"""Providers as ``--rpc`` takes them: files that say something else than they should, rate limits, and keys, which no
line shows.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from backtest.cli import main
from backtest.errors import FetchError, UserError
from backtest.fetch.pace import Pace
from backtest.fetch.providers import COMPARED, ProviderSettings, providers_of
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.synthetic import ChainNode, made_up_chain

KEY = "s3cr3tK3yAbC123"
URL = f"https://rpc.example/v2/{KEY}"


def test_addresses_and_files_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'compare = 0.5\n[[provider]]\nurl = "{URL}"\nname = "shop"\ntrusted = false\nrate = 25\nworkers = 4\n'
    )
    found = providers_of(["http://127.0.0.1:1", str(path)])
    assert found.compare == 0.5
    assert found.settings == [
        ProviderSettings("http://127.0.0.1:1"),
        ProviderSettings(URL, name="shop", trusted=False, rate=25.0, workers=4),
    ]
    assert providers_of(["http://127.0.0.1:1"]).compare == COMPARED
    with Rpc(found) as rpc:
        assert rpc.name == "the providers (http://127.0.0.1:1, shop)"
        assert rpc.workers == 20
        assert KEY not in f"{rpc!r} {rpc.pool.members!r} {found!r} {rpc.providers()}"


WRONG = {
    "no TOML": ('url = "' + URL, r"mine\.toml: it is not TOML \(at"),
    "twice": (f'[[provider]]\nurl = "{URL}"\nurl = "{URL}"', "it is not TOML"),
    "a table twice": (f'["{URL}"]\n["{URL}"]', r"it is not TOML \(at line 2"),
    "an address for a name": (f'[[provider]]\n"{URL}" = 1', "a field of another name than those known"),
    "none": ("provider = []", "names no provider"),
    "nothing": ("", "missing required field `provider`"),
    "no address": ('[[provider]]\nname = "x"', r"missing required field `url` - at `\$\.provider\[0\]`"),
    "a word for a switch": (f'[[provider]]\nurl = "{URL}"\ntrusted = "{KEY}"', "Expected `bool`, got `str`"),
    "a key for a name": (f'[[provider]]\nurl = "{URL}"\nname = "{KEY}"', "provider 1: its name is not usable"),
    "part of a key": (f'[[provider]]\nurl = "{URL}"\nname = "my {KEY} x"', "its name is not usable"),
    "a name with a control": (f'[[provider]]\nurl = "{URL}"\nname = "a\\u001b[2J"', "its name is not usable"),
    "one name twice": (f'[[provider]]\nurl = "{URL}"\nname = "a"\n' * 2, "provider 2: a second one named 'a'"),
    "no rate": (f'[[provider]]\nurl = "{URL}"\nrate = 0.0', "rate = 0; give requests per second"),
    "not a rate": (f'[[provider]]\nurl = "{URL}"\nrate = nan', "rate = nan"),
    "no share": (f'compare = 1.5\n[[provider]]\nurl = "{URL}"', "compare = 1.5; give a share between 0 and 1"),
    "digits": ("compare = " + "9" * 5_000, "digits"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_files_that_say_something_else(name: str, tmp_path: Path) -> None:
    text, what = WRONG[name]
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError, match=what) as caught:
        providers_of([str(tmp_path / "mine.toml")])
    assert KEY not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("word", ["/dev/zero.toml", "none.toml", "a\0.toml", f"ftp://{KEY}", KEY, f"http://{KEY}:x/"])
def test_words_that_are_no_provider(word: str) -> None:
    with pytest.raises(UserError) as caught:
        Rpc(providers_of([word]))
    assert KEY not in str(caught.value)


def test_one_given_twice_cannot_confirm_itself() -> None:
    with pytest.raises(UserError, match=r"https://rpc\.example/\*\*\* is given twice"):
        Rpc(providers_of([URL, URL]))


def test_workers_out_of_range(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'[[provider]]\nurl = "{URL}"\nworkers = 0')
    with pytest.raises(UserError, match="0 requests in flight"):
        Rpc(providers_of([str(tmp_path / "mine.toml")]))


def test_a_rate_spaces_requests_and_no_more_than_it_says() -> None:
    pace = Pace(8, rate=100.0)
    started = time.monotonic()
    for _ in range(11):
        pace.enter()
        pace.leave(True)
    assert time.monotonic() - started >= 0.09  # ten spaces of which one may be caught up; a bound from below


def test_keys_appear_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One echoes its key in errors, one lies: names alone are in notes, lake and errors; help shows no environment."""
    monkeypatch.setenv("BACKTEST_RPC", f"{URL} {URL}2")
    with pytest.raises(SystemExit):
        main(["fetch", "--help"])
    assert KEY not in "".join(capsys.readouterr())
    chain = made_up_chain(height=60, seed=5, odd=False)
    lake = Lake(tmp_path / "lake", create=True)
    echo = f.Plan(always=[lambda body, forward, draw: f.error_reply(body, -32000, f"unauthorized: {KEY} of /v3/{KEY}")])
    with ChainNode(chain, calls_of(chain)) as node, f.FaultProxy(node.url, echo) as proxy:
        summary = run(lake, providers_of([f"{node.url}/v3/{KEY}", f"{proxy.url}/v3/{KEY}"]))
    assert any("refuses: unauthorized: ***" in note for note in summary.notes)
    assert KEY not in str(summary)
    assert not [
        path for path in Path(str(lake.path)).rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    with pytest.raises(FetchError) as caught:
        run(
            Lake(tmp_path / "other", create=True),
            providers_of([f"http://127.0.0.1:1/{KEY}", f"http://127.0.0.1:2/{KEY}"]),
            attempts=1,
        )
    assert "http://127.0.0.1:1/***" in str(caught.value)
    assert "stored" not in str(caught.value)  # not every verb that asks a node stores something
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["fetch", "aave-v3", "--market", "base", "--lake", "x"],
        ["facts", "--market", "base", "--out", "x.toml"],
        ["crash", "2025-10-10", "--market", "gnosis", "--lake", "x"],
    ],
    ids=lambda words: words[0],
)
def test_every_verb_takes_several(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([*words, "--rpc", "http://127.0.0.1:1", "--rpc", "nonsense"])
    assert caught.value.code == 2
    assert "'***' is not the address of a node" in capsys.readouterr().err


def test_a_path_that_is_no_file_of_providers_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands on the disk is no secret; what does not may be an address that lacks its scheme."""
    monkeypatch.chdir(tmp_path)
    Path("nodes").mkdir()
    Path("nodes.json").write_text("{}")
    for word, said in (
        ("nodes", "--rpc nodes is a folder; give the address of a node (http://...), or a TOML file of providers"),
        ("nodes.json", "--rpc nodes.json is a file that does not end in .toml"),
        (f"node.example/{KEY}", "'***' is not the address of a node"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["facts", "--market", "base", "--out", "x.toml", "--rpc", word])
        assert caught.value.code == 2
        found = capsys.readouterr().err
        assert said in found
        assert KEY not in found
