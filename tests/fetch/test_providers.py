"""Several providers in front of a real node, each in its own way slow, dead or lying: the lake ends equal to one of an
honest node, who lied is named, and where nothing can settle a contradiction the fetch ends in one line.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from typing_extensions import override

from backtest.errors import FetchError
from backtest.fetch import fetch
from backtest.fetch import logs as logs_module
from backtest.fetch.adapters import selector
from backtest.fetch.context import Silent
from backtest.fetch.member import Member, members_of
from backtest.fetch.providers import Providers, ProviderSettings
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from tests.chain.node import Node
from tests.support import faults as f
from tests.support.fetching import run
from tests.support.played_chain import played_chain
from tests.support.synthetic import Chain, ChainNode, Vaults, made_up_chain, market

pytestmark = pytest.mark.slow

LIMIT = f.range_limit(10, -32000, "block range is too wide")


@pytest.fixture(scope="module")
def node(chain_packages: None) -> Iterator[Node]:
    with played_chain() as (node, _):
        yield node


@pytest.fixture(scope="module")
def good(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    lake = Lake(tmp_path_factory.mktemp("good"), create=True)
    run(lake, node.url, headers="all")
    return lake.digest("made-up")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@contextmanager
def proxies(node: Node, *plans: f.Plan) -> Iterator[list[f.FaultProxy]]:
    with ExitStack() as stack:
        yield [stack.enter_context(f.FaultProxy(node.url, plan)) for plan in plans]


def named(*pairs: tuple[str, f.FaultProxy], compare: float = 1.0, distrusted: str = "") -> Providers:
    """Providers "a", "b" and so on; those whose letters are in ``distrusted`` are not trusted."""
    return Providers(
        [ProviderSettings(proxy.url, name=name, trusted=name not in distrusted) for name, proxy in pairs], compare
    )


def results(change: Callable[[str, Any, random.Random], Any], *methods: str) -> f.Fault:
    """Other results of these methods, alone or in batches."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if not any(f'"{method}"'.encode() in body for method in methods):
            return None
        status, headers, data = forward(body)
        requests, replies = json.loads(body), json.loads(data)
        asked = {one["id"]: one for one in (requests if isinstance(requests, list) else [requests])}
        for reply in replies if isinstance(replies, list) else [replies]:
            one = asked[reply["id"]]
            if one["method"] in methods and "result" in reply:
                reply["result"] = change(json.dumps(one["params"]), reply["result"], draw)
        return status, headers, json.dumps(replies).encode()

    return fault


