"""An ensemble as a file: draws of who liquidates, with weights, in the words of a scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from backtest.calibration.fitting import toml
from backtest.scenario import Costs, Liquidators
from backtest.scenario.ensemble import FittedOn
from backtest.scenario.toml import parse_scenario


def ensemble_text(
    notes: Sequence[str],
    title: str,
    source: str,
    draws: Sequence[tuple[float, Liquidators]],
    costs: Costs,
    fitted: Sequence[FittedOn] = (),
) -> str:
    """TOML: what it rests on as comments, ``title``, ``source`` and what it was ``fitted`` on, and a ``[[draw]]`` for
    each draw: its weight, its ``liquidators`` and, where they are not nothing, the ``costs`` that all share.

    Raises:
        ScenarioError: what was written would not be read back as it is.
    """
    lines = [*(f"# {note}".rstrip() for note in notes), "", f"title = {toml(title)}", f"source = {toml(source)}"]
    if fitted:
        tables_of = [said(each) for each in fitted]
        lines.append(f"fitted = {toml(tables_of if len(tables_of) > 1 else tables_of[0])}")
    for weight, liquidators in draws:
        tables = [f"liquidators = {toml(said(liquidators))}"]
        if costs != Costs():
            tables.append(f"costs = {toml(said(costs))}")
        read = parse_scenario("\n".join(tables), "a draw")
        assert (read.liquidators, read.costs) == (liquidators, costs)
        lines += ["", "[[draw]]", f"weight = {weight:.6f}", *tables]
    return "\n".join(lines) + "\n"


def said(part: msgspec.Struct) -> dict[str, Any]:
    """A part of a scenario in the words of a file: its kind, and the fields that are not what holds without them."""
    tag = part.__struct_config__
    found: dict[str, Any] = {} if tag.tag is None else {str(tag.tag_field): tag.tag}
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if value is not None and (field.required or value != field.default):
            found[field.encode_name] = _words(value)
    return found


def _words(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return said(value)
    if isinstance(value, tuple | list):
        return [_words(each) for each in value]
    return {key: _words(each) for key, each in value.items()} if isinstance(value, Mapping) else value
