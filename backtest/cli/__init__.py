"""The command line: one file a verb, imported when that verb is used."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from keyword import iskeyword

from cyclopts import App, CycloptsError

from backtest.errors import UserError, did_you_mean
from backtest.foreign import shown
from backtest.version import VERSION

# Each verb is the function of that name in backtest/cli/<verb>.py (``spelled``), or an App of several.
VERBS = {
    "demo": "Answer a question about the bundled crash on one screen, and as a page: no node needed.",
    "fetch": "Fetch a market's history from a node into a lake.",
    "facts": "Write what no log of a market says, from a node, for an import of logs.",
    "follow": "Follow the head of a chain into a lake, with alerts.",
    "import": "Import raw logs, or exports through a mapping, into a lake.",
    "reconstruct": "Rebuild the canonical tables of a lake from its raw events.",
    "replay": "Replay a market under a scenario and store the run.",
    "sweep": "Replay many scenarios, and find those that are not dominated.",
    "stress": "Carry the book of one moment on along shocked prices, and say what is lost.",
    "propose": "Answer a proposed change of parameters, in one screen.",
    "contagion": "Show what connects several markets, and what a shock does to them together.",
    "cascade": "Show what falls of prices would set off, and where it stops.",
    "recommend": "Find the parameters that do most while bad debt at risk stays within reserves.",
    "risk": "Measure a market's book at one moment: distances, insolvencies, the smallest shock.",
    "compare": "Compare history, baseline and alternatives.",
    "illustrate": "Replay a day of history on stated assumptions: black-thursday.",
    "crash": "List named crashes, and replay one beside what was reported of it.",
    "validate": "Hold a model against the liquidations that happened.",
    "calibrate": "Fit competition, costs and an oracle's past prices to data.",
    "account": "Show one account at any block, in the protocol's exact numbers.",
    "prove": "Write a file that proves an account of a lake at a block.",
    "verify": "Check a file of `backtest prove` against a block's hash, without a node.",
    "seal": "Prove an account's health without its amounts, in zero knowledge.",
    "near": "List accounts near liquidation, at a block or at the head.",
    "sql": "Query a lake, its history and its runs.",
    "runs": "List, rename and delete stored runs.",
    "report": "Write runs as one offline page.",
    "info": "Show what a lake holds.",
    "check": "Check a lake's invariants.",
}
FLAGS = ("--help", "-h", "--version")

# Conditions of the machine that the user can mend; any other OSError is a defect and keeps its traceback.
_MENDABLE = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is no folder",
    errno.ENAMETOOLONG: "check the path: a part of it is longer than a file name may be",
    errno.ELOOP: "check the path: its links lead in a circle",
    errno.EISDIR: "name a file: this is a folder",
}


def spelled(verb: str) -> str:
    """The name of a verb's function and module: the verb, with ``_`` behind it where Python keeps the word for
    itself.
    """
    return f"{verb}_" if iskeyword(verb) else verb


def app(verb: str = "") -> App:
    """The command line as a cyclopts App. Only ``verb`` is imported, and only when it is run or explained."""
    root = App(
        name="backtest",
        help=(
            "On-chain liquidation backtester: fetch a market's history, replay its liquidations, ask what would have"
            " happened."
        ),
        help_epilogue=None if verb else "backtest VERB --help says more. Start with backtest demo.",
        help_format="plaintext",
        version=VERSION,
        suppress_keyboard_interrupt=False,
    )
    for name, summary in VERBS.items():
        root.command(f"backtest.cli.{spelled(name)}:{spelled(name)}", name=name, help=None if name == verb else summary)
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check or a comparison failed, 2 a mistake the user can mend,
    130 interrupted, 141 the reader of the output has gone.

    Args:
        arguments: the words after ``backtest``; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    except BrokenPipeError:
        # The reader (head, less) has gone; a later flush of stdout at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def _run(words: list[str]) -> int:
    verb = words[0] if words and words[0] in VERBS else ""
    try:
        if any("\0" in word for word in words):
            raise UserError("an argument holds NUL", "check names and paths")
        if words and not verb and words[0] not in FLAGS:
            raise UserError(f"unknown verb '{words[0]}'", did_you_mean(words[0], [*VERBS, *FLAGS]))
        if verb == "fetch" and (odd := next((word for word in words if word.startswith("---")), None)):
            raise UserError(f"unknown option {odd}", "options begin with two dashes")
        result = app(verb)(words, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except UserError as error:
        return _say(str(error), 2)
    except CycloptsError as error:
        text = str(error).rstrip(".")
        return _say(text if text.endswith("?") else f"{text}; see 'backtest {verb or 'VERB'} --help'", 2)
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        return _say(f"{error.strerror}{where}; {_MENDABLE[error.errno]}", 2)


def _say(text: str, code: int) -> int:
    print(f"backtest: {shown(' '.join(text.split()), 4_000)}", file=sys.stderr)
    return code
