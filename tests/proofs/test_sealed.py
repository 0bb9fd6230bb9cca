"""Statements about accounts that do not show their amounts: what they are, their circuit against plain integers, and
proofs of them, checked by the prover's own verifier and by the exported contract on the local node.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest import prover
from backtest.cli import main
from backtest.errors import UserError
from backtest.proofs import Unproven, check, encoded, make, mimc
from backtest.proofs.circuit import Circuit
from backtest.proofs.sealed import (
    FIELDS,
    Sealed,
    Secrets,
    Statement,
    blank_circuit,
    circuit_of,
    commitment_of,
    read_statement,
    sealed,
)
from backtest.units import WAD
from tests.chain.contracts import ChainUnavailable, compile_sources
from tests.chain.node import Node, RpcError
from tests.support.made_states import ALICE, BOB, COLLATERAL, LOAN, PAIR, TOKENS, MadeState, morpho_state
from tests.zk.prover import installed, keys

SALT = 0x5EC2E7


def _file(state: MadeState, path: Path) -> tuple[Path, str]:
    """The proof of alice's account, and the block's hash."""
    header, nodes = state.made
    path.write_bytes(encoded(make(state.subject(PAIR, ALICE, tokens=TOKENS), header, nodes, state.view)))
    return path, state.header.hash


def _sealed(state: MadeState, account: str = ALICE) -> Sealed:
    header, nodes = state.made
    found = check(make(state.subject(PAIR, account, tokens=TOKENS), header, nodes, state.view), state.header.hash)
    return sealed(found, SALT)


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_the_hash_is_one_of_its_arguments_in_order() -> None:
    assert len({mimc.digest(values) for values in ((), (1,), (1, 2), (2, 1), (0, 1, 2), (1, 2, 0))}) == 6
    assert mimc.digest([5]) == (5 + pow_by_hand(0, 5)) % mimc.FIELD
    first = mimc.digest([5])
    assert mimc.digest([5, 7]) == (first + 7 + pow_by_hand(first, 7)) % mimc.FIELD


def pow_by_hand(key: int, value: int) -> int:
    """The cipher by Python's own powers."""
    for constant in mimc.CONSTANTS:
        value = pow(value + key + constant, 7, mimc.FIELD)
    return (value + key) % mimc.FIELD


def test_a_statement_has_prices_and_thresholds_and_no_amounts() -> None:
    """8,600 carried over 8,000 owed at a thousand; 6,880 at eight hundred."""
    safe, short = _sealed(morpho_state()).statement, _sealed(morpho_state(price=800 * 10**24)).statement
    assert (safe.liquidatable, short.liquidatable) == (False, True)
    assert safe.commitment == short.commitment
    places = sorted([LOAN, COLLATERAL])
    at = places.index(COLLATERAL)
    assert safe.price[at] == 1_000 * 10**24
    assert safe.threshold[at] == 86 * WAD // 100
    assert read_statement(prover.public_json(safe.words()).encode()) == safe
    assert _sealed(morpho_state(collateral=11 * WAD)).statement.commitment != safe.commitment


def test_another_salt_account_or_block_is_another_commitment() -> None:
    amounts = (10, 0, 0), (0, 5, 0)
    assert len({commitment_of(salt, who, at, *amounts) for salt in (1, 2) for who in (3, 4) for at in (7, 8)}) == 8


@given(
    st.binary(max_size=400)
    | st.lists(st.text(max_size=4) | st.integers(), max_size=FIELDS + 1).map(lambda found: json.dumps(found).encode())
)
def test_other_bytes_are_no_statement(data: bytes) -> None:
    with pytest.raises(Unproven):
        read_statement(data)


@pytest.mark.parametrize("word", [str(mimc.FIELD), "-1", "2", "1.0", "０", 1, None])
def test_words_that_are_no_verdict_are_no_statement(word: object) -> None:
    words: list[object] = ["0"] * (FIELDS - 1)
    assert read_statement(json.dumps([*words, "1"]).encode()).liquidatable
    with pytest.raises(Unproven, match=f"not the {FIELDS} public words"):
        read_statement(json.dumps([*words, word]).encode())


