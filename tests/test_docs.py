"""The documentation: examples marked ``run`` are run on the demo's lake, all other commands are parsed, lists are
current, links lead somewhere.

A fence is marked by the word after its language: ```sh run, ```sql run, ```python run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cyclopts import CycloptsError

from backtest.cli import VERBS, app
from backtest.lake import Lake
from backtest.results import run
from backtest.scenario import Competitive, Scenario
from tests.docs import views

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """One fenced block."""

    where: str
    language: str
    marked: bool
    text: str


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(\w+)( run)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: found.start()].count("\n") + 1
            yield Block(f"{page.name}:{line}", found[1], bool(found[2]), found[3])


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Every line that calls backtest, in fences, indented blocks and quoted code, with its place."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            code = (
                [line]
                if re.match(r"^(    )?(\w+=\S+ )?backtest \w", line)
                else re.findall(r"`(backtest \w[^`]*)`", line)
            )
            for command in code:
                words = shlex.split(command, comments=True)
                words = words[words.index("backtest") + 1 :]
                if not {"...", "FILE.toml", "DIR"} & set(words):
                    yield f"{page.name}:{number}", words


BLOCKS = list(_blocks())
RUNNABLE = [block for block in BLOCKS if block.marked]
COMMANDS = list(_commands())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo was run, with ``backtest`` on the path."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "bin").mkdir()
    shim = folder / "bin/backtest"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from backtest.cli import main; main()" "$@"\n')
    shim.chmod(0o755)
    (folder / "full.txt").write_text(_run(["backtest", "demo", "--full"], folder), encoding="utf-8")
    (folder / "demo.txt").write_text(_run(["backtest", "demo"], folder), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def demo(workplace: Path) -> Lake:
    """The demo's lake, opened once: its views are made when the first query asks."""
    return Lake(workplace / "backtest-demo/lake")


def _run(command: list[str], folder: Path, text: str = "") -> str:
    environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_demo_compares_and_judges(workplace: Path) -> None:
    """All that the demo says: three kinds of columns, whole bands, later windows, effects that are there and effects
    that are not.
    """
    said = (workplace / "full.txt").read_text(encoding="utf-8")
    columns = next(line.split("  ") for line in said.splitlines() if " history " in line and " baseline " in line)
    assert [name.strip() for name in columns if name.strip()] == [
        "history",
        "baseline",
        "WETH −10 points",
        "WETH −10 in the crash",
        "bonus +2 points",
    ]
    verdicts = {part.partition(" against ")[0]: part.partition("\n\n")[0] for part in said.split("Verdict: ")[1:]}
    assert list(verdicts) == ["WETH −10 points", "WETH −10 in the crash", "bonus +2 points"]
    assert "incomplete" not in said
    assert any(line.endswith("  lower") for line in verdicts["WETH −10 points"].splitlines())
    for lines in (text.splitlines()[4:] for text in verdicts.values()):  # history has bad debt, the baseline none
        assert [line.split("  ")[0] for line in lines if line.endswith("cannot be judged here")] == [
            "Bad debt, realised and open"
        ]
    assert "baseline cannot judge bad debt, realised and open (history 57,955, the baseline 0)." in said
    assert all(
        line.endswith(("no material difference", "cannot be judged here"))
        for line in verdicts["WETH −10 in the crash"].splitlines()[4:]
    )
    assert any(line.endswith("  higher") for line in verdicts["bonus +2 points"].splitlines())
    assert "Losses 1 day after the window\n" in said
    assert "Losses 7 days after the window: not known, the data end before" in said
    assert "synthetic data: not a real market" in said
    assert "under frictionless liquidators: 0 liquidations (each would be a false alarm)" in " ".join(said.split())
    [override] = [
        line.split()
        for line in said.splitlines()
        if line.startswith("Accounts made liquidatable by an override itself")
    ]
    assert override[-5:-2] == ["0", "0", "0"]
    assert int(override[-2]) > 0


