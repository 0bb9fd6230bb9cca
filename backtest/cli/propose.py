"""``backtest propose``: a proposed change of parameters, answered in one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from backtest.cli.numbers import Whole
from backtest.errors import UserError

Format = Literal["text", "markdown", "json", "page"]
ENDINGS: dict[str, Format] = {".txt": "text", ".md": "markdown", ".json": "json", ".html": "page", ".htm": "page"}


def propose(
    *,
    lake: Path,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    ensemble: Path | None = None,
    frictionless: Annotated[bool, Parameter(negative="")] = False,
    draws: Whole = 6,
    seeds: Whole = 2,
    seed: Whole = 0,
    from_block: str | None = None,
    to_block: str | None = None,
    allow_invalid: Annotated[bool, Parameter(negative="")] = False,
    best: Annotated[bool, Parameter(negative="")] = False,
    within: Whole | None = None,
    full: Annotated[bool, Parameter(negative="")] = False,
    format: Format | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    workers: Whole | None = None,
) -> None:
    """Answer a proposed change of parameters: what it does at once, what it would have done, and how sure that is.

    Replays the market's history, a baseline and the proposal under the same liquidators and the same random numbers,
    and looks at the exact book of the moment: whom the change makes liquidatable, and what falls of prices would do.
    The same question again reads the stored runs.

    Examples:

        backtest propose --lake backtest-demo/lake --market sample-crash --set WETH.liquidation_bonus=10600

        backtest propose --lake data/lake --market ethereum-core --set WETH.liquidation_threshold=8000 \
--ensemble baseline.toml -o answer.html

        backtest propose --lake data/lake --market ethereum-core --set WETH.ltv=7800 --best --within 400

        backtest propose --lake data/lake --set WETH.ltv=7000@2024-02-01..2024-03-01/4 --format json

        backtest propose --lake data/lake --market ethereum-core --market ethereum-prime --set \
ethereum-prime:wstETH.liquidation_threshold=9000

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one. Several, each with an option of its own, are replayed
        together; the answer is of all of them, with one of each (docs/several-markets.md).
    rate
        Of several markets, what one unit of a base currency is worth in the first one's, CURRENCY=NUMBER.
    set_
        A changed parameter, as in backtest replay; may be repeated. Without a moment it holds over all of the history,
        and takes effect at its end. MARKET:WETH.ltv=7800 holds in one of several markets.
    ensemble
        TOML file of weighted draws of liquidators and costs (docs/propose.md); without it that which the lake keeps of
        the market (backtest calibrate baseline), and where it keeps none, or of several markets, frictionless
        liquidators.
    frictionless
        Frictionless liquidators, the best case, whatever the lake keeps.
    draws
        Draws of the ensemble that are replayed, at most: of more, so many stand for all.
    seeds
        Seeds of each draw, for models that draw.
    seed
        The first of them.
    from_block
        First block in which the model acts, or a date or time in UTC.
    to_block
        Last block replayed, or a date or time in UTC.
    allow_invalid
        Let a change pass that the market's configurator would refuse.
    best
        Search around the proposal, and show which sets are not dominated.
    within
        How far the search goes from the proposal, basis points; 500 by default.
    full
        Every table, row and assumption.
    format
        Text, Markdown, JSON, or an offline HTML page; by default what the ending of the output says, else text.
    output
        File to write instead of printing; a page needs one.
    workers
        Processes of this machine; without it one a core, where that is faster.
    """
    from backtest.cli.moments import window_of
    from backtest.cli.replay import joint_named, only_market
    from backtest.cli.sweep import bar
    from backtest.lake import Lake
    from backtest.paired import kept_ensemble
    from backtest.propose import ProposalQuestion, ensemble_of
    from backtest.propose import propose as answered
    from backtest.report.proposal import forms

    chosen: Format = format or (ENDINGS.get(output.suffix.lower(), "text") if output is not None else "text")
    if chosen == "page" and output is None:
        raise UserError("a page is a file", "say where: --output answer.html")
    if within is not None and not best:
        raise UserError("--within without --best", "add --best")
    if frictionless and ensemble is not None:
        raise UserError("--frictionless and --ensemble together", "give one of them")
    opened = Lake(lake)
    joint = joint_named(market or [], rate or [])
    where = market[0] if market else only_market(opened)
    kept = None if frictionless or ensemble is not None or joint else kept_ensemble(opened, where)
    first, last = window_of(opened, where, from_block, to_block)
    question = ProposalQuestion(
        sets=tuple(set_ or ()),
        ensemble=kept if ensemble is None else ensemble_of(ensemble),
        draws=draws,
        seeds=seeds,
        seed=seed,
        from_block=first,
        to_block=last,
        allow_invalid=allow_invalid,
        within=(500 if within is None else within) if best else None,
        joint=joint,
    )
    with bar() as progress:
        found = answered(opened, where, question, workers=workers, progress=progress)
    if chosen == "page":
        assert output is not None
        forms.write_page(found, output)
    else:
        text = {
            "text": lambda: forms.as_text(found, full=full) + "\n",
            "markdown": lambda: forms.as_markdown(found),
            "json": lambda: forms.as_json(found) + "\n",
        }[chosen]()
        if output is None:
            print(text, end="")
            return
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    print(f"{output}: {found.market}, {', '.join(found.changes)}")
