"""``backtest replay``: a market under a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import Parameter
from msgspec.structs import fields, replace

from backtest import files
from backtest.cli.moments import window_of
from backtest.cli.numbers import Number, Whole
from backtest.errors import UserError, did_you_mean
from backtest.foreign import shown
from backtest.scenario import (
    Costs,
    Impact,
    Joint,
    Liquidators,
    Mechanism,
    Observed,
    Scenario,
    parse_override,
)
from backtest.scenario.options import parse_gas, parse_impact, parse_mechanism, parse_slippage
from backtest.scenario.toml import parse_scenario

if TYPE_CHECKING:
    from backtest.lake import Lake
    from backtest.replay.engine import Progress
    from backtest.results import Run


def replay(
    *,
    lake: Path,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    scenario: Path | None = None,
    run: str | None = None,
    liquidators: Annotated[str | None, Parameter(show_choices=False)] = None,
    searchers: Whole | None = None,
    private_cost: Number | None = None,
    mean: Number | None = None,
    strategy: Literal["greedy", "two-step", "patient"] | None = None,
    gas_cost: Number | None = None,
    gas: str | None = None,
    slippage: str | None = None,
    flash_fee: Whole | None = None,
    impact: Annotated[list[str] | None, Parameter(negative="")] = None,
    mechanism: str | None = None,
    pair: Literal["most-profitable", "largest-debt", "largest-collateral"] | None = None,
    settle: Literal["underlying", "collateral-token"] | None = None,
    max_calls: Whole | None = None,
    looks: Literal["any-change", "price-update"] | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    allow_invalid: Annotated[bool, Parameter(negative="")] = False,
    response: Literal["frozen", "same-ltv", "same-health", "fitted"] | None = None,
    refused: Literal["skip", "shrink"] | None = None,
    rates: Literal["historical", "recomputed"] | None = None,
    oracle_delay: Whole | None = None,
    from_block: str | None = None,
    to_block: str | None = None,
    seed: Whole | None = None,
    name: str | None = None,
    baseline: Annotated[bool, Parameter(negative="")] = False,
    unmitigated: Annotated[bool, Parameter(negative="")] = False,
    band: Annotated[bool, Parameter(negative="")] = False,
    repeats: Whole | None = None,
    leave_one_out: Annotated[bool, Parameter(negative="")] = False,
    largest: Whole | None = None,
) -> None:
    """Replay a market's liquidations under a scenario and store the run in the lake.

    Without options it re-enacts history and says how exactly that succeeds. The same run again is read, not replayed.

    Examples:

        backtest replay --lake backtest-demo/lake --market sample-crash

        backtest replay --lake backtest-demo/lake --liquidators competitive --set WETH.liquidation_threshold=8000

        backtest replay --lake backtest-demo/lake --market sample-crash --liquidators sealed-bid --gas constant:30

        backtest replay --lake data/lake --market ethereum-core --liquidators participation --mean 1.78 --gas spike:6

        backtest replay --lake data/lake --market ethereum-core --scenario stricter.toml --from-block 19000000

        backtest replay --lake backtest-demo/lake --run 4f1c --band

        backtest replay --lake data/lake --market ethereum-core --market ethereum-prime --liquidators sealed-bid

        backtest replay --lake data/lake --market ethereum-core --market ethereum-prime --liquidators competitive \
