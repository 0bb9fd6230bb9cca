"""``backtest cascade``: what falls of prices would set off, by the book of one moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from backtest.errors import UserError


def cascade(
    *,
    lake: Path,
    market: str | None = None,
    impact: Annotated[list[str] | None, Parameter(negative="")] = None,
    scenario: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    at: str | None = None,
    format: Literal["text", "json", "page"] | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Show what falls of prices would make liquidators sell, what that would do to prices, and where it stops.

    The exact book of one moment, by the protocol's own rules; how prices answer to sales is what you say. Of each
    asset: the cascade map and where it ruptures, where shocks come to rest, and the least depth at which it does not
    rupture. For cascades in time, with oracles, competition and buyers who come back, replay a scenario with [impact].

    Examples:

        backtest cascade --lake backtest-demo/lake --market sample-crash --impact WETH=constant-product:20000

        backtest cascade --lake data/lake --market ethereum-core --scenario impact.toml --at 2024-08-05 -o map.html

        backtest cascade --lake backtest-demo/lake --market sample-crash --impact WETH=kyle:5000@2 \
--set WETH.liquidation_bonus=10800

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    impact
        How an asset's price answers, ASSET=KIND:NUMBERS: constant-product:RESERVE, kyle:SIZE@PERCENT,
        square-root:DAILY_VOLUME@DAILY_VOLATILITY (whole tokens, percent), or pools; may be repeated.
    scenario
        TOML file of a scenario with [impact] (docs/impact.md); its overrides count, too.
    set_
        A changed parameter, as in backtest replay; may be repeated.
    at
        Block, or a date or time in UTC, at whose end the book is taken; default the last one.
    format
        Text, JSON, or an offline HTML page; by default what the ending of the output says, else text.
    output
        File to write instead of printing; a page needs one.
    """
    from backtest.cascade import cascades
    from backtest.cli.moments import window_of
    from backtest.cli.replay import only_market, read_scenario
    from backtest.lake import Lake
    from backtest.report import cascade as report
    from backtest.scenario import Competitive, Impact, Scenario, parse_override
    from backtest.scenario.options import parse_impact

    endings = {".html": "page", ".htm": "page", ".json": "json"}
    chosen = format or (endings.get(output.suffix.lower(), "text") if output is not None else "text")
    if chosen == "page" and output is None:
        raise UserError("a page is a file", "say where: --output map.html")
    opened = Lake(lake)
    where = market or only_market(opened)
    value = Scenario(name="as given") if scenario is None else read_scenario(scenario)
    if impact:
        if value.impact.assets:
            raise UserError("--impact and a scenario with [impact]", "give one of them")
        value = replace(value, impact=Impact(assets=tuple(parse_impact(text) for text in impact)))
    if set_:
        value = replace(value, liquidators=Competitive(), overrides=tuple(parse_override(text) for text in set_))
    _, block = window_of(opened, where, None, at)
    found = cascades(opened, where, value, block=block)
    if chosen == "page":
        assert output is not None
        report.write_page(found.rows(), output)
        print(output)
        return
    text = json.dumps(found.rows(), indent=1) if chosen == "json" else report.as_text(found.rows())
    if output is None:
        print(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", encoding="utf-8")
    print(output)