@pytest.mark.slow
def test_a_newcomer_reads_an_answer_on_one_screen(workplace: Path) -> None:
    """The question, of hours that the baseline was not fitted on; an answer that says what was refused and judges bad
    debt, since the baseline has as much there as history; what to ask next; and nothing is in need of a wide window.
    """
    lines = (workplace / "demo.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    said = " ".join(" ".join(lines).split())
    for words in (
        "WETH: liquidation threshold and loan-to-value 10 points lower?",
        "more is refused under it: debt that is not made is not liquidated",
        "calibrated on sample-crash, blocks 8 to 376",
        "Bad debt on the held-out window: history 57,858",
        "0 liquidations (each would be a false alarm)",
        "backtest propose --lake backtest-demo/lake",
    ):
        assert words in said
    assert "cannot be judged" not in said
    [judged] = [line.split() for line in lines if line.startswith("Bad debt  ")]
    assert 57.9 / 3 < int(judged[3].replace(",", "")) / 1_000 < 57.9 * 3
    assert (workplace / "backtest-demo/answer.html").stat().st_size > 20_000


@pytest.mark.slow
def test_figures_of_two_origins_agree(workplace: Path) -> None:
    """What a replay measured as it ran, against the sums of what it stored, for every run of the demo and one that
    starts late.
    """
    lake = Lake(workplace / "backtest-demo/lake")
    run(lake, "sample-crash", Scenario(name="late", liquidators=Competitive(), from_block=300, to_block=677))
    lake.refresh()
    rows = lake.sql("""
        WITH own AS (
            SELECT run_id, sum(open_bad_debt_base) AS open, sum(realised_bad_debt_base) AS realised,
            sum(borrower_loss_base) AS loss,
                sum(equity_base) AS equity, sum(liquidations) AS liquidations
            FROM run_accounts GROUP BY run_id
        )
        SELECT s.name, s.liquidations, s.liquidations = w.liquidations AND s.liquidations = own.liquidations,
        own.open = w.open_bad_debt_base,
            own.realised = w.realised_bad_debt_base AND own.realised = s.deficit_base,
            own.loss = l.borrower_loss_base AND own.loss = s.borrower_loss_base, own.equity = w.collateral_base -
            w.debt_base,
            w.peak_bad_debt_base >= w.realised_bad_debt_base + w.open_bad_debt_base
        FROM run_summary AS s JOIN own USING (run_id) JOIN run_windows AS w USING (run_id) JOIN run_losses AS l USING
        (run_id, label)
        WHERE label = 'end'
        """).fetchall()
    assert len(rows) >= 14
    assert [row for row in rows if not all(row[1:])] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in RUNNABLE if block.language != "sql"], ids=lambda block: block.where
)
def test_examples_run(block: Block, workplace: Path) -> None:
    command = {"sh": ["sh", "-eu"], "python": [sys.executable, "-"]}[block.language]
    _run(command, workplace, block.text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in RUNNABLE if block.language == "sql"], ids=lambda block: block.where
)
def test_queries_run_and_find_something(block: Block, demo: Lake) -> None:
    demo.refresh()
    assert demo.sql(block.text).limit(1).fetchall()


@pytest.mark.parametrize(("where", "words"), COMMANDS, ids=[f"{where}-{words[0]}" for where, words in COMMANDS])
def test_commands_parse(where: str, words: list[str]) -> None:
    assert words[0] in VERBS
    if words == [words[0], "VERB", "--help"]:
        return
    if not app(words[0]).parse_commands(words)[2]:  # a command that is only named
        return
    try:
        app(words[0]).parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{where}: {error}")


def test_every_verb_is_in_the_readme() -> None:
    assert sorted(re.findall(r"^\| `backtest (\w+)`", PAGES[0].read_text(), re.MULTILINE)) == sorted(VERBS)
    assert {words[0] for _, words in COMMANDS} == set(VERBS)


def test_python_examples_compile() -> None:
    for block in BLOCKS:
        if block.language == "python":
            compile(block.text, block.where, "exec")


def test_the_list_of_views_is_current() -> None:
    assert views.PAGE.read_text(encoding="utf-8") == views.page(), "run python -m tests.docs.views"


def test_bundled_markets_are_all_named() -> None:
    readme = PAGES[0].read_text()
    for file in (ROOT / "data/markets").glob("*.toml"):
        assert file.stem in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        assert "://" not in target
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_picture_is_small() -> None:
    assert 20_000 < (ROOT / "docs/demo.png").stat().st_size < 300_000


def test_the_example_market_descriptions_are_valid() -> None:
    from backtest.markets import parse_market

    texts = [block.text for block in BLOCKS if block.where.startswith("own-market") and block.language == "toml"]
    markets = [parse_market(text, "own-market.md") for text in texts]
    aave = {"provider", "pool", "configurator", "oracle"}
    assert [set(market.contracts) for market in markets] == [aave, {"morpho"}, aave, {"comet"}, {"evc", "factory"}]
    assert [pool.prices for pool in markets[2].pools] == ["WETH", "wstETH"]


@pytest.mark.slow
def test_the_notebook_runs(workplace: Path) -> None:
    shutil.copy(ROOT / "notebooks/first_look.py", workplace)
    _run([sys.executable, "first_look.py"], workplace)


def test_what_moved_is_where_the_page_says() -> None:
    page = (ROOT / "docs/moved.md").read_text(encoding="utf-8").split("## Tests")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 25
    here = {new for _, *news in rows for new in news}
    for old, *news in rows:
        assert news
        assert all((ROOT / "backtest" / new).exists() for new in news), news
        assert old in here or not (ROOT / "backtest" / old).exists(), old