def other_amounts(params: str, logs: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    """Amounts of deposits one higher: nothing but another provider tells."""
    return [
        {**log, "data": f"0x{int(log['data'][2:66], 16) + 1:064x}{log['data'][66:]}"}
        if len(log["data"]) == 194
        else log
        for log in logs
    ]


def fewer(params: str, logs: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    return logs[1:]


def later(params: str, header: Any, draw: random.Random) -> Any:
    """Times of headers one later, under the same hash."""
    return (
        {**header, "timestamp": hex(int(header["timestamp"], 16) + 1)} if "latest" not in params and header else header
    )


vaults = cast(Callable[[], Any], Vaults)

FALSE_LOGS = {"amounts": other_amounts, "fewer": fewer}
HEADERS = ("eth_getBlockByNumber", "eth_getHeaderByNumber")


def said_of(lake: Lake) -> str:
    return Lake(lake.path).provenance("made-up")["providers"]


# -- lies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distrusted", ["", "b"], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("lie", [*FALSE_LOGS, "times"])
def test_a_liar_is_told_by_the_header_named_and_asked_no_more(
    node: Node, lake: Lake, good: str, lie: str, distrusted: str
) -> None:
    """One against one: no majority could say who is right."""
    fault = results(later, *HEADERS) if lie == "times" else results(FALSE_LOGS[lie], "eth_getLogs")
    with proxies(node, f.Plan(always=[LIMIT]), f.Plan(always=[LIMIT, fault])) as (honest, liar):
        summary = run(lake, named(("a", honest), ("b", liar), distrusted=distrusted), headers="all")
        after = liar.requests
        run(lake, honest.url)
    assert lake.digest("made-up") == good
    (line,) = [note for note in summary.notes if "lied about" in note]
    assert line.startswith("b lied about eth_get")
    assert "b" + " (not trusted)" * bool(distrusted) + ":" in said_of(lake)
    assert "was found lying" in said_of(lake)
    assert liar.requests == after
    assert summary.requests.compared > 0


@pytest.mark.parametrize("receipts", [True, False], ids=["of blocks", "one by one"])
def test_two_liars_that_agree_lose_against_the_header(node: Node, lake: Lake, good: str, receipts: bool) -> None:
    def none(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        hidden = not receipts and b"eth_getBlockReceipts" in body
        return f.error_reply(body, -32601, "the method does not exist") if hidden else None

    false = results(fewer, "eth_getLogs")
    plans = [f.Plan(always=[LIMIT, none, *lies]) for lies in ([], [false], [false])]
    with proxies(node, *plans) as (honest, one, two):
        summary = run(lake, named(("a", honest), ("b", one), ("c", two)), headers="all")
    assert lake.digest("made-up") == good
    assert {note.split()[0] for note in summary.notes if "lied about" in note} == {"b", "c"}


def test_what_no_header_settles_and_no_trusted_one_says_ends_in_one_line(node: Node, lake: Lake) -> None:
    """A symbol is in no header, and two that are not trusted do not outvote one that is."""
    symbol = selector("symbol()")
    false = results(
        lambda params, found, draw: "0x" + b"FALSE".hex().ljust(64, "0") if symbol in params else found, "eth_call"
    )
    with (
        proxies(node, f.Plan(), f.Plan(always=[false]), f.Plan(always=[false])) as (honest, one, two),
        pytest.raises(
            FetchError, match=r"contradict each other about eth_call\(0x\w{40}.*settles it: b and c against a;"
        ),
    ):
        run(lake, named(("a", honest), ("b", one), ("c", two), distrusted="bc"))
    lake.refresh()
    assert "raw/chain/Token" not in lake.datasets("made-up")


def test_a_third_provider_settles_what_no_header_does(node: Node, lake: Lake, good: str) -> None:
    """Whoever is faster: the honest ones say no symbol before the liar has."""
    symbol, told = selector("symbol()"), threading.Event()

    def false(params: str, found: Any, draw: random.Random) -> Any:
        if symbol not in params:
            return found
        told.set()
        return "0x" + b"FALSE".hex().ljust(64, "0")

    def later(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if symbol.encode() in body:
            told.wait(30)
        return None

    lies = f.Plan(always=[results(false, "eth_call")])
    with proxies(node, lies, f.Plan(always=[later]), f.Plan(always=[later])) as (liar, one, two):
        summary = run(lake, named(("a", liar), ("b", one), ("c", two)), headers="all")
    assert lake.digest("made-up") == good
    assert [note for note in summary.notes if note.startswith("a lied about eth_call")]


class _HalfStored(Silent):
    """Told of a fetch: calls ``then`` whenever blocks up to ``half`` of a stage are stored."""

    def __init__(self, half: int, then: Callable[[], None]) -> None:
        self._half, self._then = half, then
        self._done = 0

    @override
    def begin(self, what: str, total: int) -> None:
        self._done = 0

    @override
    def advance(self, units: int, logs: int = 0) -> None:
        self._done += units
        if self._done >= self._half:
            self._then()


def test_what_was_believed_of_a_liar_is_taken_anew(
    node: Node, lake: Lake, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compared until half of it is stored; then the lie shows, and what was stored of it is replaced.

    Whoever is faster: before that half is stored, the honest one answers no range, and the liar tells no lie about the
    other half, so that lies are stored before anything is compared, and lies are told after.
    """
    monkeypatch.setattr(logs_module, "COMMIT_ROWS", 10)
    half = node.block_number // 2
    stored = threading.Event()
    told: set[int] = set()

    def first_block(body: bytes) -> int | None:
        request = json.loads(body)
        question = request["params"][0] if isinstance(request, dict) and request["method"] == "eth_getLogs" else {}
        return int(question["fromBlock"], 16) if "fromBlock" in question else None

    def late(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        waits = first_block(body) is not None and not stored.is_set()
        return f.server_error(body, forward, draw) if waits else None

    def lies(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        first = first_block(body)
        reply = results(other_amounts, "eth_getLogs")(body, forward, draw)
        if first is not None and reply is not None and json.loads(reply[2]) != json.loads(forward(body)[2]):
            if first > half:
                stored.wait(60)
            told.add(first)
        return reply

    with (
        proxies(node, f.Plan(always=[LIMIT, late]), f.Plan(always=[LIMIT, lies])) as (honest, liar),
        Rpc(named(("a", honest), ("b", liar), compare=0.0), backoff=0.001, max_backoff=0.02, workers=2) as rpc,
    ):

        def compare() -> None:
            if told:
                rpc.witnesses.compare = 1.0
                stored.set()

        try:
            summary = fetch(
                lake, market(), rpc, finality=0, protocol=vaults(), headers="all", progress=_HalfStored(half, compare)
            )
        finally:
            stored.set()
    assert lake.digest("made-up") == good
    assert min(told) <= half < max(told)
    assert summary.requests.rechecked > 0
    false = [note for note in summary.notes if "had said something false" in note]
    replaced = [re.search(r"are fetched again, ([\d,]+) rows of the lake are replaced", note) for note in false]
    assert any(found and found[1] != "0" for found in replaced), (summary.notes, summary.providers)


def test_a_reply_that_contradicts_itself_makes_all_be_compared(node: Node, lake: Lake, good: str) -> None:
    """Nothing is compared, but the fetch's own checks notice a log that nobody asked for: it ends well all the same."""
    odd = results(lambda params, logs, draw: [{**log, "address": "0x" + "12" * 20} for log in logs], "eth_getLogs")
    with proxies(node, f.Plan(always=[LIMIT]), f.Plan(always=[LIMIT, odd])) as (honest, liar):
        summary = run(lake, named(("a", honest), ("b", liar), compare=0.0), headers="all")
    assert lake.digest("made-up") == good
    assert [note for note in summary.notes if note.startswith("b lied about eth_getLogs")]


def test_nothing_counts_that_nobody_confirms_of_one_that_is_not_trusted(node: Node, lake: Lake) -> None:
    gone = f.Plan(always=[f.dropped])
    with (
        proxies(node, f.Plan(), gone) as (one, two),
        pytest.raises(FetchError, match=r"a is not trusted, and no other provider confirms what it says of eth_get"),
    ):
        run(lake, named(("a", one), ("b", two), distrusted="ab"), attempts=2)


# -- slow, dead, limited -----------------------------------------------------------------------------------------------


def test_slow_lying_and_dead_ones_change_roles_in_the_middle(node: Node, lake: Lake, good: str) -> None:
    """Every few answers whoever was dead comes back and another one dies: hung up on, or in silence."""
    over = threading.Event()
    answered = 0

    def silent(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        over.wait(30)
        return 0, {}, b""

    def slow(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        nonlocal answered
        answered += 1
        time.sleep(0.02)
        return forward(body)

    def role(own: int) -> f.Fault:
        def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
            if own == 1:
                return results(other_amounts, "eth_getLogs")(body, forward, draw)
            turn = min(answered // 25, 4)
            dead = (f.dropped, silent)[turn // 2 % 2]
            return (slow, dead)[(own // 2 + turn) % 2](body, forward, draw)

        return fault

    try:
        with proxies(node, *(f.Plan(always=[LIMIT, role(own)]) for own in range(3))) as (one, liar, two):
            providers = named(("a", one), ("b", liar), ("c", two), compare=0.5)
            # However busy the machine is: whoever lives may be taken for dead for a while, and tries are short.
            summary = run(lake, providers, headers="all", workers=2, attempts=1_000)
            over.set()
    finally:
        over.set()
    assert lake.digest("made-up") == good
    assert [note for note in summary.notes if note.startswith("b lied about eth_getLogs")]
    assert answered > 90


def test_a_silent_provider_is_left_before_its_time_is_up(node: Node, lake: Lake, good: str) -> None:
    """One try and a long timeout: without the other one, the fetch would end in an error. That one gives no logs before
    the first one has been asked for some and is silent, so that something waits for it.
    """
    over, died = threading.Event(), threading.Event()

    def silent(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b"eth_getLogs" in body:
            died.set()
        return (0, {}, b"") if died.is_set() and over.wait(60) else None

    def later(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b"eth_getLogs" in body:
            died.wait(30)
        return None

    try:
        with proxies(node, f.Plan(always=[LIMIT, later]), f.Plan(always=[silent])) as (honest, dying):
            summary = run(
                lake, named(("a", honest), ("b", dying), compare=0.0), headers="all", attempts=1, timeout=60.0
            )
            over.set()
    finally:
        over.set()
    assert lake.digest("made-up") == good
    assert died.is_set()
    assert summary.requests.retries > 0


def test_work_goes_where_it_is_done_sooner(node: Node, lake: Lake, good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both answer at once; the clock by which one is found a hundred times as slow as the other is the test's."""
    measured = Member.timed
    monkeypatch.setattr(Member, "timed", lambda self, kind, _: measured(self, kind, {"a": 0.01, "b": 1.0}[self.name]))
    limit = f.range_limit(3, -32000, "block range is too wide")
    with proxies(node, f.Plan(always=[limit]), f.Plan(always=[limit])) as (fast, late):
        run(lake, named(("a", fast), ("b", late), compare=0.0), headers="all", workers=2)
        assert fast.requests > 2 * late.requests > 0
    assert lake.digest("made-up") == good


def test_limits_are_kept_apart(node: Node, lake: Lake, good: str) -> None:
    """One answers three blocks and batches of two, the other one is often asked too much; neither holds back the
    other's width: after each has refused what is too much for it, it is asked for about what it answers.

    Whoever is faster: neither gives logs before the narrow one has refused some, and the narrow one gives none before
    the wide one has been asked for many blocks after that.
    """
    refused, asked_wide = threading.Event(), threading.Event()
    asked: dict[str, list[tuple[str, int]]] = {"small": [], "wide": []}

    def heard(name: str) -> f.Fault:
        def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
            request = json.loads(body)
            if isinstance(request, list):
                asked[name].append(("batch", len(request)))
                return None
            if request["method"] != "eth_getLogs" or "fromBlock" not in request["params"][0]:
                return None
            first, last = (int(request["params"][0][key], 16) for key in ("fromBlock", "toBlock"))
            if name == "small" and last - first >= 3:
                refused.set()
            elif name == "small":
                asked_wide.wait(30)
            else:
                refused.wait(30)
                if 3 <= last - first < 30:
                    asked_wide.set()
            asked[name].append(("logs", last - first + 1))
            return None

        return fault

    narrow = [heard("small"), f.range_limit(3, -32614, "eth_getLogs is limited to a {most} range"), f.batch_limit(2)]
    wide_limit = f.range_limit(30, -32000, "block range is too wide")
    busy = f.Plan(always=[heard("wide"), wide_limit], sometimes=[f.too_many_requests], most=9)
    with proxies(node, f.Plan(always=narrow), busy) as (small, wide):
        run(lake, named(("a", small), ("b", wide), compare=0.0), headers="all")
    assert lake.digest("made-up") == good
    for what, narrow_most, wide_most in (("logs", 3, 30), ("batch", 2, 100)):
        sizes = {name: [size for kind, size in each if kind == what] for name, each in asked.items()}
        assert sum(size > narrow_most for size in sizes["small"]) <= 16, sizes  # as many as are in flight at once
        assert any(narrow_most < size <= wide_most for size in sizes["wide"]), sizes


def test_one_that_lags_is_not_asked_for_what_it_has_not(tmp_path: Path) -> None:
    """It would leave out the logs of blocks that it does not know, without a word."""
    chain = made_up_chain(height=200, seed=5, odd=False)
    behind = Chain(120, {block: logs for block, logs in chain.logs.items() if block <= 120})
    from tests.support.fetching import calls_of

    calm, lake = Lake(tmp_path / "calm", create=True), Lake(tmp_path / "lake", create=True)
    with ChainNode(chain, calls_of(chain)) as node, ChainNode(behind, calls_of(chain)) as late:
        run(calm, node.url, headers="all")
        providers = Providers([ProviderSettings(late.url, "late"), ProviderSettings(node.url, "ahead")], 1.0)
        summary = run(lake, providers, headers="all")
    assert lake.digest("made-up") == calm.digest("made-up")
    assert "late is 80 blocks behind the others" in summary.notes


def test_providers_of_two_chains_are_refused(node: Node, lake: Lake) -> None:
    with (
        ChainNode(Chain(50, chain_id=1)) as other,
        pytest.raises(
            FetchError, match=r"node is on chain 4242, other is on chain 1; give --rpc providers of one chain"
        ),
    ):
        run(lake, Providers([ProviderSettings(node.url, "node"), ProviderSettings(other.url, "other")]))
    assert lake.markets() == []


def test_one_that_stays_dead_is_left_for_half_a_minute_at_most() -> None:
    """However often it failed: a provider may be dead for days beside one that answers."""
    (member,) = members_of([ProviderSettings(url="http://127.0.0.1:9")], timeout=1.0, workers=1)
    for failure in range(3_000):
        before = time.monotonic()
        member.trouble()
        wait = min(30.0, 0.5 * 2 ** min(failure, 10))
        assert before + wait <= member.down_until <= time.monotonic() + wait
    member.close()


@pytest.mark.slow
def test_new_blocks_are_asked_of_the_one_that_is_left() -> None:
    """Who names a newer block has it, while the other provider is dead."""
    with (
        Node() as own,
        Rpc(Providers([ProviderSettings(own.url), ProviderSettings("http://127.0.0.1:9")]), attempts=1) as rpc,
    ):
        for _ in range(2):
            own.mine(2)
            newest = rpc.header("latest")
            assert newest is not None
            assert rpc.headers([int(newest.number, 16)]) == [newest]
