"""Groth16 by the package groth16py, run as a program of its own by the Python that has it (``prover.run``): it imports
nothing of backtest, and talks through files in iden3's and snarkjs's formats.

    program.py setup CIRCUIT.r1cs FOLDER     keys and the verifier as a contract
    program.py prove FOLDER WITNESS.wtns     a proof as snarkjs's JSON, to standard output
    program.py verify KEY PROOF PUBLIC       exit code 0: it holds; 1: it does not

Whatever it cannot read it names on standard error, with exit code 2.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

MISSING = 3
"""Exit code where groth16py cannot be imported."""
KEY, VERIFICATION_KEY, CONTRACT = "proving_key", "verification_key.json", "Verifier.sol"
"""Files of a setup."""
PRAGMA = "^0.8.20"
"""Compilers of the contract; the tests run it as 0.8.27 compiles it."""


def setup(circuit: str, folder: str) -> int:
    proving, verifying = groth16py.setup(circuit)
    proving.save(str(Path(folder, KEY)))
    Path(folder, VERIFICATION_KEY).write_text(verifying.to_json() + "\n", encoding="utf-8")
    Path(folder, CONTRACT).write_text(verifying.to_solidity(pragma=PRAGMA), encoding="utf-8")
    return 0


def prove(folder: str, witness: str) -> int:
    proof = groth16py.prove_wtns(groth16py.ProvingKey.load(str(Path(folder, KEY))), witness)
    ax, ay, bx1, bx0, by1, by0, cx, cy = (str(int.from_bytes(proof[at : at + 32], "big")) for at in range(0, 256, 32))
    points = {"pi_a": [ax, ay, "1"], "pi_b": [[bx0, bx1], [by0, by1], ["1", "0"]], "pi_c": [cx, cy, "1"]}
    print(json.dumps({**points, "protocol": "groth16", "curve": "bn128"}))
    return 0


def verify(key: str, proof: str, public: str) -> int:
    verifier = groth16py.Verifier(groth16py.VerifyingKey.from_snarkjs_file(key))
    return 0 if verifier.verify_snarkjs(Path(proof).read_text("utf-8"), Path(public).read_text("utf-8")) else 1


if __name__ == "__main__":
    try:
        import groth16py
    except ImportError:
        sys.exit(MISSING)
    try:
        verbs: dict[str, Callable[..., int]] = {"setup": setup, "prove": prove, "verify": verify}
        sys.exit(verbs[sys.argv[1]](*sys.argv[2:]))
    except (
        groth16py.EncodingError,
        groth16py.VerificationError,
        groth16py.SetupError,
        groth16py.WitnessError,
    ) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        sys.exit(2)
