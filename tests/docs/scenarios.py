"""Write the reference part of docs/scenarios.md from the types in backtest/scenario: ``python -m
tests.docs.scenarios``.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import inspect

from backtest import scenario
from backtest.protocols.registry import PROTOCOLS
from backtest.scenario import PARAMETERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/scenarios.md"
START, END = "<!-- reference: written by tests/docs/scenarios.py -->", "<!-- end of reference -->"
MITIGATIONS = [struct.__name__ for struct in get_args(scenario.Mitigation)]
TABLES = {
    "Scenario": "The file itself",
    "Observed": "`[liquidators]`",
    "Competitive": "`[liquidators]`",
    "PriorityGas": "`[liquidators]`",
    "SealedBid": "`[liquidators]`",
    "Participation": "`[liquidators]`",
    "LatencyRace": "`[liquidators]`",
    "Oev": "`[liquidators]`",
    "Searcher": "`[[liquidators.searchers]]`",
    "Costs": "`[costs]`",
    "Gas": "`[costs.gas]`",
    "Step": "`[[costs.gas.steps]]`",
    "Demand": "`[[costs.gas.demand]]`",
    "Slippage": "`[[costs.slippage]]`",
    "ProtocolsOwn": "`[mechanism]`",
    "FixedSpread": "`[mechanism]`",
    "HealthBonus": "`[mechanism]`",
    "TargetHealth": "`[mechanism]`",
    "HealthDutch": "`[mechanism]`",
    "Dutch": "`[mechanism]`",
    "Hybrid": "`[mechanism]`",
    "English": "`[mechanism]`",
    "Impact": "`[impact]`",
    "AssetImpact": "`[[impact.assets]]`",
    "NoDepth": "`[impact.assets.depth]`",
    "ConstantProductDepth": "`[impact.assets.depth]`",
    "LinearDepth": "`[impact.assets.depth]`",
    "SquareRootDepth": "`[impact.assets.depth]`",
    "BandsDepth": "`[impact.assets.depth]`",
    "QuotesDepth": "`[impact.assets.depth]`",
    "BookDepth": "`[impact.assets.depth]`",
    "StableSwapDepth": "`[impact.assets.depth]`",
    "PoolsDepth": "`[impact.assets.depth]`",
    "Thinning": "`[impact.assets.thinning]`",
    "ChainlinkRule": "`[impact.assets.oracle]`",
    "OsmRule": "`[impact.assets.oracle]`",
    "TwapRule": "`[impact.assets.oracle]`",
    "Users": "`[users]`",
    "FittedUsers": "`[users.fitted]`",
    "Hazard": "`[[users.fitted.hazards]]`",
    "Override": "`[[overrides]]`",
    "Joint": "`[joint]`",
    "ExchangeRate": "`[[joint.rates]]`",
    **dict.fromkeys(MITIGATIONS, "`[[mitigation]]`"),
}


def reference() -> str:
    """One table for each type: field, type, default, meaning."""
    sources = [
        ast.parse(path.read_text(encoding="utf-8")) for path in sorted(Path(scenario.__file__).parent.glob("*.py"))
    ]
    classes = {node.name: node for source in sources for node in source.body if isinstance(node, ast.ClassDef)}
    parts = []
    for name, title in TABLES.items():
        struct, node = getattr(scenario, name), classes[name]
        heading = f"{title} with {_kind(struct)}" if struct.__struct_config__.tag else title
        parts.append(f"### {heading}\n\n{_prose(ast.get_docstring(node) or '')}\n")
        meanings = {
            name: text
            for parent in reversed(struct.__mro__)
            if parent.__name__ in classes
            for name, text in _meanings(classes[parent.__name__]).items()
        }
        rows = [
            [f"`{field.name}`", _type(field.type), _default(field), meanings.get(field.name, "")]
            for field in msgspec.structs.fields(struct)
        ]
        parts.append(_table(["field", "type", "default", "meaning"], rows))
    parts.append(
        "### Parameters that can be overridden\n\nBasis points: 10000 = 100 %; a bonus is 10000 + bonus. A protocol has"
        " those of its own table, and a market's own rules may allow less.\n"
    )
    for protocol in PROTOCOLS.values():
        said = f"{protocol.parameters_said}\n\n" if protocol.parameters_said else ""
        rows = [
            [f"`{name}`", word.unit, str(word.low), str(word.high)]
            for name, word in PARAMETERS.items()
            if name in protocol.parameters
        ]
        table = _table(["parameter", "counts in", "from", "to"], rows)
        parts.append(f"#### {protocol.name}\n\n{said}{table}")
    return "\n".join(part for part in parts if part)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) if rows else ""


def _kind(struct: type[msgspec.Struct]) -> str:
    return f'`kind = "{struct.__struct_config__.tag}"`'


def page() -> str:
    """The page with its reference part as the types are now."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{head}{START}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


def _meanings(node: ast.ClassDef) -> dict[str, str]:
    """The string under each field."""
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = _prose(str(text.value.value))
    return found


def _prose(text: str) -> str:
    return " ".join(text.replace("See the module. ", "").split()).replace("``", "`")


def _type(kind: object) -> str:
    info = inspect.type_info(kind)
    if isinstance(info, inspect.VarTupleType) and isinstance(info.item_type, inspect.TupleType):
        return "pairs of whole numbers"
    return " or ".join(
        _words(part) for part in (info.types if isinstance(info, inspect.UnionType) else (info,)) if _words(part)
    )


def _words(info: inspect.Type) -> str:
    if isinstance(info, inspect.LiteralType):
        return ", ".join(f'`"{value}"`' for value in info.values)
    if isinstance(info, inspect.VarTupleType):
        return "tables"
    if isinstance(info, inspect.StructType):
        return _kind(info.cls) if info.cls.__struct_config__.tag else "table"
    return {"IntType": "whole number", "StrType": "text", "BoolType": "`true` or `false`", "NoneType": ""}[
        type(info).__name__
    ]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if isinstance(value, msgspec.Struct):
        return _kind(type(value)) if type(value).__struct_config__.tag else "its defaults"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value in (None, ()) else f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
