"""``backtest seal``: a proven account as a statement that does not show its amounts."""

from __future__ import annotations

import json
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

seal = App(
    name="seal",
    help="""State that an account may be liquidated, or not, at public prices and thresholds, without its amounts.

A zero-knowledge proof of that is made and checked by programs of their own (Noir, Barretenberg): see docs/prove.md.

Examples:

    backtest seal make alice.proof --block-hash $HASH --out sealed

    backtest seal read public_inputs

    backtest seal open alice.proof --block-hash $HASH --salt 0x1f
""",
    help_format="plaintext",
)


@seal.command
def make(proof: Path, *, block_hash: str, out: Path, salt: str | None = None) -> None:
    """Check a proof as backtest verify does, and write what the circuit needs to prove its statement.

    Written are the circuit (health/), input.json with all arguments of it (secret: amounts and salt) and public_inputs
    (what everybody may see).

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
    from backtest.proofs.sealed import sealed

    checked = _checked(proof, block_hash)
    found = sealed(checked, secrets.randbelow(mimc.FIELD) if salt is None else _salt(salt))
    project = out / "health"
    (project / "src").mkdir(parents=True, exist_ok=True)
    circuit = Path(mimc.__file__).with_name("health.nr").read_text(encoding="utf-8")
    (project / "src/main.nr").write_text(circuit, encoding="utf-8")
    (project / "Nargo.toml").write_text(
        '[package]\nname = "health"\ntype = "bin"\n\n[dependencies]\n', encoding="utf-8"
    )
    (out / "input.json").write_text(json.dumps(_hexed(found.witness), indent=1) + "\n", encoding="utf-8")
    (out / "public_inputs").write_bytes(found.statement.public_inputs())
    for line in _said(found.statement):
        print(line)
    for address in found.assets:
        print(f"  of {address}")
    print(f"{shown(str(out))}: health/, input.json (secret), public_inputs")
    print(f"  salt {found.witness['salt']:#x} (secret: it opens the commitment)")


@seal.command
def read(public_inputs: Path) -> int:
    """Say what the public words of a sealed account state. Whether it is true says the proof that comes with them.

    Parameters
    ----------
    public_inputs
        The file: 11 words of 32 bytes.
    """
    from backtest.files import read_bytes
    from backtest.proofs import Unproven
    from backtest.proofs.sealed import read_statement

    try:
        statement = read_statement(read_bytes(public_inputs, 1 << 20))
    except Unproven as error:
        print(f"{shown(str(public_inputs))} is refused: {error}")
        return 1
    for line in _said(statement):
        print(line)
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


def _hexed(value: object) -> object:
    """Numbers as 0x text, which every reader of the circuit's arguments takes."""
    if isinstance(value, dict):
        return {name: _hexed(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_hexed(each) for each in value]
    return value if isinstance(value, bool) or not isinstance(value, int) else hex(value)


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
