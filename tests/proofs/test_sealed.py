"""Statements about accounts that do not show their amounts: what they are, and proofs of them by Noir and Barretenberg,
checked by the exported contract on the local node.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.cli import main
from backtest.errors import UserError
from backtest.proofs import Unproven, check, encoded, make, mimc
from backtest.proofs.sealed import Statement, commitment_of, read_statement, sealed
from backtest.units import WAD
from tests.chain.contracts import ChainUnavailable, compile_sources
from tests.chain.node import Node, RpcError
from tests.support.made_states import ALICE, BOB, COLLATERAL, LOAN, PAIR, TOKENS, MadeState, morpho_state
from tests.zk.prover import barretenberg, contract, proven, refusals

SALT = 0x5EC2E7


def _file(state: MadeState, path: Path) -> tuple[Path, str]:
    """The proof of alice's account, and the block's hash."""
    header, nodes = state.made
    path.write_bytes(encoded(make(state.subject(PAIR, ALICE, tokens=TOKENS), header, nodes, state.view)))
    return path, state.header.hash


def _sealed(state: MadeState, account: str = ALICE) -> Statement:
    header, nodes = state.made
    found = check(make(state.subject(PAIR, account, tokens=TOKENS), header, nodes, state.view), state.header.hash)
    return sealed(found, SALT).statement


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_the_circuit_has_the_hash_s_constants() -> None:
    text = Path(mimc.__file__).with_name("health.nr").read_text()
    assert [str(constant) for constant in mimc.CONSTANTS] == text.split("= [\n")[1].split("];")[0].replace(
        ",", ""
    ).split()


def test_the_hash_is_one_of_its_arguments_in_order() -> None:
    assert mimc.encrypted(0, 0) != mimc.encrypted(0, 1) != mimc.encrypted(1, 0)
    assert len({mimc.digest(values) for values in ((), (1,), (1, 2), (2, 1), (0, 1, 2), (1, 2, 0))}) == 6
    assert mimc.encrypted(5, 7) == pow_by_hand(5, 7)


def pow_by_hand(key: int, value: int) -> int:
    """The cipher with each seventh power as products."""
    for constant in mimc.CONSTANTS:
        base = (value + key + constant) % mimc.FIELD
        square = base * base % mimc.FIELD
        value = square * square % mimc.FIELD * square % mimc.FIELD * base % mimc.FIELD
    return (value + key) % mimc.FIELD


def test_a_statement_has_prices_and_thresholds_and_no_amounts() -> None:
    """8,600 carried over 8,000 owed at a thousand; 6,880 at eight hundred."""
    safe, short = _sealed(morpho_state()), _sealed(morpho_state(price=800 * 10**24))
    assert (safe.liquidatable, short.liquidatable) == (False, True)
    assert safe.commitment == short.commitment
    places = sorted([LOAN, COLLATERAL])
    at = places.index(COLLATERAL)
    assert safe.price[at] == 1_000 * 10**24
    assert safe.threshold[at] == 86 * WAD // 100
    assert read_statement(safe.public_inputs()) == safe
    assert _sealed(morpho_state(collateral=11 * WAD)).commitment != safe.commitment


def test_another_salt_or_account_is_another_commitment() -> None:
    amounts = (10, 0, 0), (0, 5, 0)
    assert len({commitment_of(salt, who, 7, *amounts) for salt in (1, 2) for who in (ALICE, BOB)}) == 4
    assert commitment_of(1, ALICE, 8, *amounts) != commitment_of(1, ALICE, 7, *amounts)


@given(st.binary(max_size=400))
def test_other_bytes_are_no_statement(data: bytes) -> None:
    with pytest.raises(Unproven):
        read_statement(data[:351])


def test_numbers_that_the_circuit_does_not_hold_are_refused() -> None:
    with pytest.raises(UserError, match="more than 96 bits"):
        _sealed(morpho_state(collateral=1 << 97))
    with pytest.raises(UserError, match="more than 152 bits"):
        _sealed(morpho_state(collateral=1, price=1 << 153))


# -- proofs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """alice's account as the command line seals it: safe at a thousand, short at eight hundred."""
    try:
        barretenberg()
    except ChainUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no prover: {reason}")
    folder, found = tmp_path_factory.mktemp("sealed"), {}
    for name, price in (("safe", 1_000), ("short", 800)):
        file, block_hash = _file(morpho_state(price=price * 10**24), folder / f"{name}.proof")
        found[name] = folder / name
        assert (
            run("seal", "make", str(file), "--block-hash", block_hash, "--out", str(folder / name), "--salt", hex(SALT))
            == 0
        )
    return found


