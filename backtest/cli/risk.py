"""``backtest risk``: a market's book at one moment, measured."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from backtest.cli.numbers import Number, Whole, number
from backtest.errors import UserError

Form = Literal["text", "json", "csv", "parquet"]
ENDINGS: dict[str, Form] = {".txt": "text", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def risk(
    *,
    lake: Path,
    market: str | None = None,
    at: str | None = None,
    fall: Annotated[list[str] | None, Parameter(negative="")] = None,
    reserves: Number | None = None,
    cost: Number | None = None,
    depth: Annotated[list[str] | None, Parameter(negative="")] = None,
    everywhere: bool = True,
    accounts: Whole = 10,
    format: Form | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """Measure a market's book at one moment, exactly: how far every account is from liquidation, from liquidations that
    make it worse, and from insolvency; what is insolvent; what falls of prices leave; and the smallest move of prices
    whose bad debt reserves do not cover.

    Examples:

        backtest risk --lake backtest-demo/lake --market sample-crash

        backtest risk --lake data/lake --at 2024-08-05 --fall WETH --fall wstETH --fall WBTC=0.6 \
--reserves 5000000 --cost 20

        backtest risk --lake data/lake --depth WETH=40000000 -o accounts.parquet

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    at
        At the end of this block, or at the last one before this date or time in UTC; the end of the history by default.
    fall
        An asset that falls with the others, and by how much for each unit of fall, below zero: it rises; may be
        repeated. By default every collateral whose price ever moved by a tenth.
    reserves
        What covers bad debt, in the market's base currency: coverage and reverse stress rest on it.
    cost
        What closing one account costs, in the base currency: tells insolvencies of type II and dust.
    depth
        The other reserve of the constant-product pool that an asset is sold into, in the base currency; may be
        repeated. Selling there makes liquidations toxic sooner.
    everywhere
        Search the smallest move over all directions of prices, not only along the fall.
    accounts
        Accounts of most debt to show; JSON, CSV and Parquet hold all.
    format
        Text, JSON, or every account as CSV or Parquet; by default what the ending of the output says, else text.
    output
        File to write instead of printing; CSV and Parquet need one.
    """
    from backtest import at_risk
    from backtest.cli.moments import window_of
    from backtest.cli.replay import only_market
    from backtest.lake import Lake

    chosen: Form = format or (ENDINGS.get(output.suffix.lower(), "text") if output is not None else "text")
    if chosen in ("csv", "parquet") and output is None:
        raise UserError(f"{chosen} is a file", f"say where: --output accounts.{chosen}")
    if accounts < 0:
        raise UserError(f"--accounts {accounts}", "give 0 or more")
    opened = Lake(lake)
    where = market or only_market(opened)
    base = 10 ** opened.market_config(where).base_decimals
    question = at_risk.RiskQuestion(
        direction=tuple(_weighted(text) for text in fall or ()),
        block=window_of(opened, where, None, at)[1],
        reserves=None if reserves is None else _base(reserves, base, "--reserves"),
        cost=None if cost is None else _base(cost, base, "--cost"),
        depth=dict(_depth(text, base) for text in depth or ()),
        everywhere=everywhere,
    )
    found = at_risk.book_risk(opened, where, question)
    if output is None:
        print(at_risk.as_text(found, shown=accounts) if chosen == "text" else at_risk.as_json(found) + "\n", end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    if chosen == "csv":
        from pyarrow import csv

        csv.write_csv(at_risk.rows(found), output)
    elif chosen == "parquet":
        from pyarrow import parquet

        parquet.write_table(at_risk.rows(found), output)
    else:
        text = at_risk.as_text(found, shown=accounts) if chosen == "text" else at_risk.as_json(found) + "\n"
        output.write_text(text, encoding="utf-8")
    print(f"{output}: {found.market.name}, block {found.block}, {len(found.accounts)} accounts with debt")


def _weighted(text: str) -> tuple[str, int]:
    """``WETH`` or ``WETH=0.6``: an asset and its weight, basis points."""
    name, _, share = text.partition("=")
    weight = number(share, f"--fall {name}") * 10_000 if "=" in text else Decimal(10_000)
    if not name or weight != weight.to_integral_value() or not weight or abs(weight) > 1_000_000:
        raise UserError(f"--fall {text}", "give an asset, and a share from 0.0001 to 100 (below zero: it rises)")
    return name, int(weight)


def _depth(text: str, base: int) -> tuple[str, int]:
    name, _, amount = text.partition("=")
    if not name or not amount:
        raise UserError(f"--depth {text}", "give an asset and an amount: WETH=40000000")
    return name, _base(number(amount, f"--depth {name}"), base, f"--depth {name}")


def _base(amount: Decimal, base: int, where: str) -> int:
    """Whole units of the base currency as base units; what is below one of them is left out."""
    if amount < 0:
        raise UserError(f"{where} {amount}", "give 0 or more")
    return int(amount * base)
