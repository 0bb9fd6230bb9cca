"""Proofs of a circuit by a program that is installed beside backtest: Groth16 over BN254 (Groth, ePrint 2016/260) by
groth16py, whose licence is GPL-3.0. So it is run, not imported, and the files between are those of other provers, too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from eth_utils.crypto import keccak

from backtest.errors import UserError
from backtest.files import read_bytes
from backtest.foreign import Unreadable, integer, json_value, shown
from backtest.prover import program

KEY, VERIFICATION_KEY, CONTRACT = program.KEY, program.VERIFICATION_KEY, program.CONTRACT
CIRCUIT = "circuit.r1cs"
_LIMIT = 1 << 20
_POINTS = ("pi_a", "pi_b", "pi_c")


class ProverError(Exception):
    """The program's own words about what it does not take; one clause."""


def setup(circuit: bytes, folder: Path) -> None:
    """Keys of a circuit (r1cs) and its verifier as a contract, into a folder. Whoever runs this could keep what it
    takes to prove anything; the program does not.

    Raises:
        UserError: the program is not installed. ProverError: it does not take the circuit.
    """
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        (made / CIRCUIT).write_bytes(circuit)
        _run("setup", made / CIRCUIT, made)
        folder.mkdir(parents=True, exist_ok=True)
        for each in (CIRCUIT, KEY, VERIFICATION_KEY, CONTRACT):
            shutil.copyfile(made / each, folder / each)


def proof(folder: Path, witness: Path) -> str:
    """A proof as snarkjs's JSON, by the keys of a setup. It holds only where the witness satisfies the circuit: verify
    it. Raises as ``setup``.
    """
    return _run("prove", folder, witness)


def holds(key: Path, proof: Path, public: Path) -> bool:
    """Whether a proof of public words holds under a verification key. Raises as ``setup``."""
    for each in (key, proof, public):
        read_bytes(each, _LIMIT)
    return _run("verify", key, proof, public, codes=(0, 1)) == ""


def calldata(proof: str, words: tuple[int, ...]) -> bytes:
    """What the contract of a setup is called with: ``verifyProof`` with the proof's points and the public words.

    Raises:
        ProverError: it is no proof.
    """
    try:
        found = json_value(proof)
        (ax, ay, _), ((bx0, bx1), (by0, by1), _), (cx, cy, _) = (found[name] for name in _POINTS)
        numbers = [integer(each) for each in (ax, ay, bx1, bx0, by1, by0, cx, cy)]
    except (Unreadable, UserError, TypeError, ValueError, KeyError):
        raise ProverError("it has not the points of a proof") from None
    types = f"uint256[2],uint256[2][2],uint256[2],uint256[{len(words)}]"
    return keccak(text=f"verifyProof({types})")[:4] + b"".join(each.to_bytes(32) for each in (*numbers, *words))


def public_json(words: tuple[int, ...]) -> str:
    """Public words as provers read and write them."""
    return json.dumps([str(word) for word in words], indent=1) + "\n"


def _run(*words: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """What the program prints; where another code than 0 is allowed, the code instead of nothing."""
    done = subprocess.run(
        [sys.executable, program.__file__, *map(str, words)], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode == program.MISSING:
        raise UserError(
            "the prover is not installed", "pip install groth16py (GPL-3.0; a program of its own), then try again"
        )
    if done.returncode not in codes:
        raise ProverError(shown(done.stderr.strip() or f"the prover ended with {done.returncode}"))
    return done.stdout if done.returncode == 0 else str(done.returncode)
