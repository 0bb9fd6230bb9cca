"""``backtest contagion``: what connects several markets, and what a shock does to them together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from backtest.errors import UserError


def contagion(
    *,
    lake: Path,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    shock: Annotated[list[str] | None, Parameter(negative="")] = None,
    impact: Annotated[list[str] | None, Parameter(negative="")] = None,
    scenario: Path | None = None,
    loss: Annotated[list[str] | None, Parameter(negative="")] = None,
    pause: Annotated[list[str] | None, Parameter(negative="")] = None,
    run: str = "20",
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    owners: Path | None = None,
    at: str | None = None,
    format: Literal["text", "json", "page"] | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Show what connects several markets, and what a shock does to them together that it does not do to each alone.

    The exact books of one moment, by the protocols' own rules: losses joint and alone, who is spared without which
    market, asset or owner, liquidity-weighted overlap, one linear round of fire sales, owners in several markets,
    claims of one market on another, runs on deposits. Measures are stored in the lake (SQL: contagion).

    Examples:

        backtest contagion --lake data/lake --market ethereum-core --market ethereum-prime --shock WETH=30 \
--impact WETH=constant-product:200000

        backtest contagion --lake data/lake --market ethereum-core --market ethereum-prime --loss ethereum-core=5 \
--owners owners.csv --at 2024-08-05 -o contagion.html

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Markets, each with an option of its own; two or more, or a scenario with [joint].
    shock
        What falls at first, ASSET=PERCENT; may be repeated.
    impact
        How an asset's price answers to sales, ASSET=KIND:NUMBERS, as in backtest cascade; may be repeated.
    scenario
        TOML file of a scenario with [impact] or [joint].
    loss
        What part of a market's deposits is gone at first, MARKET=PERCENT; may be repeated.
    pause
        A market in which nothing happens and from which nobody can withdraw; may be repeated.
    run
        Per cent of every asset's deposits that are asked back in a run.
    rate
        What one unit of a base currency is worth in the first market's, CURRENCY=NUMBER; may be repeated.
    owners
        CSV file that says whose accounts are: columns account and owner, and market where it holds in one only.
    at
        Block of the first market's chain, or a date or time in UTC; default the end of the shortest history.
    format
        Text, JSON, or an offline HTML page; by default what the ending of the output says, else text.
    output
        File to write instead of printing; a page needs one.
    """
    from backtest.cli.moments import window_of
    from backtest.cli.replay import read_scenario, with_markets
    from backtest.lake import Lake
    from backtest.network import NetworkQuestion, network, store
    from backtest.report import contagion as report
    from backtest.scenario import Impact, Scenario
    from backtest.scenario.options import parse_impact

    endings = {".html": "page", ".htm": "page", ".json": "json"}
    chosen = format or (endings.get(output.suffix.lower(), "text") if output is not None else "text")
    if chosen == "page" and output is None:
        raise UserError("a page is a file", "say where: --output contagion.html")
    value = Scenario() if scenario is None else read_scenario(scenario)
    if impact:
        if value.impact.assets:
            raise UserError("--impact and a scenario with [impact]", "give one of them")
        value = replace(value, impact=Impact(assets=tuple(parse_impact(text) for text in impact)))
    value = with_markets(value, market or [], rate or [], asked_for="--scenario with --market")
    if value.joint is None:
        raise UserError("contagion of fewer than two markets", "name several: --market A --market B")
    question = NetworkQuestion(
        scenario=value,
        falls=_parts(shock or [], "--shock", "WETH"),
        losses=_parts(loss or [], "--loss", "MARKET"),
        paused=frozenset(pause or []),
        run=_points(run, "--run"),
        owners=None if owners is None else _owners(owners),
    )
    opened = Lake(lake)
    _, block = window_of(opened, value.joint.markets[0], None, at)
    answer = network(opened, question, block=block)
    store(opened, answer)
    rows = answer.rows()
    if chosen == "page":
        assert output is not None
        report.write_page(rows, answer.rounds, answer.said, output)
        print(output)
        return
    text = json.dumps(rows, indent=1) if chosen == "json" else report.as_text(rows, answer.rounds, answer.said)
    if output is None:
        print(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", encoding="utf-8")
    print(output)


def _parts(texts: Sequence[str], option: str, example: str) -> dict[str, int]:
    """NAME=PERCENT as basis points by name."""
    from backtest.foreign import shown

    found: dict[str, int] = {}
    for text in texts:
        name, sign, percent = text.partition("=")
        if not sign or not name:
            raise UserError(f"{option} {shown(text, 60)} is not understood", f"write {example}=30 for 30 %")
        if name in found:
            raise UserError(f"{option}: {shown(name, 60)} twice", "give it once")
        found[name] = _points(percent, f"{option} {name}")
    return found


def _points(percent: str, option: str) -> int:
    """Per cent as basis points."""
    from backtest import foreign

    try:
        value = foreign.decimal(percent.removesuffix("%")) * 100
    except foreign.Unreadable as error:
        raise UserError(f"{option}: {error}", "give per cent, such as 30 or 12.5") from None
    if not 0 <= value <= 10_000 or value != value.to_integral_value():
        raise UserError(f"{option} = {foreign.shown(percent, 40)}", "give per cent from 0 to 100, two decimals at most")
    return int(value)


def _owners(path: Path) -> dict[tuple[str, str], str]:
    from backtest.cli.rows import rows_of

    found: dict[tuple[str, str], str] = {}
    for row in rows_of(path, ("account", "owner")):
        place, owner = ((row.get("market") or "").strip(), row["account"].strip().lower()), row["owner"].strip().lower()
        if not place[1] or not owner:
            raise UserError(f"{row.where}: an account without an owner, or none", "fill in both, or leave the row out")
        if found.setdefault(place, owner) != owner:
            raise UserError(f"{row.where}: account {place[1][:60]} has two owners", "leave one of them out")
    return found
