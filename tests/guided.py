"""Foreign bytes at the pure doors, guided by coverage: ``python -m tests.guided [DOOR ...] [--inputs N] [--seed S]``.

Atheris (libFuzzer for Python) keeps inputs that reach new branches and mutates those; doors and what may come of them
are ``tests.fuzz``'s. Each door has a child of its own, since a fuzzer ends by leaving its process.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz import Door

PURE = (
    "text", "integer", "decimal", "any json", "exact json", "toml", "result", "refusal", "logs", "batch", "block logs",
    "header", "complaint", "decoded", "market", "scenario", "sweep", "manifest",
)  # fmt: skip
"""Doors without files, folders and processes."""
PLANTED = "planted"
INSTRUMENTED = [
    "backtest.foreign", "backtest.abi", "backtest.errors", "backtest.markets", "backtest.fetch.replies",
    "backtest.fetch.dialects", "backtest.fetch.decode", "backtest.fetch.question", "backtest.lake.manifest",
    "backtest.scenario", "backtest.sweep.spec",
]  # fmt: skip
SECONDS = 5


def planted() -> Door:
    """A door with a fault behind four comparisons, which chance alone would not reach."""
    from tests.fuzz import Door

    def read(data: bytes) -> None:
        if len(data) > 3 and data[0] == 0x7B and data[1] == 0x2A and data[2] == 0x5D and data[3] == 0x11:
            raise KeyError

    return Door(PLANTED, read, (), [b"abcdef"])


def fuzz(door: Door, inputs: int, seed: int, folder: Path) -> None:
    """Fuzz one door in this process, which it ends: exit code 0 where nothing but values and lines came of it."""
    import atheris

    from backtest import foreign

    read = atheris.instrument_func(door.read) if door.name == PLANTED else door.read

    def once(data: bytes) -> None:
        try:
            read(data)
        except door.allowed as error:
            if foreign.shown(str(error), 5_000) != str(error):
                raise AssertionError(f"an error that is not safe to show, of {data[:200]!r}") from error
        except Exception:
            print(data[:200], file=sys.stderr, flush=True)
            raise

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(door.seeds):
        (corpus / str(number)).write_bytes(data)
    options = [
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-timeout={SECONDS}",
        "-max_len=8192",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


def forked(door: Door, inputs: int, seed: int) -> tuple[str, str]:
    """Fuzz a door in a child: (what the fuzzer says of its coverage, what failed; empty where nothing did)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = folder / "told"
        sys.stdout.flush()
        child = os.fork()
        if not child:
            with told.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            try:
                fuzz(door, inputs, seed, folder)
            except BaseException:
                traceback.print_exc()
            finally:  # not by leaving the folder, which is the parent's
                sys.stderr.flush()
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        said = told.read_text("utf-8", "replace")
        found = re.findall(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)", said, re.MULTILINE)
        counts = "{} inputs, {} branches, {} features, {} inputs kept".format(*found[-1]) if found else "not finished"
        if status == 0 and found:
            return counts, ""
        return counts, said[-3000:]


def main() -> int:
    """Exit code: 1 where an input came through a door as something else than a value or its one line."""
    options = argparse.ArgumentParser(prog="python -m tests.guided")
    options.add_argument("door", nargs="*")
    options.add_argument("--inputs", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()

    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz import doors
    known = {door.name: door for door in [*doors(), planted()]}
    failed = 0
    for name in given.door or PURE:
        told, what = forked(known[name], given.inputs, given.seed)
        print(f"{name:<12} {told}; {'FAILED' if what else 'nothing else than values and lines'}")
        failed += bool(what)
        print(what, end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
