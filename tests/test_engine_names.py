"""The engine names no protocol: words of one stand in its folder, in market files and in docs, nowhere else."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from backtest.protocols.registry import PROTOCOLS
from backtest.scenario import PARAMETERS

PACKAGE = Path(__file__).parent.parent / "backtest"
JARGON = (
    "LiquidationCall|getUserAccountData|ilk|urn|vat|dog|chop|bite|bark|frob|flip|lltv|comet|AbsorbDebt|"
    "trove|lusd|crvUSD|SAFEEngine|OracleRelayer|liquidateSAFE"
)
PLAIN = frozenset({"compound", "euler"})
"""Names that are words of their own: interest compounds. These count with what follows them."""
SHORT = frozenset({"geb"})
"""Names that are inside of other words (LargeBinary): these count by themselves."""
_NAMES = "|".join(
    rf"(?<![a-z]){name}(?![a-z])"
    if name in SHORT
    else name.replace("-", "[-_ ]?")
    if name.partition("-")[0] in PLAIN
    else name.partition("-")[0]
    for name in PROTOCOLS
)
# numpy and charts clip too
WORDS = re.compile(rf"(?i:{_NAMES}|\b(?:{JARGON})\b)|\bClip\b|import clip\b")
CITES = re.compile(r"\w+\.sol\b|makerdao/|aave-capo|aave-v[34]-|morpho-blue-oracles")
"""A rule says in its docstring from which contract it is; the file stands there, or its repository."""
ALLOWED = {
    "protocols/registry.py": "the list of protocols",
    "black_thursday/": "an illustration of one day of one protocol",
    "cli/illustrate.py": "the verb that makes it",
    "crashes/": "the model book of an illustration is one of a protocol's vaults",
    "cli/crash.py": "examples in the help",
    "cli/fetch.py": "examples in the help",
    "cli/follow.py": "examples in the help",
    "cli/import_.py": "examples in the help, and names of mappings that ship",
    "cli/calibrate.py": "an example in the help: the name of a file of races",
    "scenario/mechanisms.py": "whose rule a mechanism follows, for its users",
    "scenario/mitigations.py": "whose rule a mitigation follows, for its users",
}
"""Where prose may; those of ``IN_CODE``, which are about protocols, in code too."""
IN_CODE = ("protocols/registry.py", "black_thursday/", "crashes/")


def _prose(text: str) -> set[int]:
    """Lines of docstrings (of fields too) and comments."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            lines.add(token.start[0])
    return lines


def named(text: str) -> list[tuple[int, str]]:
    """Lines that name a protocol or speak its language, citations of contracts left out."""
    prose = _prose(text)
    return [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if WORDS.search(line) and not (number in prose and CITES.search(line))
    ]


def test_the_engine_names_no_protocol() -> None:
    folders = tuple(f"protocols/{each.name}/" for each in (PACKAGE / "protocols").iterdir() if each.is_dir())
    found, used = [], set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(folders):
            continue
        text = path.read_text()
        lines, prose = named(text), _prose(text)
        place = next((each for each in ALLOWED if name.startswith(each)), None)
        if lines and place is not None:
            used.add(place)
            lines = [] if place in IN_CODE else [each for each in lines if each[0] not in prose]
        found += [f"{name}:{number}: {line}" for number, line in lines]
    assert found == []
    assert used == ALLOWED.keys()  # what is allowed and not needed is taken off the list


@pytest.mark.parametrize(
    "line",
    [
        "from backtest.protocols.maker.auctions import Auctions",
        'if market.protocol == "aave-v3":',
        'files("raw/aave-v3/LiquidationCall")',
        'elif change.name == "lltv":',
        "# Maker: of the one collateral",
        'known = {"morpho-blue": _morpho}',
        'ilk = parameters["ilk"]',
        "from backtest.protocols.geb import GEB",
        'name = "src/clip.sol of aave"',  # a citation stands in prose only
    ],
)
def test_what_the_search_finds(line: str) -> None:
    body = f"{line}\n    pass\n" if line.endswith(":") else f"{line}\n"
    assert named(body.replace("elif", "if")) != []


@pytest.mark.parametrize(
    "text",
    [
        '"""Rounds up (makerdao/dss ``src/dog.sol`` ``bark``)."""',
        "np.clip(values, 0, 1)",
        "pa.LargeBinaryArray.from_buffers(size, buffers)",
        'mark = {"clip": True}',
        "def flips(): ...",
    ],
)
def test_what_the_search_passes(text: str) -> None:
    assert named(text + "\n") == []


def test_every_protocol_s_parameters_are_words_of_scenarios() -> None:
    for protocol in PROTOCOLS.values():
        assert protocol.parameters.keys() <= PARAMETERS.keys(), protocol.name
        assert all(unit >= 1 for unit in protocol.parameters.values())
    assert {name for protocol in PROTOCOLS.values() for name in protocol.parameters} == PARAMETERS.keys()
