"""Tables and words of the page and of the command line: text made from exact numbers, computed in SQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from backtest.prices.imported import IN_SAMPLE
from backtest.report.queries import LARGEST, PAIRS
from backtest.report.selection import Row, Selection
from backtest.scenario.overrides import PARAMETERS

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """``header`` and ``rows`` of cells; the first column is text, all others are numbers, but those whose places are in
    ``words``. A cell may have further lines (after newlines).

    A row of one cell is the title of the rows below it.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset()


def money(value: object, decimals: int) -> str:
    """Base-currency units as whole units with thousands separators, with cents below a thousand; halves away from
    zero.
    """
    if value is None:
        return MISSING
    units = int(value)  # type: ignore[call-overload]
    places = 0 if abs(units) >= 1000 * 10**decimals else min(2, decimals)
    shift = 10 ** (decimals - places)
    rounded = (abs(units) + shift // 2) // shift
    whole, rest = divmod(rounded, 10**places)
    sign = "−" if units < 0 and rounded else ""
    return f"{sign}{whole:,}" + (f".{rest:0{places}d}" if places and rounded else "")


def count(value: object) -> str:
    """A whole number with thousands separators."""
    return MISSING if value is None else f"{int(value):,}"  # type: ignore[call-overload]


def moment(timestamp: int) -> str:
    """Seconds since 1970 as date and time, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


def change(value: object, base: object, kind: str, decimals: int) -> str:
    """Difference to the base, signed, with per cent where the base is not zero."""
    if value is None or base is None:
        return ""
    difference = int(value) - int(base)  # type: ignore[call-overload]
    if not difference:
        return "same"
    text = money(abs(difference), decimals) if kind == "money" else count(abs(difference))
    sign = "+" if difference > 0 else "−"
    return f"{sign}{text} ({_share(sign, abs(difference) / abs(int(base)))})" if base else f"{sign}{text}"  # type: ignore[call-overload]


def _share(sign: str, share: float) -> str:
    """Signed per cent, with one decimal where that says something."""
    return "<0.1%" if share < 0.001 else f"{sign}{share:.1%}" if share < 10 else f"{sign}{share:,.0%}"


def pairs(selection: Selection) -> Table:
    """Liquidations of the main run by collateral and debt asset."""
    decimals = selection.decimals
    return Table(
        (
            "Collateral / debt",
            "Liquidations",
            "Accounts",
            "Debt repaid",
            "Received",
            "Protocol fee",
            "Cost to borrowers",
        ),
        tuple(
            (
                f"{row['collateral']} / {row['debt']}",
                count(row["liquidations"]),
                count(row["accounts"]),
                *(money(row[key], decimals) for key in ("repaid", "seized", "fee", "cost")),
            )
            for row in selection.fill(PAIRS)
        ),
    )


def largest(selection: Selection) -> Table:
    """The ten accounts that the main run liquidated for most."""
    return Table(
        (
            "Account",
            "First (UTC)",
            "Liquidations",
            "Debt repaid",
            "Share",
            "Received",
            "Cost to borrower",
            "Lowest health before",
        ),
        tuple(
            (
                row["account"],
                moment(row["first_time"])[:16],
                count(row["liquidations"]),
                money(row["repaid"], selection.decimals),
                f"{row['share']:.1%}",
                money(row["seized"], selection.decimals),
                money(row["cost"], selection.decimals),
                MISSING if row["lowest_health"] is None else f"{int(row['lowest_health']) / 1e18:.4f}",
            )
            for row in selection.fill(LARGEST)
        ),
    )


def describe(scenario: str, decimals: int, currency: str, symbols: Mapping[str, str]) -> str:
    """A canonical scenario (JSON, defaults omitted) in words. ``symbols`` names assets that it gives by address."""
    body = json.loads(scenario)
    liquidators = dict(body.get("liquidators") or {"kind": "observed"})
    kind = liquidators.pop("kind", "observed")
    parts = ["liquidators as in history" if kind == "observed" else f"{kind} liquidators"]
    if "gas_cost" in liquidators:
        parts.append(f"gas cost {money(liquidators.pop('gas_cost'), decimals)} {currency} a call")
    if isinstance(named := liquidators.get("searchers"), list):
        liquidators["searchers"] = ", ".join(searcher["name"] for searcher in named)
    parts += [
        f"{name.replace('_', ' ')} {_with_unit(name, value, decimals, currency)}"
        for name, value in sorted(liquidators.items())
    ]
    parts += _costs(body.get("costs") or {})
    if mechanism := body.get("mechanism"):
        terms = ", ".join(
            f"{name.replace('_', ' ')} {_with_unit(name, value, decimals, currency)}"
            for name, value in sorted(mechanism.items())
            if name != "kind"
        )
        parts.append(f"settled by {mechanism['kind']}{f' ({terms})' if terms else ''}")
    if answering := (body.get("impact") or {}).get("assets"):
        parts.append(_impact(answering, body["impact"].get("netting", "baseline"), symbols))
    users = body.get("users") or {}
    if users.get("response"):
        parts.append(f"users respond ({users['response']})")
    if users.get("refused") == "shrink":
        parts.append("refused actions are shrunk")
    if body.get("rates") == "recomputed":
        parts.append("interest recomputed")
    if body.get("oracle_delay") is not None:
        parts.append(f"oracle delay {body['oracle_delay']} s")
    if joint := body.get("joint"):
        parts.append(f"together: {', '.join(joint['markets'])}")
        parts += [f"one {rate['currency']} is {rate['worth']}" for rate in joint.get("rates", ())]
        parts += ["a purse in each market"] if joint.get("purse") == "each" else []
    parts += [_override(override, symbols) for override in body.get("overrides", ())]
    parts += [f"mitigated by {mitigation['kind']}" for mitigation in body.get("mitigation", ())]
    parts += [
        f"{name.replace('_', ' ')} {body[name]}" for name in ("from_block", "to_block") if body.get(name) is not None
    ]
    return "; ".join(parts)


def _impact(assets: Sequence[Mapping[str, Any]], netting: str, symbols: Mapping[str, str]) -> str:
    """Whose prices answer to sales, by which depth."""
    named = (
        f"{symbols.get(entry['asset'], entry['asset'])} ({(entry.get('depth') or {'kind': 'none'})['kind']})"
        for entry in assets
    )
    return f"prices of {', '.join(named)} answer to sales, {netting} netted out"


_SHARES = frozenset(
    {
        "bump",
        "close_factor",
        "coverage",
        "cusp",
        "cut",
        "buf",
        "front_run",
        "lane_fee",
        "least",
        "most",
        "oracle_share",
        "protocol_share",
        "reserve",
        "revert_gas",
    }
)
_BONUSES = frozenset({"beg", "bonus"})
_PARTS = frozenset({"dispersion", "lowest", "mean", "target"})
_MILLISECONDS = frozenset({"advantage", "floor", "temperature"})
_MECHANISM_SECONDS = {name for name, word in PARAMETERS.items() if word.unit == "seconds"} | {"block_seconds"}


def _with_unit(name: str, value: Any, decimals: int, currency: str) -> str:
    """A field of liquidators or of a mechanism as people read it."""
    if isinstance(value, dict):
        inner = (f"{key.replace('_', ' ')} {_with_unit(key, own, decimals, currency)}" for key, own in value.items())
        return f"({', '.join(inner)})"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    if name in ("private_cost", "dust"):
        return f"{'up to ' if name == 'private_cost' else ''}{money(value, decimals)} {currency}"
    if name in _SHARES:
        return f"{value / 100:g}\u00a0%"
    if name in _BONUSES:
        return f"{(value - 10_000) / 100:g}\u00a0%"
    if name in _PARTS:
        return f"{value / 10_000:g}"
    return f"{value} ms" if name in _MILLISECONDS else f"{value} s" if name in _MECHANISM_SECONDS else str(value)


def _costs(costs: Row) -> Iterator[str]:
    """What liquidations cost, in words."""
    if (gas := costs.get("gas")) is not None:
        fee = f"{gas['base_fee'] / 1e9:g} gwei" if "base_fee" in gas else gas.get("fee", "historical")
        yield f"gas {fee}" + (f" x {gas['spike']}" if "spike" in gas else "")
    for entry in costs.get("slippage", ()):
        yield f"slippage {entry['model']}" + (f" of {entry['asset']}" if "asset" in entry else "")
    for name, what in (("flash_fee", "flash loans at"), ("sandwich", "sandwiches of")):
        if name in costs:
            yield f"{what} {costs[name] / 100:g}\u00a0%"


def _override(override: Row, symbols: Mapping[str, str]) -> str:
    name, asset, emode = override["parameter"], override.get("asset"), override.get("emode")
    of = "every asset" if asset is None else symbols.get(asset.lower(), asset)
    if emode is not None:
        of = f"{of} and e-modes" if emode == "all" else f"e-mode {emode}"
    unit = PARAMETERS[name].unit
    if unit != "basis points":
        sign = "=" if override.get("change") is None else "+" if override["change"] > 0 else "−"
        amount = override["value"] if sign == "=" else abs(override["change"])
        size = f"{sign} {amount:,}{'' if unit == 'a code' else f' {unit}'}"
    elif override.get("change") is not None:
        size = f"{'+' if override['change'] > 0 else '−'}{abs(override['change']) / 100:.2f} points"
    else:
        size = (
            f"= {(override['value'] - 10_000 if name == 'liquidation_bonus' else override['value']) / 100:.2f}\u00a0%"
        )
    moments = [_moment(override, "from"), _moment(override, "until")]
    steps = f" in {override['steps']} steps" if override.get("steps", 1) > 1 else ""
    return f"{name.replace('_', ' ')} of {of} {size}{''.join(moments)}{steps}"


def _moment(override: Row, which: str) -> str:
    time, block = override.get(f"{which}_time"), override.get(f"{which}_block")
    return f" {which} {time}" if time else f" {which} block {block}" if block else ""


def notes_of(run: Row) -> list[str]:
    """The assumptions and warnings that a run states."""
    stated: list[str] = json.loads(run["notes"])
    return stated


def data_flags(runs: Sequence[Row]) -> list[str]:
    """What kind of data the runs rest on, where that is not plain history."""
    flags = ["synthetic data: not a real market"] if any(run["synthetic"] for run in runs) else []
    in_sample = any(IN_SAMPLE in note for run in runs for note in notes_of(run))
    flags += [f"oracle prices {IN_SAMPLE}: from the history that this is held against"] if in_sample else []
    proxy = any(run["proxy_prices"] for run in runs) and not in_sample
    flags += ["proxy prices: a venue's in place of the oracle's"] if proxy else []
    gone = sorted({run["superseded"] for run in runs if run.get("superseded")})
    return flags + [f"superseded data: {blocks} were fetched again since and came out otherwise" for blocks in gone]


def labels_of(runs: Sequence[Row]) -> list[str]:
    """A short distinct name per run: its own; where two share it with who liquidates, and with the first digits of its
    id where that is the same too.
    """
    kinds: dict[str, set[str]] = {}
    for run in runs:
        kinds.setdefault(run["name"], set()).add(_liquidators(run))
    names = [run["name"] if len(kinds[run["name"]]) == 1 else f"{run['name']} ({_liquidators(run)})" for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} {run['run_id'][:8]}" for name, run in zip(names, runs, strict=True)
    ]


def _liquidators(run: Row) -> str:
    body = json.loads(run.get("scenario") or "{}")
    return str((body.get("liquidators") or {}).get("kind", "observed"))


def as_text(table: Table, width: int | None = None) -> str:
    """The table for a terminal: columns aligned, second lines of cells below their first. Where it is wider than
    ``width`` (by default that of the terminal, else 200), long cells take several lines, then columns stand in blocks
    below each other, each with the first.
    """
    limit = width or (get_terminal_size((200, 24)).columns if sys.stdout.isatty() else 200)
    table = _wrapped(table, max(24, limit // 3)) if _width(table) > limit else table
    blocks: list[Table] = []
    columns = list(range(1, len(table.header)))
    while columns:
        taken = columns[:1]
        while len(taken) < len(columns) and _width(_only(table, columns[: len(taken) + 1])) <= limit:
            taken = columns[: len(taken) + 1]
        blocks.append(_only(table, taken))
        columns = columns[len(taken) :]
    return "\n\n".join(map(_aligned, blocks or [table]))


def _only(table: Table, columns: Sequence[int]) -> Table:
    """The first column, and these."""
    rows = tuple(row if len(row) == 1 else (row[0], *(row[i] for i in columns)) for row in table.rows)
    words = frozenset(place for place, column in enumerate(columns, 1) if column in table.words)
    return Table((table.header[0], *(table.header[i] for i in columns)), rows, words)


def _width(table: Table) -> int:
    return max(map(len, _aligned(table).split("\n")))


def _wrapped(table: Table, width: int) -> Table:
    """The table with cells of at most so many characters a line."""
    return Table(
        table.header,
        tuple(
            row
            if len(row) == 1
            else tuple(
                "\n".join(part for line in cell.split("\n") for part in wrap(line, width) or [""]) for cell in row
            )
            for row in table.rows
        ),
        table.words,
    )


def _aligned(table: Table) -> str:
    lines = _split(table.header)
    rule = len(lines)
    blank = ("",) * len(table.header)
    for place, row in enumerate(table.rows):
        title = len(row) == 1
        lines += [blank] * (title and place > 0)
        lines += _split((*row, *blank[1:]) if title else row)
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 or i in table.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*text[:rule], "-" * (sum(widths) + 2 * len(widths) - 2), *text[rule:]])


def _split(row: Sequence[str]) -> list[tuple[str, ...]]:
    """The printed lines of a row."""
    cells = [cell.split("\n") for cell in row]
    return [tuple(cell[i] if i < len(cell) else "" for cell in cells) for i in range(max(map(len, cells)))]
