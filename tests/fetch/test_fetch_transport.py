"""A node that is slow, endless, huge or strange: the request ends at its deadline or its bound, in one line that is
safe to show. And the forms in which clients write the same facts: the lake ends the same.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backtest.cli import main
from backtest.errors import FetchError, UserError
from backtest.fetch import provider as transport
from backtest.fetch import replies
from backtest.fetch.market_files import find_market
from backtest.fetch.provider import Provider, Unanswered
from backtest.fetch.rpc import Rpc
from backtest.foreign import Unreadable
from backtest.lake import Lake
from backtest.markets import parse_market
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.synthetic import Chain, ChainNode, made_up_chain


@contextmanager
def talking(say: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and then lets ``say`` answer; its address."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        with client:
            client.recv(65_536)
            with suppress(OSError):  # the fetcher hangs up, as it should
                say(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        thread.join()
        server.close()


def drip(head: bytes, tail: bytes) -> Callable[[socket.socket], None]:
    def say(client: socket.socket) -> None:
        client.sendall(head)
        while True:
            for byte in tail:
                client.sendall(bytes([byte]))
                time.sleep(0.03)

    return say


def flood(head: bytes, body: bytes) -> Callable[[socket.socket], None]:
    def say(client: socket.socket) -> None:
        client.sendall(head)
        while True:
            client.sendall(body)

    return say


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SLOW = {
    "status line": drip(b"", b"H"),
    "headers": drip(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
    "continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": drip(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "no length": drip(HEAD + b"Connection: close\r\n\r\n", b" "),
    "nothing": lambda client: time.sleep(5),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_node_that_answers_a_byte_at_a_time_meets_the_deadline(name: str) -> None:
    with talking(SLOW[name]) as url:
        provider = Provider(url, 0.4, 1)
        with pytest.raises(Unanswered, match=r"no complete reply within 0\.4 s") as caught:
            provider.post(b"{}")
        provider.close()
    assert caught.value.kind == "timeout"


ENDLESS = {
    "body": flood(HEAD + b"Connection: close\r\n\r\n", b" " * 65_536),
    "zeros packed": flood(
        HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(bytes(8 << 20)) * 4
    ),
    "nothing packed": flood(HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(b"") * 1_000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_reply_without_end_is_bounded_as_sent_and_as_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REPLY_LIMIT", 4 << 20)
    with talking(ENDLESS[name]) as url:
        provider = Provider(url, 20.0, 1)
        with pytest.raises(Unanswered, match="a reply of more than 4 MiB") as caught:
            provider.post(b"{}")
        provider.close()
    assert caught.value.kind == "range"  # less is asked for


NO_REPLIES = {
    "deep": b"[" * 100_000,
    "deep result": b'{"result":' + b"[" * 100_000,
    "deep and closed": b'{"id":1,"result":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    "not UTF-8": b'{"id":1,"result":"\xff"}',
    "digits": b'{"id":1,"result":' + b"9" * 5_000 + b"}",
    "digits in the id": b'{"id":' + b"9" * 5_000 + b',"result":"0x1"}',
    "digits in the code": b'{"id":1,"error":{"code":' + b"9" * 5_000 + b"}}",
    "hex digits": b'{"id":1,"result":"0x' + b"f" * 5_000 + b'"}',
    "nothing": b"",
    "null": b"null",
    "NUL": b"\x00",
    "NaN": b'{"id":1,"result":NaN}',
    "a sign": b'{"id":1,"result":"0x-1"}',
    "negative": b'{"id":1,"result":-1}',
    "true": b'{"id":1,"result":true}',
}


@pytest.mark.parametrize("body", NO_REPLIES.values(), ids=NO_REPLIES)
def test_replies_that_are_none_are_one_line(body: bytes) -> None:
    def say(client: socket.socket) -> None:
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with talking(say) as url, Rpc(url, attempts=2, backoff=0.001) as rpc, pytest.raises(FetchError) as caught:
        rpc.chain_id()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


def test_what_a_node_says_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": -32000, "message": "\x1b[2J\x1b]0;gone\x07 no such thing\u202e", "data": "\x1b[31m"}
    body = json.dumps({"id": 1, "error": error}).encode()

    def say(client: socket.socket) -> None:
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with talking(say) as url, Rpc(url, attempts=1) as rpc, pytest.raises(FetchError) as caught:
        rpc.chain_id()
    assert "no such thing" in str(caught.value)
    assert str(caught.value).isprintable()
    with pytest.raises(SystemExit):
        main(["\x1b[2Jfetch"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(("options", "what"), [
    ({"timeout": float("nan")}, "a timeout of nan s"), ({"timeout": float("inf")}, "a timeout of inf s"),
    ({"timeout": 1e-9}, "a timeout of 1e-09 s"), ({"timeout": -1.0}, "a timeout of -1 s"),
    ({"workers": 0}, "0 requests in flight"), ({"workers": 10**12}, "1000000000000 requests in flight"),
])  # fmt: skip
def test_options_out_of_range(options: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        Rpc("http://127.0.0.1:1", **options)


@pytest.mark.parametrize("url", ["http://a\0b", "http://127.0.0.1:1/\n", "http://a b/", "http://127.0.0.1\x1b[2J"])
def test_addresses_with_control_characters(url: str) -> None:
    with pytest.raises(UserError, match="is not the address of a node") as caught:
        Rpc(url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("words", [
    ["--finality", "１２"], ["--finality", "9" * 5_000], ["--finality", "-1"], ["--timeout", "nan"],
    ["--timeout", "1e-9"], ["--workers", "999999999999"], ["--market", "x" * 5_000], ["--market", "/dev/zero/x.toml"],
    ["--market", "y" * 300 + ".toml"], ["----timeout", "nan"], ["--from-block", "9" * 5_000],
])  # fmt: skip
def test_flags_out_of_range(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fetch", "aave-v3", "--market", "base", "--rpc", "http://127.0.0.1:1", "--lake", str(tmp_path), *words])
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert told.count("\n") == 1
    assert told.strip().isprintable()


# -- market files ------------------------------------------------------------------------------------------------------

MARKET = 'name = "m"\nprotocol = "aave-v3"\nchain_id = 1\nstart_block = 0\ncontracts = {{}}\n{}'


@pytest.mark.parametrize(("text", "what"), [
    (MARKET.format("base_decimals = -1"), "base_decimals = -1"),
    (MARKET.format("base_decimals = 1000000"), "base_decimals = 1000000; give 0 to 77"),
    (MARKET.format("price_decimals = 99999999999999999999"), "out of range"),
    (MARKET.format("description = " + "[" * 5_000 + "]" * 5_000), "nested deeper|got `array`"),
    (MARKET.format(f"description = {'9' * 5_000}"), "5000 digits"),
    (MARKET.replace("start_block = 0", f"start_block = {1 << 62}").format(""), "start_block = 4611686018427387904"),
    (MARKET.replace('"m"', f'"{"m" * 300}"').format(""), "is not a market name"),
    (MARKET.replace('"m"', '"a/b"').format(""), "is not a market name"),
    (MARKET.replace('"m"', '"..\\\\u001b"').format(""), "is not a market name"),
    (MARKET.format('base_currency = "\\u001b[2J"'), "control characters"),
    (MARKET.replace("{{}}", '{{pool = "0x' + "ab" * 20 + '\\n"}}').format(""), "is not an address"),
], ids=range(11))  # fmt: skip
def test_market_descriptions_that_are_none(text: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        parse_market(text, "mine.toml")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("name", ["/dev/zero.toml", "/dev/zero/", "a\0.toml", "none.toml", "x" * 5_000])
def test_market_files_that_are_none(name: str) -> None:
    with pytest.raises(UserError):
        find_market(name)


def test_a_market_file_that_is_a_device(tmp_path: Path) -> None:
    (tmp_path / "m.toml").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is not a regular file"):
        find_market(str(tmp_path / "m.toml"))
    (tmp_path / "n.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UserError, match="UTF-8"):
        find_market(str(tmp_path / "n.toml"))


# -- forms ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Chain:
    return made_up_chain(height=200, seed=5)


@pytest.fixture(scope="module")
def good(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> str:
    lake = Lake(tmp_path_factory.mktemp("good"), create=True)
    with ChainNode(chain, calls_of(chain)) as node:
        run(lake, node.url)
    return lake.digest("made-up")


def rewritten(change: Callable[[Any], Any]) -> f.Fault:
    """Every reply with its results in another form."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        status, _, data = forward(body)
        reply = json.loads(data)
        for one in reply if isinstance(reply, list) else [reply]:
            if "result" in one:
                one["result"] = change(one["result"])
        return status, {}, json.dumps(reply).encode()

    return fault