def test_numbers_that_the_circuit_does_not_hold_are_refused() -> None:
    with pytest.raises(UserError, match="more than 96 bits"):
        _sealed(morpho_state(collateral=1 << 97))
    with pytest.raises(UserError, match="more than 152 bits"):
        _sealed(morpho_state(collateral=1, price=1 << 153))


# -- the circuit -----------------------------------------------------------------------------------------------------

SMALL = st.integers(0, 3) | st.integers(0, 1 << 96) | st.sampled_from([(1 << 96) - 1, 1 << 96])
PRICE = st.integers(0, 3) | st.integers(0, 1 << 152) | st.sampled_from([(1 << 152) - 1, 1 << 152])
WEIGHT = st.integers(0, WAD) | st.sampled_from([(1 << 64) - 1, 1 << 64])


def _three(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(numbers, numbers, numbers)


def _truth(said: Statement, of: Secrets) -> bool:
    """What the circuit is to say, in plain integers."""
    if max(*of.collateral, *of.debt, *of.worth, *of.owed) >> 96 or max(*said.price, *said.unit) >> 152:
        return False
    if max(said.threshold) >> 64 or min(said.unit) == 0 or of.account >> 160 or of.block >> 64:
        return False
    if of.worth != tuple(a * b // c for a, b, c in zip(of.collateral, said.price, said.unit, strict=True)):
        return False
    if of.owed != tuple(-(-a * b // c) for a, b, c in zip(of.debt, said.price, said.unit, strict=True)):
        return False
    if said.commitment != commitment_of(of.salt, of.account, of.block, of.collateral, of.debt):
        return False
    carried = sum(value * weight for value, weight in zip(of.worth, said.threshold, strict=True))
    return said.liquidatable == (carried < sum(of.owed) * WAD)


@given(
    price=_three(PRICE),
    unit=_three(PRICE),
    threshold=_three(WEIGHT),
    collateral=_three(SMALL),
    debt=_three(SMALL),
    liquidatable=st.booleans(),
    moved=st.tuples(st.sampled_from([0, 0, 0, 1, -1]), st.sampled_from([0, 0, 0, 1, -1])),
    who=st.sampled_from([(5, 7), (1 << 160, 7), (5, 1 << 64), ((1 << 160) - 1, (1 << 64) - 1)]),
)
@settings(max_examples=25, deadline=None)
def test_the_circuit_says_what_plain_integers_say(
    price: tuple[int, ...],
    unit: tuple[int, ...],
    threshold: tuple[int, ...],
    collateral: tuple[int, ...],
    debt: tuple[int, ...],
    liquidatable: bool,
    moved: tuple[int, int],
    who: tuple[int, int],
) -> None:
    worth = [a * b // max(c, 1) for a, b, c in zip(collateral, price, unit, strict=True)]
    owed = [-(-a * b // max(c, 1)) for a, b, c in zip(debt, price, unit, strict=True)]
    worth[0], owed[1] = max(worth[0] + moved[0], 0), max(owed[1] + moved[1], 0)
    said = Statement(price, unit, threshold, commitment_of(1, *who, collateral, debt), liquidatable)
    secrets = Secrets(1, *who, collateral, debt, tuple(worth), tuple(owed))
    if max(*worth, *owed) < mimc.FIELD:
        assert (circuit_of(said, secrets).broken() == []) == _truth(said, secrets)


@pytest.mark.parametrize(("due", "liquidatable"), [(99, False), (100, False), (101, True)])
def test_equal_values_may_not_be_liquidated(due: int, liquidatable: bool) -> None:
    """A hundred carried in full."""
    for verdict in (False, True):
        said = Statement((1, 1, 0), (1, 1, 1), (WAD, 0, 0), commitment_of(1, 2, 3, (100, 0, 0), (0, due, 0)), verdict)
        secrets = Secrets(1, 2, 3, (100, 0, 0), (0, due, 0), (100, 0, 0), (0, due, 0))
        assert (circuit_of(said, secrets).broken() == []) == (verdict == liquidatable)


def test_no_wire_is_free() -> None:
    """Another value on any one wire breaks a constraint that it is in: what is proven is what was computed."""
    found = _sealed(morpho_state())
    made = circuit_of(found.statement, found.secrets)
    assert made.broken() == []
    touching: dict[int, list[int]] = {}
    for place, constraint in enumerate(made.constraints):
        for wire in {wire for each in constraint for wire in each.terms}:
            touching.setdefault(wire, []).append(place)
    for wire in range(1, len(made.values)):
        true = made.values[wire]
        for other in (true + 1, true - 1, 0 if true else 5):
            made.values[wire] = other % mimc.FIELD
            near = Circuit(made.values, [made.constraints[place] for place in touching[wire][:8]])
            assert near.broken(), (wire, other - true)
        made.values[wire] = true


def test_every_account_has_the_same_circuit() -> None:
    found = _sealed(morpho_state(price=800 * 10**24))
    made, blank = circuit_of(found.statement, found.secrets), blank_circuit()
    assert made.r1cs() == blank.r1cs()
    assert made.values[1 : FIELDS + 1] == list(found.statement.words())
    assert made.wtns()[:12] == b"wtns" + (2).to_bytes(4, "little") * 2


def test_public_wires_come_first() -> None:
    made = Circuit()
    made.hidden(1)
    with pytest.raises(ValueError, match="before all others"):
        made.shown([1])


# -- proofs ----------------------------------------------------------------------------------------------------------


def test_a_missing_prover_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "groth16py.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match="the prover is not installed") as caught:
        prover.setup(b"", tmp_path / "keys")
    assert "pip install groth16py" in caught.value.fix
    assert not (tmp_path / "keys").exists()


def test_a_statement_made_anew_has_no_proof_yet(tmp_path: Path) -> None:
    file, block_hash = _file(morpho_state(), tmp_path / "alice.proof")
    (tmp_path / "proof.json").write_text("{}")
    assert run("seal", "make", file, "--block-hash", block_hash, "--out", tmp_path) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["alice.proof", "public.json", "witness.wtns"]


@pytest.fixture(scope="module")
def made(chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """alice's account as the command line seals and proves it: safe at a thousand, short at eight hundred."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setenv("PYTHONPATH", str(installed()), prepend=os.pathsep)
        except ChainUnavailable as reason:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no prover: {reason}")
        folder, found = tmp_path_factory.mktemp("sealed"), {}
        for name, price in (("safe", 1_000), ("short", 800)):
            file, block_hash = _file(morpho_state(price=price * 10**24), folder / f"{name}.proof")
            found[name] = folder / name
            words = ["--block-hash", block_hash, "--out", folder / name, "--salt", hex(SALT)]
            assert run("seal", "make", file, *words) == 0
            assert run("seal", "prove", folder / name, "--setup", keys()) == 0
        yield found


@pytest.mark.slow
def test_what_is_true_is_proven_and_both_verifiers_say_so(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = keys() / prover.VERIFICATION_KEY
    contract = compile_sources({"Verifier.sol": (keys() / prover.CONTRACT).read_text()})["Verifier"]
    calls = {name: bytes.fromhex((folder / "calldata").read_text().strip()[2:]) for name, folder in made.items()}
    with Node() as node:
        at = node.deploy(contract).address

        def accepted(call: bytes) -> bool:
            try:
                return int.from_bytes(node.call(at, call)) == 1
            except RpcError:
                return False

        def verified(proof: str, public: str) -> bool:
            (tmp_path / "proof.json").write_text(proof)
            (tmp_path / "public.json").write_text(public)
            return run("seal", "verify", tmp_path, "--key", key) == 0

        for name, folder in made.items():
            assert accepted(calls[name])
            capsys.readouterr()
            assert run("seal", "verify", folder, "--key", key) == 0
            said = capsys.readouterr().out
            statement = read_statement((folder / "public.json").read_bytes())
            assert statement.liquidatable == (name == "short")
            verdict = "may be liquidated" if name == "short" else "may not be liquidated"
            assert f"the account {verdict}; commitment {statement.commitment:#066x}" in said
        proof, public = ((made["safe"] / name).read_text() for name in ("proof.json", "public.json"))
        call = calls["safe"]
        words = json.loads(public)
        assert verified(proof, public)
        for place in range(FIELDS):  # the contract: every word; the program, which starts anew each time: some
            start = 4 + 32 * (8 + place)
            other = int(words[place]) ^ 1
            assert not accepted(call[:start] + other.to_bytes(32) + call[start + 32 :])
            assert not accepted(call[:start] + (int(words[place]) + mimc.FIELD).to_bytes(32) + call[start + 32 :])
            if place in (0, FIELDS - 2, FIELDS - 1):
                assert not verified(proof, json.dumps([*words[:place], str(other), *words[place + 1 :]]))
        for place in range(4, 4 + 256, 3):
            assert not accepted(call[:place] + bytes([call[place] ^ 1]) + call[place + 1 :])
        assert not accepted(calls["short"][: 4 + 256] + call[4 + 256 :])
        assert not accepted(call[:-32])
        assert not verified((made["short"] / "proof.json").read_text(), public)
        assert not verified(proof.replace("1", "2", 1), public)
        assert not verified("{}", public)
        other_key = json.loads(key.read_text())
        other_key["IC"][0] = other_key["IC"][1]
        (tmp_path / "key.json").write_text(json.dumps(other_key))
        assert run("seal", "verify", made["safe"], "--key", tmp_path / "key.json") == 1


FALSE: dict[str, dict[str, object]] = {
    "the other verdict": {"liquidatable": True},
    "another commitment": {"commitment": 1},
    "more collateral than committed to": {"collateral": 1},
    "less debt than committed to": {"debt": -1},
    "another account": {"account": int(BOB, 16)},
    "another salt": {"salt": SALT + 1},
    "a value too high": {"worth": 1},
    "a debt's value too low": {"owed": -1},
    "a unit of zero": {"unit": (0, 0, 0)},
}


def _false(name: str) -> tuple[Statement, Circuit]:
    """alice's true statement with something else in it."""
    true = _sealed(morpho_state())
    statement, secrets = true.statement, true.secrets
    for field, value in FALSE[name].items():
        if field in ("collateral", "debt", "worth", "owed"):
            value = _moved(getattr(secrets, field), value)
        if field in Secrets.__dataclass_fields__:
            secrets = replace(secrets, **{field: value})
        else:
            statement = replace(statement, **{field: value})
    return statement, circuit_of(statement, secrets)


@pytest.mark.parametrize("name", FALSE)
def test_what_is_not_true_does_not_satisfy_the_circuit(name: str) -> None:
    assert _false(name)[1].broken()


@pytest.mark.slow
def test_what_is_not_true_has_no_proof(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prover who writes the witness himself gets a proof that its verifier does not take."""
    for name in ("the other verdict", "more collateral than committed to", "a value too high", "another salt"):
        statement, forged = _false(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "witness.wtns").write_bytes(forged.wtns())
        (folder / "public.json").write_text(prover.public_json(statement.words()))
        assert run("seal", "prove", folder, "--setup", keys()) == 1, name
        assert "there is no proof" in capsys.readouterr().out
        assert sorted(each.name for each in folder.iterdir()) == ["public.json", "witness.wtns"]


@pytest.mark.slow
def test_mistakes_have_their_lines(made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("seal", "setup", "--out", keys()) == 2
    assert "has keys" in capsys.readouterr().err
    assert run("seal", "prove", tmp_path, "--setup", keys()) == 2
    assert run("seal", "verify", tmp_path, "--key", keys() / prover.VERIFICATION_KEY) == 2
    shutil.copyfile(made["safe"] / "public.json", tmp_path / "public.json")
    assert run("seal", "prove", tmp_path, "--setup", keys()) == 2
    assert "witness.wtns" in capsys.readouterr().err
    (tmp_path / "witness.wtns").write_bytes(b"wtns")
    assert run("seal", "prove", tmp_path, "--setup", keys()) == 2
    assert "the prover refuses" in capsys.readouterr().err
    assert run("seal", "verify", made["safe"], "--key", made["safe"] / "public.json") == 1
    assert "is refused" in capsys.readouterr().out


def _moved(numbers: tuple[int, ...], by: object) -> tuple[int, ...]:
    """The largest of some numbers, one up or down."""
    at = numbers.index(max(numbers))
    return tuple(number + int(str(by)) * (place == at) for place, number in enumerate(numbers))
