"""The prover of sealed statements as a program of the tests: installed from PyPI by lock file into the cache of
``tests/chain``, never into the tests' own environment.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from backtest import prover
from backtest.proofs.sealed import blank_circuit
from tests.chain.contracts import ChainUnavailable, cache_folder

LOCK = Path(__file__).with_name("requirements.lock")


@functools.cache
def installed() -> Path:
    """The folder to put on PYTHONPATH. ChainUnavailable where it cannot be installed."""
    folder = cache_folder() / f"zk-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as part:
            words = ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", f"{part}/site"]
            command = [sys.executable, "-m", "pip", *words, "--require-hashes", "-r", str(LOCK)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ChainUnavailable(f"pip install of the prover failed: {' '.join(done.stderr.split())[:200]}")
            _placed(Path(part, "site"), folder)
    return folder


@functools.cache
def keys() -> Path:
    """A setup of the circuit, drawn once and kept, so that its contract is compiled once."""
    circuit = blank_circuit().r1cs()
    folder = cache_folder() / f"zk-setup-{hashlib.sha256(circuit + LOCK.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as part:
            prover.setup(circuit, Path(part, "keys"))
            _placed(Path(part, "keys"), folder)
    return folder


def _placed(made: Path, folder: Path) -> None:
    """Move a folder to its place, unless another process was faster."""
    try:
        os.rename(made, folder)
    except OSError:
        shutil.rmtree(made)
