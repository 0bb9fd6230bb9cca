"""Noir and Barretenberg as programs of the tests: the circuit of sealed statements compiled and proven, its verifier as
a contract. Packages are installed from npm by lock file into the cache of ``tests/chain``.

The prover takes a setup made here in the place of the public ceremony's (which its makers serve from a host of their
own, and tests ask none): one point of the exported contract is the setup's, and is replaced by ours.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chain.contracts import ChainUnavailable, cache_folder, install, node_program

HERE = Path(__file__).parent
POINTS = (1 << 14) + 1
CEREMONY = (
    "260e01b251f6f1c7e7ff4e580791dee8ea51d87a358e038b4efe30fac09383c1",
    "0118c4d5b837bcc2bc89b5b398b5974e9f5944073b32078b7e231fec938883b0",
    "04fc6369f7110fe3d25156c1bb9a72859cf2a04641f99ba4ee413c80da6a5fe4",
    "22febda3c0c0632a56475b4214e5615e11e6dd3f96e6cea2854a87d4dacc5e55",
)
"""The ceremony's point of G2 as contracts have it: both coordinates, imaginary parts first."""


def _script(*words: str | Path) -> str:
    command = [*node_program(), str(HERE / "circuit.mjs"), str(install(HERE) / "node_modules"), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def barretenberg() -> Path:
    """The program; ChainUnavailable where npm has none for this platform, or cannot be reached."""
    system, machine = sys.platform, platform.machine().lower()
    folder = f"{'arm64' if machine in ('arm64', 'aarch64') else 'amd64'}-{'macos' if system == 'darwin' else 'linux'}"
    program = install(HERE) / "node_modules/@aztec/bb.js/build" / folder / "bb"
    if not program.exists():
        raise ChainUnavailable(f"npm has no Barretenberg for this platform ({system}, {machine})")
    program.chmod(0o755)
    return program


def _bb(*words: str | Path) -> None:
    subprocess.run(
        [str(barretenberg()), *map(str, words), "-t", "evm", "-c", str(setup())], check=True, capture_output=True
    )


@functools.cache
def setup() -> Path:
    """The folder of the tests' own setup."""
    folder = cache_folder() / f"zk-setup-{_key((HERE / 'circuit.mjs').read_bytes())}"
    if not (folder / "bn254_g1.dat").exists():
        _script("setup", str(POINTS), folder)
    return folder


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def compiled(project: Path) -> Path:
    """The program of a Noir project."""
    source, lock = (project / "src/main.nr").read_bytes(), (HERE / "package-lock.json").read_bytes()
    program = cache_folder() / f"zk-{_key(source, lock)}.json"
    if not program.exists():
        _script("compile", project, program)
    return program


def proven(project: Path, arguments: Path, out: Path) -> tuple[bytes, list[bytes]]:
    """A proof and its public words, into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    program = compiled(project)
    _script("execute", program, arguments, out / "witness.gz")
    _bb("prove", "-b", program, "-w", out / "witness.gz", "-o", out, "--write_vk")
    words = (out / "public_inputs").read_bytes()
    return (out / "proof").read_bytes(), [words[at : at + 32] for at in range(0, len(words), 32)]


def refusals(project: Path, arguments: Sequence[Path]) -> list[str]:
    """Why the circuit has no witness for each of some arguments; empty where it has one."""
    return _script("refusals", compiled(project), *arguments).splitlines()


def contract(out: Path) -> str:
    """The Solidity of the verifier of what ``proven`` left in a folder, under the tests' setup."""
    _bb("write_solidity_verifier", "-k", out / "vk", "-o", out / "Verifier.sol")
    point = (setup() / "bn254_g2.dat").read_bytes()
    x0, x1, y0, y1 = (point[at : at + 32].hex() for at in range(0, 128, 32))
    text = (out / "Verifier.sol").read_text()
    for theirs, ours in zip(CEREMONY, (x1, x0, y1, y0), strict=True):
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    return text
