"""Proofs of accounts: what they show by numbers worked out by hand, and that nothing forged passes."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from trie.hexary import HexaryTrie

from backtest.cli import main
from backtest.errors import UserError
from backtest.proofs import (
    Nodes,
    Proof,
    Unproven,
    accounted,
    check,
    clock_of,
    decoded,
    encoded,
    encoded_header,
    make,
    read_header,
)
from backtest.proofs.proof import Stated
from backtest.protocols.registry import PROTOCOLS
from backtest.protocols.storage import Question, Subject, at_key, bits, in_array, signed
from backtest.units import WAD
from tests.support.made_states import (
    ALICE,
    BOB,
    COLLATERAL,
    LOAN,
    MORPHO,
    ORACLE,
    PAIR,
    TOKENS,
    UNRUNNABLE,
    MadeState,
    block,
    from_slot,
    morpho_state,
    saying,
)

OTHER = "0x" + "0e" * 20


def proof_of(state: MadeState, account: str = ALICE) -> Proof:
    header, nodes = state.made
    return make(state.subject(PAIR, account, tokens=TOKENS), header, nodes, state.view)


@cache
def proven() -> tuple[bytes, str]:
    """The file of alice's proof, and the block's hash."""
    state = morpho_state()
    return encoded(proof_of(state)), state.header.hash


def refused(data: bytes, block_hash: str) -> bool:
    try:
        check(decoded(data, "f"), block_hash)
    except (Unproven, UserError):
        return True
    return False


# -- what is right ---------------------------------------------------------------------------------------------------


def test_slots_of_mappings_and_arrays_are_those_of_the_documentation() -> None:
    """keccak256 of 64 and of 32 zero bytes, as everybody knows them."""
    assert f"{at_key(0, 0):x}" == "ad3228b676f7d3cd4284a5443f17f1962b36e491b30a40b2405849e597ba5fb5"
    assert f"{in_array(0, 0):x}" == "290decd9548b62a8d60345a988386fc84ba6bc95484008f6362f93160ef3e563"
    assert in_array(0, 3, words=2) == in_array(0, 0) + 6
    assert at_key(1, 2, 3) == at_key(at_key(1, 2), 3) != at_key(1, 3, 2)
    assert (bits(0xABCD, 4, 8), signed(2**256 - 1), signed(2**128 - 2, 128), signed(5)) == (0xBC, -1, -2, 5)


def test_the_first_header_of_ethereum_has_its_hash() -> None:
    genesis = {
        **dict.fromkeys(("parentHash", "mixHash"), "0x" + "00" * 32),
        "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
        "miner": "0x" + "00" * 20,
        "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
        **dict.fromkeys(
            ("transactionsRoot", "receiptsRoot"), "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
        ),
        "logsBloom": "0x" + "00" * 256,
        "difficulty": "0x400000000",
        "number": "0x0",
        "gasLimit": "0x1388",
        "gasUsed": "0x0",
        "timestamp": "0x0",
        "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
        "nonce": "0x0000000000000042",
    }
    found = read_header(encoded_header(genesis))
    assert found.hash == "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
    assert (found.number, found.timestamp, found.state_root[:2].hex()) == (0, 0, "d7f8")


@pytest.mark.parametrize("broken", [{"number": None}, {"number": "0x１"}, {"stateRoot": "0xzz"}, {"nonce": 5}])
def test_a_header_that_lacks_a_field_is_none(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="it has no"):
        encoded_header({**block(1, 2, bytes(32)), **broken})


@given(st.binary(max_size=200))
def test_bytes_that_are_no_header_are_refused(data: bytes) -> None:
    with pytest.raises(Unproven):
        read_header(data)


def test_a_proof_shows_the_account_that_is_there() -> None:
    """8,600 that the collateral carries over 8,000 owed, and a unit that virtual shares round up."""
    data, block_hash = proven()
    found = check(decoded(data, "f"), block_hash)
    figures = {each.name: each.value for each in found.figures or ()}
    owed = 8_000 * 10**6
    assert figures["borrow_shares"] == 8_000 * 10**12
    assert figures["borrow_assets"] in (owed, owed + 1)
    assert figures["max_borrow"] == 8_600 * 10**6
    assert figures["health_factor"] == 8_600 * 10**6 * WAD // (figures["borrow_assets"] or 0)
    assert (found.block.number, found.block.timestamp) == (1_000, 1_700_000_000)
    assert {each.what: each.value for each in found.inputs if each.view is not None} == {
        "rate of interest since the last accrual": 0,
        "price of WETH": 1_000 * 10**24,
    }
    assert found.stated == frozenset()


def test_who_holds_nothing_is_proven_to_hold_nothing() -> None:
    state = morpho_state()
    found = check(decoded(encoded(proof_of(state, OTHER)), "f"), state.header.hash)
    assert found.holdings == ()
    assert found.view is not None
    assert found.view.health is None


def test_a_price_is_what_its_code_makes_of_its_storage() -> None:
    """Through a proxy: the market's oracle passes calls on to another, which keeps the price in a word."""
    made = morpho_state()
    passing = bytes.fromhex(f"5f5f5f5f73{OTHER[2:]}5afa503d5f5f3e3d5ff3")
    codes = {**made.codes, ORACLE: passing, OTHER: from_slot(2)}
    state = MadeState({**made.storage, OTHER: {2: 900 * 10**24}}, codes=codes)
    proof = proof_of(state)
    assert proof.stated == ()
    assert len(proof.codes) == 3
    found = check(decoded(encoded(proof), "f"), state.header.hash)
    assert {each.what: each.value for each in found.inputs}["price of WETH"] == 900 * 10**24
    for code in proof.codes:
        without = msgspec.structs.replace(proof, codes=tuple(each for each in proof.codes if each != code))
        with pytest.raises(Unproven, match="the code of 0x"):
            check(without, state.header.hash)