--impact WETH=constant-product:200000 --leave-one-out --largest 5

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market to replay; may be left out where the lake holds one. Several, each with an option of its own, are
        replayed together, on one clock and with one purse of searchers, and each alone (docs/several-markets.md).
    rate
        Of several markets: what one unit of a base currency is worth in the first market's, CURRENCY=NUMBER; may be
        repeated.
    scenario
        TOML file of a scenario (docs/scenarios.md), instead of the options for liquidators and parameters.
    run
        Take the scenario and the market of a stored run: its id, first digits of it, or its name.
    liquidators
        Who liquidates: as in history (observed), whoever profits most (competitive: frictionless), or searchers that
        compete: priority-gas, sealed-bid, participation, latency-race, oev (docs/scenarios.md).
    searchers
        How many searchers compete.
    private_cost
        Each searcher has costs of its own, drawn from 0 to this, in units of the base currency (sealed-bid,
        priority-gas).
    mean
        Mean number of searchers that show up at a block (participation, oev).
    strategy
        Of searchers: at once; first just so much that the account stays unhealthy; or wait until all of the debt may be
        repaid.
    gas_cost
        What one call costs a competitive liquidator, in units of the market's base currency (US dollars).
    gas
        What gas costs: historical, constant:GWEI, spike:TIMES (times history's) or eip-1559:GWEI:BLOCKS@PERCENT.
    slippage
        What selling collateral costs: pools, constant-product:RESERVE or square-root:DAILY_VOLUME@DAILY_VOLATILITY
        (base currency, percent).
    flash_fee
        Fee of flash loans, basis points.
    impact
        How an asset's price answers to sales, ASSET=KIND:NUMBERS: constant-product:RESERVE, kyle:SIZE@PERCENT,
        square-root:DAILY_VOLUME@DAILY_VOLATILITY (whole tokens, percent), or pools; may be repeated (docs/impact.md).
    mechanism
        How liquidations settle instead of the protocol's own way, KIND[:FIELD=VALUE,...]: fixed-spread, health-bonus,
        target-health, dutch-health, dutch, hybrid, english (docs/scenarios.md).
    pair
        How a competitive liquidator chooses among an account's debts and collaterals.
    settle
        What a competitive liquidator receives.
    max_calls
        Most calls per account and block.
    looks
        After which transactions competitive liquidators look: those that change a price, an index or a parameter, or a
        price only.
    set_
        A changed parameter in basis points, [MARKET:][ASSET.|emodeN.]PARAMETER=VALUE[@FROM[..UNTIL[/STEPS]]], or by how
        much it changes, PARAMETER-=VALUE; MARKET is one of several; may be repeated (docs/scenarios.md).
    allow_invalid
        Let changed parameters pass that the market's configurator would refuse.
    response
        What users do in a market that is no longer history's: the same, or so that they have the same loan-to-value or
        health factor.
    refused
        What becomes of an action of a user that would revert.
    rates
        Interest as recorded, or following the replayed market's utilisation.
    oracle_delay
        Seconds from a market price to the oracle's, where the oracle is known by market prices (0: at once); default
        the protocol's.
    from_block
        First block in which the model acts, or a date or time in UTC.
    to_block
        Last block replayed, or a date or time in UTC.
    seed
        Seed of random draws.
    name
        Name of the run in tables and charts.
    baseline
        Replay what the scenario is compared with: the same without its changed parameters and with the protocol's own
        way of liquidating.
    unmitigated
        Replay the same scenario without its mitigations, which their two sides are told against (docs/mitigations.md).
    band
        Replay the scenario under every response of users (frozen, same-ltv, same-health; fitted where kept), the
        baselines too, and compare.
    repeats
        Replay the scenario under so many seeds, from its own on, and print means with 95 % intervals; for models that
        draw.
    leave_one_out
        Of several markets: replay them again without each market, each of the largest owners and each asset's impact,
        and rank them by what is spared without them (SQL: joint_ranks).
    largest
        How many owners that leaves out, by their debt; default 3.
    """
    from backtest.cli.histories import selected
    from backtest.fitted import kept_fitted
    from backtest.lake import Lake
    from backtest.report import find
    from backtest.report import repeats_of as repeated
    from backtest.report.text import as_text
    from backtest.results import band_of, baseline_of, repeats_of, run_all, scenario_of

    terms: dict[str, Any] = {
        "searchers": searchers,
        "private_cost": private_cost,
        "mean": mean,
        "strategy": strategy,
        "gas_cost": gas_cost,
        "pair": pair,
        "settle": settle,
        "max_calls": max_calls,
        "looks": looks,
    }
    costs = {"gas": gas, "slippage": slippage, "flash_fee": flash_fee}
    source = "--scenario" if scenario is not None else "--run"
    if scenario is not None or run is not None:
        others = {
            "--run": run if scenario else None,
            "--liquidators": liquidators,
            "--mechanism": mechanism,
            "--impact": impact,
            "--set": set_,
        }
        others |= {**_options(terms), **_options(costs)}
        if given := [option for option, value in others.items() if value is not None]:
            raise UserError(
                f"{source} and {', '.join(given)} together", "write all of it into a scenario file, or none"
            )
    opened = Lake(lake)
    names = market or []
    again = None if run is None else find(opened, run, market=names[0] if len(names) == 1 else None)
    chosen = names[0] if names else again["market"] if again else _first_of(scenario) or only_market(opened)
    if again is not None:
        value = scenario_of(again)
    elif scenario is not None:
        value = read_scenario(scenario)
    if again is not None or scenario is not None:
        value = with_markets(value, names, rate or [], asked_for=f"{source} with --market")
    else:
        decimals = opened.market_config(chosen).base_decimals
        for field in ("gas_cost", "private_cost"):
            if terms[field] is not None:
                terms[field] = base_units(terms[field], decimals, f"--{field.replace('_', '-')}")
        settling = None if mechanism is None else parse_mechanism(mechanism)
        value = _from_options(liquidators, terms, set_ or [], settling, joint_named(names, rate or []))
        value = replace(
            value,
            costs=_costs(costs, decimals),
            impact=Impact(assets=tuple(parse_impact(text) for text in impact or ())),
        )
    if value.joint is not None and isinstance(value.liquidators, Observed):
        raise UserError(
            "several markets with observed liquidators: history's act in each as they did",
            "add --liquidators competitive, or searchers that compete",
        )
    users = {"response": response, "refused": refused}
    first, last = window_of(opened, chosen, from_block, to_block)
    changed = {
        "from_block": first,
        "to_block": last,
        "seed": seed,
        "name": name,
        "rates": rates,
        "allow_invalid": allow_invalid or None,
    }
    value = replace(value, users=replace(value.users, **_given(users)), **_given(changed))
    if oracle_delay is not None:
        value = replace(
            value,
            oracle_delay=oracle_delay,
            name=value.name if name or value.overrides else f"oracle delay {oracle_delay} s",
        )
    if (baseline or band) and isinstance(value.liquidators, Observed):
        flag = "--baseline" if baseline else "--band"
        raise UserError(
            f"{flag} with observed liquidators: they and users act as in history", "add --liquidators competitive"
        )
    if leave_one_out and value.joint is None:
        raise UserError("--leave-one-out with one market", "name several: --market A --market B")
    if largest is not None and not leave_one_out:
        raise UserError("--largest without --leave-one-out", "add it, or leave --largest out")
    if band and repeats is not None:
        raise UserError("--band and --repeats together", "give one of them")
    if unmitigated:
        value = replace(value, mitigations=(), name=name or f"{value.name}, without mitigations")
    if baseline:
        value = replace(baseline_of(value), **_given({"name": name}))
    own = name is not None or scenario is not None
    kept = kept_fitted(opened, chosen) if band and value.joint is None else None
    wanted = band_of(value, kept) if band else (value,) if repeats is None else repeats_of(value, repeats)
    # Names that the user gave, and those made of them; one that was made up here renames nothing.
    renamed = [one.name for one in wanted if own and one.name.startswith(value.name)]
    if value.joint is not None:
        from backtest.leave_one_out import OWNERS

        for place, one in enumerate(wanted):
            print(end="\n" if place else "")
            _print_joint(one, opened, renamed, (OWNERS if largest is None else largest) if leave_one_out else None)
        return
    with progress_bar() as progress:
        stored = list(run_all(opened, chosen, wanted, progress=progress, renamed=renamed))
    opened.refresh()
    if len(stored) == 1:
        _print(stored[0], value, opened)
        return
    for one, made in zip(wanted, stored, strict=True):
        print(
            f"{one.name}: run {made.run_id[:16]}, rows"
            f" {made.digest[:16]}{'' if made.replayed else ' (stored already, not replayed again)'}"
        )
    if repeats is not None:
        print()
        print(repeated(opened, stored[0].run_id, market=chosen))
        return
    shown = stored[
        -len({one.users.response for one in wanted}) :
    ]  # with a baseline to be compared with, the first of them speaks for its band
    print()
    print(as_text(selected(opened, [made.run_id for made in (shown[:1] if value.alters else shown)], market=chosen)))


def _first_of(scenario: Path | None) -> str | None:
    """The first market that a scenario file of several names."""
    joint = None if scenario is None else read_scenario(scenario).joint
    return None if joint is None else joint.markets[0]


def with_markets(value: Scenario, names: list[str], rates: list[str], *, asked_for: str) -> Scenario:
    """The scenario for the markets that options name, and the worth of their currencies; ``asked_for``: what they
    contradict where it names its own.
    """
    if value.joint is not None:
        if len(names) > 1 or rates or (names and names[0] != value.joint.markets[0]):
            raise UserError(f"{asked_for} or --rate: the scenario names its markets", "leave them out")
        return value
    return replace(value, joint=joint_named(names, rates))


def joint_named(names: list[str], rates: list[str]) -> Joint | None:
    """The markets that options name, and the worth of their currencies; None for fewer than two."""
    from backtest.scenario import ExchangeRate

    if len(names) < 2:
        if rates:
            raise UserError("--rate with one market", "name several: --market A --market B")
        return None
    pairs = [text.partition("=") for text in rates]
    if wrong := next((text for text, (_, sign, _) in zip(rates, pairs, strict=True) if not sign), None):
        raise UserError(f"--rate {shown(wrong, 60)} is not understood", "write CURRENCY=NUMBER, such as USDC=1")
    worths = tuple(ExchangeRate(currency=currency, worth=worth) for currency, _, worth in pairs)
    return Joint(markets=tuple(names), rates=worths)


def _print_joint(scenario: Scenario, lake: Lake, renamed: list[str], owners: int | None) -> None:
    """``owners``: how many of the largest are left out one by one, markets and assets as well; None: nobody is."""
    from backtest.joint import run_jointly
    from backtest.leave_one_out import leave_one_out
    from backtest.report import joint_of, ranking_of

    with progress_bar() as progress:
        made = run_jointly(lake, scenario, renamed=renamed, progress=progress)
        left = None if owners is None else leave_one_out(lake, scenario, owners=owners, progress=progress)
    lake.refresh()
    print(f"{scenario.name}: {len(made.runs)} markets together; joint replay {made.joint_id[:16]}")
    for run, alone in zip(made.runs, made.alone, strict=True):
        state = "" if run.replayed else " (stored already, not replayed again)"
        name, digest = run.summary["market"], run.digest[:16]
        print(f"  {name}: run {run.run_id[:16]}, rows {digest}{state}; alone {alone.run_id[:16]}")
    print()
    print(joint_of(lake, made.joint_id))
    if left is not None:
        print()
        state = f"{left.replayed} of them replayed now" if left.replayed else "stored already, not replayed again"
        print(f"Left out one by one: {left.number} joint replays ({state}), rows {left.digest[:16]}")
        print(ranking_of(lake, made.joint_id))
        print()
    print("Assumptions and warnings")
    stated: dict[str, list[str]] = {}
    for run in made.runs:
        for note in run.notes:
            stated.setdefault(note, []).append(run.summary["market"])
    for note, markets in stated.items():
        print(f"  - {note}" if len(markets) == len(made.runs) else f"  - {', '.join(markets)}: {note}")


def only_market(lake: Lake) -> str:
    markets = lake.markets()
    if len(markets) != 1:
        raise UserError(
            f"{lake.path} holds {len(markets)} markets",
            f"give one with --market: {', '.join(markets) or 'fetch one first'}",
        )
    return markets[0]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in options.items() if value is not None}


def _options(terms: dict[str, Any]) -> dict[str, Any]:
    """Option names of fields."""
    return {f"--{field.replace('_', '-')}": value for field, value in terms.items()}


def _from_options(
    liquidators: str | None,
    terms: dict[str, Any],
    sets: list[str],
    mechanism: Mechanism | None = None,
    joint: Joint | None = None,
) -> Scenario:
    """A scenario given by options alone."""
    given = _given(terms)
    kind = liquidators or "observed"
    models = {str(model.__struct_config__.tag): model for model in get_args(Liquidators)}
    if kind not in models:
        raise UserError(f"unknown liquidators '{kind}'", did_you_mean(kind, models))
    known = [field.name for field in fields(models[kind])]
    if strange := [option for field, option in zip(given, _options(given), strict=True) if field not in known]:
        having = [name for name, model in models.items() if {f.name for f in fields(model)} >= given.keys()]
        remedy = (
            f"add --liquidators {' or '.join(having)}" if having else "see docs/scenarios.md for what each model has"
        )
        raise UserError(f"{', '.join(strange)} with {kind} liquidators", remedy)
    if "mean" in given:
        points = given["mean"] * 10_000
        if points != points.to_integral_value():
            raise UserError(f"--mean {given['mean']} has more than four decimals", "round it to ten-thousandths")
        given["mean"] = int(points)
    model = models[kind](**given)
    named = [*sets, *([str(mechanism.__struct_config__.tag)] if mechanism is not None else [])]
    default = " ".join(named) or ("history" if isinstance(model, Observed) else kind)
    given = _given({"mechanism": mechanism, "joint": joint})
    return Scenario(name=default, liquidators=model, overrides=tuple(parse_override(text) for text in sets), **given)


def _costs(options: dict[str, Any], decimals: int) -> Costs:
    """Costs given by options."""
    given = _given(options)
    if "gas" in given:
        given["gas"] = parse_gas(given["gas"])
    if "slippage" in given:
        given["slippage"] = (parse_slippage(given["slippage"], 10**decimals),)
    return Costs(**given)


def base_units(amount: Decimal, decimals: int, option: str = "--gas-cost") -> int:
    """A cost in whole units of the base currency as base units; exact, or UserError."""
    units = amount.scaleb(decimals) if amount.is_finite() else None
    if units is None or units < 0 or units != units.to_integral_value():
        raise UserError(
            f"{option} {amount} is no amount, negative or finer than {decimals} decimals",
            "give an amount such as 5 or 0.25",
        )
    return int(units)


def read_scenario(path: Path) -> Scenario:
    """A scenario from a TOML file. UserError where it is none."""
    return parse_scenario(files.read_text(path), str(path))


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress bar on standard error, gone when done; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying" if _is_compiled() else "compiling the rules, once (under a minute)", total=None)
        yield lambda done, total: bar.update(task, description="replaying", completed=done, total=total)


def _is_compiled() -> bool:
    """Whether an earlier replay left the machine code of its rules beside them."""
    beside = Path(__file__).parent.parent / "replay" / "shortcuts" / "__pycache__"
    return any(beside.glob("loop.*.nbi"))


def _print(run: Run, scenario: Scenario, lake: Lake) -> None:
    from backtest.report import opportunities_of
    from backtest.report.cascade import cascade_lines
    from backtest.report.tables import data_flags, describe, moment, money

    row, hits = run.summary, run.tables["run_liquidations"]
    config = lake.market_config(row["market"])
    decimals, currency = config.base_decimals, config.base_currency
    assets = lake.sql("SELECT market, asset, label FROM assets").to_arrow_table().to_pylist()
    symbols = {asset["asset"]: asset["label"] for asset in assets if asset["market"] == row["market"]}

    def total(column: str, without: str = "") -> str:
        return money(
            sum(int(hit[column]) for hit in hits.select([column, "stage"]).to_pylist() if hit["stage"] != without),
            decimals,
        )

    blocks = (
        f"blocks {row['from_block']:,} to {row['to_block']:,} ({moment(row['from_timestamp'])} to"
        f" {moment(row['to_timestamp'])} UTC)"
    )
    flags = "".join(f"; {flag}" for flag in data_flags([row]))
    print(f"{row['name']}: market {row['market']}, {blocks}{flags}")
    print(f"  scenario      {describe(row['scenario'], decimals, currency, symbols)}; seed {row['seed']}")
    print(f"  data          {row['lake_digest'][:16]} (raw content), rules version {row['rules_version']}")
    print(f"  run           {run.run_id[:16]}{'' if run.replayed else ' (stored already, not replayed again)'}")
    print(f"  rows          {run.digest[:16]} (SHA-256 of the result's rows)")
    print(f"  liquidations  {row['liquidations']:,} of {row['accounts_liquidated']:,} accounts")
    print(f"  debt repaid   {total('repaid_base', 'auction')} {currency}")
    print(
        f"  collateral    {total('seized_base', 'opened')} {currency} to liquidators, {total('protocol_fee_base')}"
        f" {currency} protocol fee"
    )
    print(f"  profit        {total('profit_base')} {currency} after stated costs, at oracle prices")
    print(f"  user actions  {row['actions_altered']:,} of {row['actions']:,} not made as in history")
    for window in run.tables["run_windows"].to_pylist():
        parts = [f"{money(window[f'{part}_bad_debt_base'], decimals)} {part}" for part in ("realised", "open", "peak")]
        loss = money(window["seized_base"] + window["protocol_fee_base"] - window["repaid_base"], decimals)
        when = "bad debt" if window["label"] == "end" else f"  {window['label']}"
        print(f"  {when:<12}  {', '.join(parts)}; borrowers' loss {loss} {currency}")
    for line in opportunities_of(lake, run.run_id, market=row["market"]):
        print(line)
    for line in cascade_lines(run.tables["run_cascades"].to_pylist(), symbols):
        print(line)
    if row["name"] == f"{scenario.name} ({run.run_id[:8]})":
        print(f"  Another run has the name '{scenario.name}': this one is '{row['name']}' (backtest runs rename).")
    elif scenario.name != row["name"]:
        print(f"  The same run is stored under the name '{row['name']}'.")
    print("Assumptions and warnings")
    for note in run.notes:
        print(f"  - {note}")