@pytest.mark.slow
def test_what_is_true_is_proven_and_the_exported_contract_says_so(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    proofs = {name: proven(folder / "health", folder / "input.json", folder / "out") for name, folder in made.items()}
    text = contract(made["safe"] / "out")
    code = compile_sources({"Verifier.sol": text})
    with Node(code_size_limit=100_000) as node:
        verifier = code["HonkVerifier"]
        contract_at = node.deploy(
            verifier, libraries={name: node.deploy(code[name]).address for name in verifier.links}
        )

        def accepted(proof: bytes, words: list[bytes]) -> bool:
            try:
                return bool(contract_at.call("verify", proof, words))
            except RpcError:
                return False

        for name, (proof, words) in proofs.items():
            assert b"".join(words) == (made[name] / "public_inputs").read_bytes()
            assert accepted(proof, words)
            statement = read_statement(b"".join(words))
            assert statement.liquidatable == (name == "short")
            assert run("seal", "read", str(made[name] / "out/public_inputs")) == 0
            verdict = "may be liquidated" if name == "short" else "may not be liquidated"
            assert f"the account {verdict}; commitment {statement.commitment:#066x}" in capsys.readouterr().out
        proof, words = proofs["safe"]
        for place in range(len(words)):
            other = int.from_bytes(words[place]) ^ 1
            assert not accepted(proof, [*words[:place], other.to_bytes(32), *words[place + 1 :]])
        for place in range(0, len(proof), 997):
            assert not accepted(proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :], words)
        assert not accepted(proofs["short"][0], words)
        assert not accepted(proof[:-32], words)


WRONG: dict[str, dict[str, object]] = {
    "the other verdict": {"liquidatable": True},
    "another commitment": {"commitment": "0x1"},
    "more collateral than committed to": {"collateral": "raised"},
    "less debt than committed to": {"debt": "lowered"},
    "another account": {"account": hex(int(BOB, 16))},
    "another salt": {"salt": hex(SALT + 1)},
    "a value too high": {"worth": "raised"},
    "a debt's value too low": {"owed": "lowered"},
    "a unit of zero": {"unit": ["0x0", "0x0", "0x0"]},
}


@pytest.mark.slow
def test_what_is_not_true_has_no_proof(made: dict[str, Path], tmp_path: Path) -> None:
    true = json.loads((made["safe"] / "input.json").read_text())
    files = [made["safe"] / "input.json", made["short"] / "input.json"]
    for name, changes in WRONG.items():
        arguments = dict(true)
        for field, value in changes.items():
            arguments[field] = _moved(true[field], value) if value in ("raised", "lowered") else value
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(arguments))
    said = refusals(made["safe"] / "health", files)
    assert said[:2] == ["", ""]
    assert len(said) == len(files)
    assert all(each.startswith(("Circuit execution failed", "Cannot satisfy constraint")) for each in said[2:]), said


def _moved(numbers: list[str], how: object) -> list[str]:
    """The largest of some numbers one up or down."""
    values = [int(each, 16) for each in numbers]
    values[values.index(max(values))] += 1 if how == "raised" else -1
    return [hex(each) for each in values]