def test_an_oracle_that_reverts_leaves_no_health() -> None:
    made = morpho_state()
    state = MadeState(made.storage, codes={**made.codes, ORACLE: saying(None)})
    found = check(decoded(encoded(proof_of(state)), "f"), state.header.hash)
    assert found.view is None
    assert found.missing


def unrunnable() -> MadeState:
    """An oracle that answers what only the moment of a call can say."""
    made = morpho_state()
    return MadeState(made.storage, views=made.views, codes={**made.codes, ORACLE: UNRUNNABLE})


# -- what is forged --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_byte_of_the_file_is_refused(data: st.DataObject) -> None:
    whole, block_hash = proven()
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    assert refused(whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :], block_hash)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_cut_file_is_refused(data: st.DataObject) -> None:
    whole, block_hash = proven()
    assert refused(whole[: data.draw(st.integers(0, len(whole) - 1))], block_hash)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_byte_of_header_or_node_is_refused_with_the_digest_mended(data: st.DataObject) -> None:
    whole, block_hash = proven()
    proof = decoded(whole, "f")
    parts = [proof.header, *proof.nodes, *proof.codes]
    count = 1 + len(proof.nodes)
    which = data.draw(st.integers(0, len(parts) - 1))
    raw = bytearray.fromhex(parts[which][2:])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    parts[which] = "0x" + raw.hex()
    changed = msgspec.structs.replace(proof, header=parts[0], nodes=tuple(sorted(parts[1:count])))
    changed = msgspec.structs.replace(changed, codes=tuple(sorted(parts[count:])))
    assert refused(encoded(changed), block_hash)


