"""``backtest validate``: how well a model tells the liquidations that happened."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path


def validate(
    *,
    lake: Path,
    market: str | None = None,
    scenario: Path | None = None,
    gas_cost: Decimal | None = None,
    from_block: str | None = None,
    to_block: str | None = None,
    seed: int | None = None,
    name: str | None = None,
    largest: int = 2,
    rows: int = 20,
) -> None:
    """Hold a model under history's parameters against the liquidations that happened, which it is not shown.

    One step ahead it is asked at every price update in history's own book, free-running it acts from the first block
    on. Printed and stored: recall and precision with intervals, errors of time, amounts and reconstruction, every miss
    and false alarm with its cause. Where oracle prices were derived in-sample (backtest calibrate oracle), with them
    and with the venue's prices in their place.

    Examples:

        backtest validate --lake backtest-demo/lake --market sample-crash

        backtest validate --lake data/lake --market ethereum-core --gas-cost 5 --from-block 19000000

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market; may be left out where the lake holds one.
    scenario
        TOML file of a scenario (docs/scenarios.md) with competitive liquidators; overrides, another mechanism and costs
        beside gas_cost are refused.
    gas_cost
        What one call costs a liquidator, in units of the market's base currency (US dollars).
    from_block
        First block that counts, or a date or time in UTC.
    to_block
        Last block that counts, or a date or time in UTC.
    seed
        Seed of the bootstrap.
    name
        Name of the validation in tables and charts.
    largest
        Figures are also given without this many accounts, those from which most collateral was seized.
    rows
        Misses and false alarms printed of each kind; all are in the lake (SELECT * FROM validation_episodes).
    """
    from msgspec.structs import replace

    from backtest.cli.moments import window_of
    from backtest.cli.replay import base_units, only_market, progress_bar, read_scenario
    from backtest.lake import Lake
    from backtest.report.validation import as_text
    from backtest.scenario import Competitive, Scenario
    from backtest.validation import validate as validated
    from backtest.validation import with_and_without

    opened = Lake(lake)
    chosen = market or only_market(opened)
    config = opened.market_config(chosen)
    value = Scenario(name="validation", liquidators=Competitive()) if scenario is None else read_scenario(scenario)
    if gas_cost is not None and isinstance(value.liquidators, Competitive):
        value = replace(
            value, liquidators=replace(value.liquidators, gas_cost=base_units(gas_cost, config.base_decimals))
        )
    first, last = window_of(opened, chosen, from_block, to_block)
    given = {"from_block": first, "to_block": last, "seed": seed, "name": name}
    value = replace(value, **{field: one for field, one in given.items() if one is not None})
    for place, one in enumerate(with_and_without(opened, chosen, value)):
        with progress_bar() as progress:
            made = validated(opened, chosen, one, largest=largest, progress=progress)
        opened.refresh()
        if place:
            print()
        print(
            as_text(
                made.rows,
                made.episodes,
                made.notes,
                decimals=config.base_decimals,
                currency=config.base_currency,
                shown=rows,
            )
        )
        print(f"validation {made.run_id[:16]}{'' if made.made else ' (stored already, not made again)'}")