def each(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """Logs and headers changed, wherever they are."""

    def apply(result: Any) -> Any:
        if isinstance(result, list):
            return [apply(one) for one in result]
        return change(result) if isinstance(result, dict) else result

    return apply


QUANTITIES = ("blockNumber", "transactionIndex", "logIndex", "number", "timestamp", "baseFeePerGas")


def capitals(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: capitals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [capitals(inner) for inner in value]
    return "0x" + value[2:].upper() if isinstance(value, str) and value.startswith("0x") else value


def integers(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: int(row[name], 16) for name in QUANTITIES if name in row}


FORMS: dict[str, Callable[[Any], Any]] = {
    "removed is null": each(lambda row: row | {"removed": None} if "removed" in row else row),
    "removed is absent": each(lambda row: {name: value for name, value in row.items() if name != "removed"}),
    "capitals": each(capitals),
    "0X": each(lambda row: json.loads(json.dumps(capitals(row)).replace('"0x', '"0X'))),
    "integers": lambda result: int(result, 16) if result in ("0x1092", "0xc8") else each(integers)(result),
    "null for no logs": lambda result: None if result == [] else result,
    "no bloom": each(lambda row: {name: value for name, value in row.items() if name != "logsBloom"}),
    "bloom is null": each(lambda row: row | {"logsBloom": None} if "logsBloom" in row else row),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_the_same_facts_end_in_the_same_lake(chain: Chain, good: str, tmp_path: Path, name: str) -> None:
    lake = Lake(tmp_path / "lake", create=True)
    plan = f.Plan(always=[rewritten(FORMS[name])])
    with ChainNode(chain, calls_of(chain)) as node, f.FaultProxy(node.url, plan) as proxy:
        summary = run(lake, proxy.url)
    assert lake.digest("made-up") == good
    assert (summary.requests.bloomless > 0) == ("bloom" in name)
    assert summary.requests.nulls == 0 or name == "null for no logs"


def test_null_for_logs_is_none_and_counted() -> None:
    assert replies.all_logs_of(b'{"id":1,"result":null}', 200) is None
    with pytest.raises(replies.BrokenReply):
        replies.all_logs_of(b'{"id":1}', 200)
    with pytest.raises(Unreadable):
        replies.quantity("0x" + "f" * 5_000)


GONE = "old data not available due to pruning"


def test_state_that_is_gone_asks_for_an_archive_node(chain: Chain, tmp_path: Path) -> None:
    def gone(method: bytes) -> f.Fault:
        return lambda body, forward, draw: f.error_reply(body, -32000, GONE) if method in body else None

    with ChainNode(chain, calls_of(chain)) as node:
        for method, fix in ((b"eth_call", "use an archive node"), (b"eth_getLogs", "use a node with full history")):
            with f.FaultProxy(node.url, f.Plan(always=[gone(method)])) as proxy, pytest.raises(FetchError, match=fix):
                run(Lake(tmp_path / method.decode(), create=True), proxy.url, attempts=2)


def test_code_that_is_no_hex_is_named(chain: Chain) -> None:
    def odd(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        return 200, {}, b'{"id":1,"result":"0xzz"}'

    with ChainNode(chain) as node, f.FaultProxy(node.url, f.Plan(always=[odd])) as proxy, Rpc(proxy.url) as rpc:
        for ask in (lambda: rpc.has_code(["0x" + "ab" * 20]), lambda: rpc.eth_calls([("0x" + "ab" * 20, "0x", 5)])):
            with pytest.raises(FetchError, match="is not hex"):
                ask()