Forgery = Callable[[Proof], Proof]
FORGERIES: dict[str, Forgery] = {
    "another account": lambda proof: msgspec.structs.replace(proof, account=BOB),
    "an account without a position": lambda proof: msgspec.structs.replace(proof, account=OTHER),
    "another market id": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, parameters={"id": "0x" + "13" * 32})
    ),
    "a market id that is no word": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, parameters={"id": "12" * 40})
    ),
    "another contract": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, contracts={"morpho": OTHER})
    ),
    "no contract": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, contracts={})
    ),
    "no parameter": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, parameters={})
    ),
    "another protocol": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, protocol="aave-v3")
    ),
    "an unknown protocol": lambda proof: msgspec.structs.replace(
        proof, market=msgspec.structs.replace(proof.market, protocol="nope")
    ),
    "a node less": lambda proof: msgspec.structs.replace(proof, nodes=proof.nodes[1:]),
    "a node more": lambda proof: msgspec.structs.replace(proof, nodes=tuple(sorted([*proof.nodes, "0xc0"]))),
    "no nodes": lambda proof: msgspec.structs.replace(proof, nodes=()),
    "a view that nothing asks": lambda proof: msgspec.structs.replace(proof, stated=(Stated(ORACLE, "x()", "1"),)),
    "a view stated that was run": lambda proof: msgspec.structs.replace(
        proof, stated=(Stated(ORACLE, "price()", "1"),)
    ),
    "a code less": lambda proof: msgspec.structs.replace(proof, codes=proof.codes[1:]),
    "a code more": lambda proof: msgspec.structs.replace(proof, codes=tuple(sorted([*proof.codes, "0x00"]))),
    "another code": lambda proof: msgspec.structs.replace(proof, codes=("0x" + saying(5).hex(), *proof.codes[1:])),
    "a huge code": lambda proof: msgspec.structs.replace(proof, codes=(*proof.codes, "0xff" + "ff" * 300_000)),
    "another format": lambda proof: msgspec.structs.replace(proof, format="backtest proof 1"),
    "an address in capitals": lambda proof: msgspec.structs.replace(proof, account="0x" + "A1" * 20),
    "a header of nothing": lambda proof: msgspec.structs.replace(proof, header="0x"),
    "a huge node": lambda proof: msgspec.structs.replace(proof, nodes=(*proof.nodes, "0xff" + "ff" * 5_000)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_proof_is_refused(name: str) -> None:
    whole, block_hash = proven()
    assert refused(encoded(FORGERIES[name](decoded(whole, "f"))), block_hash)


OF_VIEWS: dict[str, Forgery] = {
    "a view less": lambda proof: msgspec.structs.replace(proof, stated=()),
    "a view more": lambda proof: msgspec.structs.replace(
        proof, stated=(*proof.stated, msgspec.structs.replace(proof.stated[0], call="x()"))
    ),
    "a view twice": lambda proof: msgspec.structs.replace(proof, stated=(*proof.stated, proof.stated[0])),
    "a view of full-width digits": lambda proof: msgspec.structs.replace(
        proof, stated=(msgspec.structs.replace(proof.stated[0], value="１"),)
    ),
    "a view below zero": lambda proof: msgspec.structs.replace(
        proof, stated=(msgspec.structs.replace(proof.stated[0], value="-1"),)
    ),
}


@pytest.mark.parametrize("name", OF_VIEWS)
def test_what_views_stated_has_its_place(name: str) -> None:
    state = unrunnable()
    assert not refused(encoded(proof_of(state)), state.header.hash)
    assert refused(encoded(OF_VIEWS[name](proof_of(state))), state.header.hash)


def test_a_proof_of_another_block_is_refused() -> None:
    whole, block_hash = proven()
    later = morpho_state(collateral=11 * WAD)
    assert later.header.hash != block_hash
    assert refused(whole, later.header.hash)
    mixed = msgspec.structs.replace(decoded(whole, "f"), header="0x" + later.made[0].hex())
    assert refused(encoded(mixed), later.header.hash)
    assert refused(encoded(mixed), block_hash)


def test_what_a_view_stated_may_be_anything_and_is_named_as_not_proven() -> None:
    state = unrunnable()
    proof, block_hash = proof_of(state), state.header.hash
    assert [each.call for each in proof.stated] == ["price()"]
    stated = tuple(
        msgspec.structs.replace(each, value="1") if each.call == "price()" else each for each in proof.stated
    )
    found = check(decoded(encoded(msgspec.structs.replace(proof, stated=stated)), "f"), block_hash)
    assert [(each.what, each.value) for each in found.inputs if each.view in found.stated] == [("price of WETH", 1)]
    assert found.view is not None
    assert found.view.health == 0


def test_names_and_decimals_of_tokens_change_no_number() -> None:
    whole, block_hash = proven()
    proof = decoded(whole, "f")
    tokens = tuple(msgspec.structs.replace(each, symbol="XX", decimals=3) for each in proof.tokens)
    found = check(decoded(encoded(msgspec.structs.replace(proof, tokens=tokens)), "f"), block_hash)
    plain = check(proof, block_hash)
    assert [each.value for each in found.figures or ()] == [each.value for each in plain.figures or ()]


# -- tries against the library that writes them ------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 40), st.integers(1, 2**256 - 1), max_size=20), st.integers(0, 60))
def test_words_of_any_storage_are_what_was_written(words: dict[int, int], asked: int) -> None:
    state = MadeState({MORPHO: {3: 1, **words}, LOAN: words, COLLATERAL: {}})
    header, nodes = state.made
    root = read_header(header).state_root
    assert nodes.word(root, LOAN, asked) == words.get(asked, 0)
    assert nodes.word(root, COLLATERAL, asked) == 0
    with pytest.raises(Unproven, match="no contract"):
        nodes.word(root, OTHER, asked)
    for used in list(nodes.used):
        few = Nodes({key: node for key, node in nodes.by_hash.items() if key != used})
        with pytest.raises(Unproven):
            _ = [few.word(root, contract, asked) for contract in (LOAN, COLLATERAL, OTHER)]


def test_an_address_without_code_is_no_contract() -> None:
    import rlp

    database: dict[bytes, bytes] = {}
    state = HexaryTrie(database)
    state.set(keccak(bytes.fromhex(OTHER[2:])), rlp.encode([1, 5, HexaryTrie.BLANK_NODE_HASH, keccak(b"")]))
    with pytest.raises(Unproven, match="no contract"):
        Nodes.of(database.values()).word(state.root_hash, OTHER, 0)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_storage_holds_an_account_is_valued_or_refused(data: st.DataObject) -> None:
    """Contracts that only look like a market's may hold anything."""
    made = morpho_state()
    words = dict(made.storage[MORPHO])
    for slot in data.draw(st.sets(st.sampled_from(sorted(words)))):
        words[slot] = data.draw(st.one_of(st.integers(0, 2**256 - 1), st.integers(0, 3)))
    price = data.draw(st.one_of(st.none(), st.integers(0, 2**256 - 1)))
    state = MadeState({MORPHO: words}, views=dict.fromkeys(made.views or {}, price))
    with contextlib.suppress(UserError, Unproven):
        accounted(state.subject(PAIR, ALICE, tokens=TOKENS), state.header, state.answer)


ROLES = ("pool", "provider", "morpho", "comptroller", "comet", "vat", "spotter", "gem", "dai")
CONTRACTS = {role: f"0x{number + 1:040x}" for number, role in enumerate(ROLES)}
PARAMETERS = {"id": "0x" + "12" * 32, "ilk": "ETH-A", "accrual": "blocks", "periods_per_year": "1", "revision": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_steps_end_whatever_they_are_told(name: str) -> None:
    """Words that make sense where they stand are among the answers, so that some of the accounts are valued."""
    config = msgspec.structs.replace(PAIR, protocol=name, contracts=CONTRACTS, parameters=PARAMETERS)
    made = morpho_state().header
    if PROTOCOLS[name].stored(morpho_state().subject(config, ALICE)) is None:
        return
    ended: Counter[str] = Counter()
    for seed in range(400):
        draw, subject = random.Random(seed), Subject(config, ALICE, clock_of(made), (LOAN,) if seed % 2 else ())
        likely = [0, 0, 1, 2, 3, 10, 2**120 + 5, 10**27, *(int(each, 16) for each in CONTRACTS.values())]
        memory: dict[object, int] = {}

        def answer(
            questions: Sequence[Question], draw: random.Random = draw, likely: list[int] = likely, memory: Any = memory
        ) -> list[int]:
            for each in questions:
                memory.setdefault(each, draw.choice(likely) if draw.random() < 0.9 else draw.getrandbits(256))
            return [memory[each] for each in questions]

        try:
            found = accounted(subject, made, answer)
            ended["valued" if found.figures is not None else "without a price"] += 1
        except UserError:
            ended["refused"] += 1
        except Unproven:
            ended["without end"] += 1
    assert ended["valued"], ended
    assert sum(ended.values()) == 400


def test_a_protocol_that_names_no_slots_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    state = morpho_state()
    monkeypatch.setattr(type(PROTOCOLS["morpho-blue"]), "stored", lambda self, subject: None)
    with pytest.raises(UserError, match="'morpho-blue' names no storage slots of its state"):
        accounted(state.subject(PAIR, ALICE), state.header, state.answer)


# -- the command line --------------------------------------------------------------------------------------------------


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alice.proof"
    path.write_bytes(proven()[0])
    return path


def test_verify_prints_the_numbers_and_what_they_rest_on(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", str(file), "--block-hash", proven()[1].upper().replace("0X", "0x")) == 0
    said = capsys.readouterr().out
    assert f"{ALICE}: market weth-usdc (morpho-blue), block 1000, 2023-11-14 22:13:20 UTC (1700000000)" in said
    assert "health 1.07" in said
    assert "is proven:\n    rate of interest" in said
    assert "not proven" not in said
    assert f"price of WETH = {1_000 * 10**24}: {ORACLE}, the source that the market names" in said
    assert "proven by storage:\n    position: shares lent and borrowed, collateral" in said
    assert said.endswith("the proof holds; compare its contracts: no market that ships has its name\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--block-hash", "0x" + "11" * 32], 1, "is refused: it is a proof of block"),
        (["--block-hash", "0x" + "1１" * 32], 2, "is no hash; give 0x and 64 hex digits"),
        (
            ["--block-hash", "HASH", "--market", "morpho-wsteth-usdc"],
            1,
            "than the morpho-wsteth-usdc that --market names",
        ),
        (["--block-hash", "HASH", "--market", "nope"], 2, "nope"),
        ([], 2, "block-hash"),
    ],
    ids=["other-hash", "no-hash", "other-market", "unknown-market", "hash-left-out"],
)
def test_verify_refuses(file: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    given_words = [proven()[1] if word == "HASH" else word for word in words]
    assert run("verify", str(file), *given_words) == code
    out, err = capsys.readouterr()
    assert said in out + err
    assert "health" not in out


def test_a_file_that_takes_the_name_of_a_market_that_ships_is_held_against_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = decoded(proven()[0], "f")
    named = msgspec.structs.replace(proof, market=msgspec.structs.replace(proof.market, name="morpho-wsteth-usdc"))
    path = tmp_path / "named.proof"
    path.write_bytes(encoded(named))
    assert run("verify", str(path), "--block-hash", proven()[1]) == 1
    assert "than the morpho-wsteth-usdc that ships: contracts differ" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"{" * 5_000, b'{"format": "backtest proof 2"}'])
def test_files_that_are_no_proofs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "odd.proof"
    path.write_bytes(content)
    assert run("verify", str(path), "--block-hash", "0x" + "11" * 32) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"backtest: {path}")
    assert said.count("\n") == 1


def test_a_file_with_room_for_a_second_spelling_is_refused(file: Path) -> None:
    """One content has one spelling, so that no byte of the file is without meaning."""
    value = json.loads(file.read_bytes())
    for data in (json.dumps(value).encode(), file.read_bytes() + b"\n", b"\xef\xbb\xbf" + file.read_bytes()):
        assert refused(data, proven()[1])
