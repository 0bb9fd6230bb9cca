"""``backtest seal``: a proven account as a statement that does not show its amounts, and proofs of that."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from backtest.errors import UserError
from backtest.foreign import shown

if TYPE_CHECKING:
    from backtest.proofs import Checked
    from backtest.proofs.sealed import Statement

WITNESS, PUBLIC, PROOF, CALL = "witness.wtns", "public.json", "proof.json", "calldata"

seal = App(
    name="seal",
    help="""Prove that an account may be liquidated, or not, at public prices and thresholds, without its amounts.

The prover is a program of its own (pip install groth16py, GPL-3.0). What such a proof says: docs/prove.md.

Examples:

    backtest seal setup --out setup

    backtest seal make alice.proof --block-hash $HASH --out sealed

    backtest seal prove sealed --setup setup

    backtest seal verify sealed --key setup/verification_key.json

    backtest seal open alice.proof --block-hash $HASH --salt 0x1f
""",
    help_format="plaintext",
)


@seal.command
def setup(*, out: Path) -> None:
    """Draw the keys of the circuit: proving_key, verification_key.json and Verifier.sol, the verifier as a contract.

    Whoever draws them could prove what is not true, so whoever is to be convinced draws them, or somebody whom he
    trusts, and gives proving_key away.

    Parameters
    ----------
    out
        Folder to write into; it must not have keys yet.
    """
    from backtest import prover
    from backtest.proofs.sealed import blank_circuit

    if any((out / name).exists() for name in (prover.KEY, prover.VERIFICATION_KEY, prover.CONTRACT)):
        raise UserError(
            f"{shown(str(out))} has keys: proofs under them would not hold under others", "name another --out"
        )
    circuit = blank_circuit()
    prover.setup(circuit.r1cs(), out)
    names = ", ".join((prover.CIRCUIT, prover.KEY, prover.VERIFICATION_KEY, prover.CONTRACT))
    print(f"{shown(str(out))}: {names}")
    print(f"  {len(circuit.constraints):,} constraints, {circuit.public} public words")
    print("  drawn on this machine: a proof under these keys convinces who trusts whoever ran this")


@seal.command
def make(proof: Path, *, block_hash: str, out: Path, salt: str | None = None) -> None:
    """Check a proof as backtest verify does, and write the statement about its account: public.json, which everybody
    may see, and witness.wtns, which is secret.

    Parameters
    ----------
    proof
        The file that backtest prove wrote.
    block_hash
        Hash of the block, from where you trust it.
    out
        Folder to write into; made where there is none.
    salt
        Secret number that hides the amounts in the commitment, 0x hex; by default drawn at random.
    """
    from backtest.proofs import mimc
    from backtest.proofs.sealed import circuit_of, sealed
    from backtest.prover import public_json

    checked = _checked(proof, block_hash)
    found = sealed(checked, secrets.randbelow(mimc.FIELD) if salt is None else _salt(salt))
    out.mkdir(parents=True, exist_ok=True)
    for stale in (PROOF, CALL):  # of another statement
        (out / stale).unlink(missing_ok=True)
    (out / WITNESS).write_bytes(circuit_of(found.statement, found.secrets).wtns())
    (out / PUBLIC).write_text(public_json(found.statement.words()), encoding="utf-8")
    for line in _said(found.statement):
        print(line)
    for address in found.assets:
        print(f"  of {address}")
    print(f"{shown(str(out))}: {PUBLIC}, {WITNESS} (secret)")
    print(f"  salt {found.secrets.salt:#x} (secret: it opens the commitment)")


@seal.command
def prove(sealed: Path, *, setup: Path) -> int:
    """Prove a statement: proof.json, and calldata, with which the contract of the setup is called. Exits with 1 where
    the statement is not true: it has no proof.

    Parameters
    ----------
    sealed
        Folder that backtest seal make wrote.
    setup
        Folder that has proving_key and verification_key.json.
    """
    from backtest import prover

    statement = _statement(sealed)
    if not (sealed / WITNESS).is_file() or not (setup / prover.KEY).is_file():
        lacks = sealed / WITNESS if not (sealed / WITNESS).is_file() else setup / prover.KEY
        raise UserError(f"there is no file {shown(str(lacks))}", "see backtest seal --help")
    unfinished = sealed / f".{PROOF}.unfinished"
    try:
        text = prover.proof(setup, sealed / WITNESS)
        call = prover.calldata(text, statement.words())
        unfinished.write_text(text, encoding="utf-8")
        true = prover.holds(setup / prover.VERIFICATION_KEY, unfinished, sealed / PUBLIC)
    except prover.ProverError as error:
        raise UserError(f"the prover refuses: {error}", "are the keys those of this version's circuit?") from None
    if not true:
        unfinished.unlink()
        print("the statement is not true of what is secret, or the keys do not belong together: there is no proof")
        return 1
    unfinished.replace(sealed / PROOF)
    (sealed / CALL).write_text(f"0x{call.hex()}\n", encoding="utf-8")
    for line in _said(statement):
        print(line)
    print(f"proven, and verified: {shown(str(sealed / PROOF))}; to call the contract with: {shown(str(sealed / CALL))}")
    return 0


@seal.command
def verify(sealed: Path, *, key: Path) -> int:
    """Check the proof of a statement, and say what it states. Exits with 1 where it does not hold.

    Parameters
    ----------
    sealed
        Folder with public.json and proof.json.
    key
        verification_key.json, from whoever drew the keys.
    """
    from backtest import prover

    statement = _statement(sealed)
    try:
        true = prover.holds(key, sealed / PROOF, sealed / PUBLIC)
    except prover.ProverError as error:
        print(f"{shown(str(sealed / PROOF))} is refused: {error}")
        return 1
    if not true:
        print(f"{shown(str(sealed / PROOF))} is refused: it does not prove these public words under this key")
        return 1
    for line in _said(statement):
        print(line)
    print("the proof holds; compare prices and thresholds with those that you trust")
    return 0


@seal.command(name="open")
def open_(proof: Path, *, block_hash: str, salt: str) -> None:
    """Show the commitment that a proof and a salt come to: whoever is given both sees what was sealed.

    Parameters
    ----------
    proof
        The file that backtest prove wrote.
    block_hash
        Hash of the block, from where you trust it.
    salt
        The salt, 0x hex.
    """
    from backtest.proofs.sealed import sealed

    for line in _said(sealed(_checked(proof, block_hash), _salt(salt)).statement):
        print(line)


def _statement(folder: Path) -> Statement:
    from backtest.files import read_bytes
    from backtest.proofs import Unproven
    from backtest.proofs.sealed import read_statement

    try:
        return read_statement(read_bytes(folder / PUBLIC, 1 << 20))
    except Unproven as error:
        raise UserError(f"{shown(str(folder / PUBLIC))}: {error}", "make it with backtest seal make") from None


def _checked(proof: Path, block_hash: str) -> Checked:
    from backtest.cli.verify import trusted_hash
    from backtest.files import read_bytes
    from backtest.proofs import Unproven, check, decoded
    from backtest.proofs.proof import LIMIT

    try:
        return check(decoded(read_bytes(proof, LIMIT), str(proof)), trusted_hash(block_hash))
    except Unproven as error:
        raise UserError(f"{shown(str(proof))} is refused: {error}", "see backtest verify") from None


def _salt(text: str) -> int:
    from backtest.proofs.mimc import FIELD

    if not re.fullmatch("0x[0-9a-fA-F]{1,64}", text, re.ASCII) or int(text, 16) >= FIELD:
        raise UserError(f"--salt '{shown(text, 80)}' is no salt", "give 0x and up to 63 hex digits")
    return int(text, 16)


def _said(statement: Statement) -> list[str]:
    verdict = "may be liquidated" if statement.liquidatable else "may not be liquidated"
    lines = [f"the account {verdict}; commitment {statement.commitment:#066x}"]
    for price, unit, threshold in zip(statement.price, statement.unit, statement.threshold, strict=True):
        if price:
            lines.append(f"  price {price}, unit {unit}, threshold {threshold}")
    return lines
