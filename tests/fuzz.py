"""Foreign bytes at every door: ``python -m tests.fuzz [DOOR ...] [--inputs N] [--seed S]`` prints what came of them.

A door is a function from bytes to a value and the errors that it may end in. Inputs are made from seeds that the door
accepts, by mutations that are known to hurt: flipped and doubled bytes, long digits, depth, control characters, other
encodings. Anything but a value or an allowed error, and anything that takes longer than ``SECONDS``, is a failure. An
allowed error must be one line that is safe to show.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backtest import foreign, proofs
from backtest.cli import main as command_line
from backtest.crashes import parse_crash
from backtest.errors import FetchError, UserError
from backtest.fetch import replies
from backtest.fetch.decode import topic0
from backtest.fetch.dialects import classify
from backtest.fetch.question import Question
from backtest.imports import mapping, sources
from backtest.imports.tokens import parse_tokens
from backtest.lake import manifest
from backtest.markets import parse_market
from backtest.proofs.sealed import read_statement
from backtest.resources import resource
from backtest.scenario.ensemble import parse_ensemble
from backtest.scenario.toml import parse_scenario
from backtest.sweep.spec import parse_sweep
from tests.support.made_states import ALICE, PAIR, TOKENS, morpho_state
from tests.support.synthetic import DEPOSIT, LABEL, WORD

SECONDS = 5.0
ROOT = Path(__file__).parent.parent
NODE = (replies.BrokenReply, replies.Complained)


@dataclass(frozen=True)
class Door:
    """``read`` may end in ``allowed``; ``seeds`` are accepted."""

    name: str
    read: Callable[[bytes], Any]
    allowed: tuple[type[BaseException], ...]
    seeds: Sequence[bytes]


def _text(parse: Callable[[str, str], Any]) -> Callable[[bytes], Any]:
    """A parser of text, behind the door that makes bytes text."""

    def read(data: bytes) -> Any:
        try:
            text = foreign.text(data)
        except foreign.Unreadable as error:
            raise UserError(str(error)) from None
        return parse(text, "fuzz")

    return read


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """A reader of a file of this name in a folder of its own."""

    def through(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(data)
            return read(Path(folder))

    return through


def _import(name: str) -> Callable[[bytes], Any]:
    declared = {"rows": mapping.ImportSource(files=name, columns=("a", "b"))}
    return _file(name, lambda folder: sources.read(declared, folder, {}))


def _mapping(folder: Path) -> mapping.Loaded:
    (folder / "flow.sql").write_text("SELECT 1")
    return mapping.load(str(folder))


def _flags(data: bytes) -> int:
    """Words of a command line, one a line. No verb that works for long, or writes, gets far without a lake."""
    words = data.decode("utf-8", "surrogateescape").split("\n")
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            command_line(words)
        except SystemExit as left:
            if left.code == 2:
                raise UserError(told.getvalue().removesuffix("\n")) from None
            return int(left.code or 0)
    raise AssertionError("the command line did not exit")


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), out)
    return out.getvalue()


_LOG = (
    b'{"address":"0x' + b"ab" * 20 + b'","topics":["0x' + b"cd" * 32 + b'"],"data":"0x01","blockNumber":"0x10",'
    b'"blockHash":"0x' + b"ef" * 32 + b'","transactionHash":"0x' + b"12" * 32 + b'","transactionIndex":"0x0",'
    b'"logIndex":"0x1","removed":false}'
)
_HEADER = (
    b'{"number":"0x10","hash":"0x' + b"ef" * 32 + b'","parentHash":"0x' + b"ee" * 32 + b'","timestamp":"0x5f5e100",'
    b'"logsBloom":null,"baseFeePerGas":"0x7"}'
)
_ERROR = b'{"id":0,"error":{"code":-32000,"message":"query returned more than 10000 results","data":[1]}}'


def _event(amount: int) -> bytes:
    """A reply with one deposit in a vault, which fits its event where the amount has 38 digits at most."""
    data = b"%064x%064x%064x" % (amount, 5, 1)
    topics = b'"topics":["%s","0x%064x"]' % (topic0(DEPOSIT).encode(), 9)
    log = _LOG.replace(b'"topics":["0x' + b"cd" * 32 + b'"]', topics).replace(b'"data":"0x01"', b'"data":"0x%s"' % data)
    return b'{"id":1,"result":[' + log + b"]}"


def _decoded(data: bytes) -> Any:
    """A reply to eth_getLogs through judgement and decoding."""
    question = Question({"vault": ["0x" + "ab" * 20]}, [DEPOSIT, LABEL, WORD])
    logs, _ = question.judge(replies.all_logs_of(data, 200) or [], 0, 1 << 60)
    return question.decode(logs, "vaults")


def _proven(data: bytes) -> Any:
    """A proof whose digest is mended, against the hash of its own header, as whoever forges one would have it."""
    try:
        proof: proofs.Proof = foreign.json_value(data, proofs.Proof)
        proof = proofs.decoded(proofs.encoded(proof), "fuzz")
    except foreign.Unreadable as error:
        raise UserError(str(error)) from None
    return proofs.check(proof, proofs.read_header(bytes.fromhex(proof.header[2:])).hash)


def _proof() -> bytes:
    state = morpho_state()
    header, nodes = state.made
    return proofs.encoded(proofs.make(state.subject(PAIR, ALICE, tokens=TOKENS), header, nodes, state.view))


def _commands() -> list[bytes]:
    node = ["--rpc", "http://127.0.0.1:9", "--timeout", "nan", "--lake", "/nowhere/lake"]
    return [
        "\n".join(words).encode()
        for words in (
            ["fetch", "aave-v3", "--market", "base", "--from-block", "10", "--finality", "64", *node],
            ["info", "--lake", "/nowhere/lake", "--market", "base"],
            ["sql", "SELECT 1", "--lake", "/nowhere/lake", "--memory", "500MB"],
            ["check", "--lake", "/nowhere/lake"],
            ["replay", "--lake", "/nowhere/lake", "--set", "WETH.liquidation_threshold=8000", "--gas", "constant:1"],
            ["sweep", "--lake", "/nowhere/lake", "--axis", "WETH.ltv=1:3:1"],
            ["compare", "--lake", "/nowhere/lake", "baseline"],
            ["validate", "--lake", "/nowhere/lake"],
            ["--version"],
        )
    ]


def doors() -> list[Door]:
    """Every door of the project."""
    scenario = (
        b'name = "stricter"\nfrom_block = 19_000_000\nseed = 7\n[liquidators]\nkind = "competitive"\ngas_cost = 5\n'
        b'[[overrides]]\nparameter = "liquidation_threshold"\nasset = "WETH"\nvalue = 8000\n'
    )
    ensemble = (
        b'title = "a"\nsource = "b"\n[[draw]]\nweight = 0.5\nliquidators = { kind = "participation", mean = 9000 }\n'
        b'[[draw]]\nweight = 3\nliquidators = { kind = "competitive" }\ncosts = { flash_fee = 5 }\n'
    )
    sweep = (
        b'name = "ltv"\ndesign = "sobol"\npoints = 4\n[scenario.liquidators]\nkind = "competitive"\n'
        b'[[scenario.overrides]]\nparameter = "ltv"\nasset = "ETH"\nvalue = 5000\n'
        b'[[axes]]\nfield = "overrides[0].value"\nfrom = 5000\nto = 6000\n'
    )
    mappings = [path.read_bytes() for path in sorted((resource("queries") / "import").rglob("mapping.toml"))]
    lines = b'{"a": 1.5, "b": "x"}\n{"a": 12345678901234567890, "b": null}\n'
    unreadable = (foreign.Unreadable,)
    user = (UserError,)
    return [
        Door("text", foreign.text, unreadable, [b"a line\n", "\ufeffZürich".encode()]),
        Door(
            "integer", _text(lambda text, _: foreign.integer(text)), (UserError, foreign.Unreadable), [b"12345", b"-7"]
        ),
        Door(
            "decimal",
            _text(lambda text, _: foreign.decimal(text)),
            (UserError, foreign.Unreadable),
            [b"1.50", b"-2e-18"],
        ),
        Door("any json", foreign.json_value, unreadable, [b'{"a": [1, 2.5, "x", null]}']),
        Door("exact json", foreign.exact_json, unreadable, [b'[{"a": 1.50}]', lines]),
        Door(
            "toml",
            _text(lambda text, _: foreign.toml_value(text)),
            (UserError, foreign.Unreadable),
            [b"a = 1\n[b]\nc = [1.5]\n"],
        ),
        Door("decoded", _decoded, (*NODE, FetchError), [_event(amount) for amount in (7, 1 << 200)]),
        Door("result", lambda data: replies.result_of(data, 200), NODE, [b'{"id":1,"result":"0x10"}', _ERROR]),
        Door("refusal", lambda data: replies.result_of(data, 503), NODE, [b"<html>Bad Gateway</html>", _ERROR]),
        Door(
            "logs",
            lambda data: replies.all_logs_of(data, 200),
            NODE,
            [b'{"id":1,"result":[' + _LOG + b"," + _LOG + b"]}", b'{"id":1,"result":null}', _ERROR],
        ),
        Door(
            "batch",
            lambda data: replies.batch_of(2)(data, 200),
            NODE,
            [b'[{"id":0,"result":"0x"},{"id":1,"result":null}]', _ERROR],
        ),
        Door("block logs", replies.logs_of, unreadable, [b"[" + _LOG + b"]", b"null"]),
        Door("header", replies.header_of, unreadable, [_HEADER, b"null"]),
        Door(
            "complaint",
            lambda data: classify(data.decode("utf-8", "replace"), -32000, 200),
            (),
            [b"block range is too wide (maximum 1024), try [0x1, 0x2]", b"query exceeds max results 20000, range 1-2"],
        ),
        Door(
            "market",
            _text(parse_market),
            user,
            [path.read_bytes() for path in sorted(resource("markets").glob("*.toml"))],
        ),
        Door("scenario", _text(parse_scenario), user, [scenario]),
        Door("sweep", _text(parse_sweep), user, [sweep]),
        Door("ensemble", _text(parse_ensemble), user, [ensemble]),
        Door("crash", _text(parse_crash), user, [path.read_bytes() for path in resource("crashes").glob("2021*.toml")]),
        Door("tokens", _text(parse_tokens), user, [(resource("tokens") / "8453.toml").read_bytes()]),
        Door("mapping", _file("mapping.toml", _mapping), user, mappings),
        Door(
            "manifest",
            lambda data: manifest.parse(data, "fuzz"),
            user,
            [manifest.encode(manifest.Manifest()), b'{"format":1,"version":3,"markets":{}}'],
        ),
        Door("csv", _import("x.csv"), user, [b"a,b\n1,x\n2,y\n", b'a,b\n"1","x,\n"\n']),
        Door("jsonl", _import("x.jsonl"), user, [lines]),
        Door("json", _import("x.json"), user, [b'[{"a": 1, "b": [1, {"c": 2}]}]', lines]),
        Door("parquet", _import("x.parquet"), user, [_parquet()]),
        Door("proof", _proven, (UserError, proofs.Unproven), [_proof()]),
        Door(
            "public words",
            read_statement,
            (proofs.Unproven,),
            [b'["0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "1"]'],
        ),
        Door("flags", _flags, user, _commands()),
    ]


_HURTS = (
    b"9" * 5_000, b"-" + b"9" * 400, b"[" * 3_000, b'{"a":' * 2_000, b"\xff\xfe", b"\0", b"\x1b[2J", "１２".encode(),
    "\u202e\u2028".encode(), b"1e400", b"NaN", b"-Infinity", b"null", b"true", b"\\ud800", b'"', b"'", b"\n", b"\r\n",
    b"=", b"x" * 300, b"18446744073709551616", b"9223372036854775808", b"1.0", b"-1", b"0X", b"inf", b"{}", b"[]",
    b"\xed\xa0\x80", b"../..", b"/dev/zero", b"1970-01-01T00:00:00Z", b"99999-12-31", b"a.b.c = 1\n",
)  # fmt: skip


def inputs(door: Door, count: int, seed: int) -> Iterator[bytes]:
    """``count`` inputs of a door; the same for the same seed."""
    draw = random.Random(f"{door.name} {seed}")
    for _ in range(count):
        data = draw.choice(door.seeds) if draw.random() < 0.97 else draw.randbytes(draw.randrange(200))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            data = _mutated(data, draw)
        yield data


def _mutated(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice((0, 1, 1, 4, 20, 200)))
    kind = draw.randrange(6)
    if kind == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[end:]
    if kind == 2:
        return data[:end] + data[at:end] * draw.choice((1, 2, 50)) + data[end:]
    if kind == 3:  # a value in place of another
        digits = [place for place in range(len(data)) if 48 <= data[place] <= 57]
        at = draw.choice(digits) if digits else at
        return data[:at] + draw.choice(_HURTS) + data[at + 1 :]
    return data[:at] + draw.choice(_HURTS) + data[end:]


@dataclass
class Outcome:
    """Of one door: how many inputs gave a value and an allowed error; what else came of the others, each with its
    input.
    """

    door: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[bytes, str]] = field(default_factory=dict)


class _TooSlow(BaseException):
    pass


def run(door: Door, count: int = 2_000, seed: int = 0) -> Outcome:
    """Try ``count`` inputs at a door. On the main thread only: it uses an alarm."""
    outcome = Outcome(door.name)

    def ring(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for data in inputs(door, count, seed):
            outcome.counts[_tried(door, data, outcome)] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return outcome


def _tried(door: Door, data: bytes, outcome: Outcome) -> str:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        door.read(data)
    except door.allowed as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if foreign.shown(str(error), 5_000) == str(error):
            return "refused"
        outcome.failures.setdefault(f"an error that is not safe to show: {type(error).__name__}", (data, str(error)))
        return "failed"
    except _TooSlow:
        outcome.failures.setdefault("takes too long", (data, traceback.format_exc()))
        return "failed"
    except Exception as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/backtest/" in frame.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        outcome.failures.setdefault(f"{type(error).__name__} in {place}", (data, traceback.format_exc()))
        return "failed"
    signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def main() -> int:
    """Exit code: 1 where an input came through a door as something else than a value or its one line."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("door", nargs="*")
    options.add_argument("--inputs", type=int, default=2_000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    failed = 0
    for door in doors():
        if given.door and door.name not in given.door:
            continue
        started = time.perf_counter()
        outcome = run(door, given.inputs, given.seed)
        counts = outcome.counts
        print(
            f"{door.name:<12} {given.inputs} inputs: {counts['read']} read, {counts['refused']} refused,"
            f" {counts['failed']} failed; {time.perf_counter() - started:.1f} s"
        )
        for kind, (data, _) in outcome.failures.items():
            print(f"    {foreign.shown(kind, 150)}; for example {data[:120]!r}")
        failed += counts["failed"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
