"""A scenario from TOML text, and what is wrong with a text that is none, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from backtest import foreign
from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import PARAMETERS, Liquidators, Mechanism, Mitigation, Scenario
from backtest.scenario.base import LARGEST
from backtest.scenario.impact import Depth, OracleRule
from backtest.scenario.overrides import meant

T = TypeVar("T", bound=msgspec.Struct)


def parse_scenario(text: str, where: str) -> Scenario:
    """A scenario from TOML text; ``where`` names its file in errors. ScenarioError, one line, for anything not
    understood.
    """
    return parse_toml(text, Scenario, where)


def parse_toml(text: str, kind: type[T], where: str, docs: str = "docs/scenarios.md") -> T:
    """A struct that is a scenario or holds one, from TOML text; errors as those of ``parse_scenario``. ``docs``: the
    page that says what such a text holds.
    """
    where = foreign.shown(where)
    try:
        made: T = foreign.toml_value(text, kind)
        return made
    except foreign.Unreadable as error:
        if isinstance(error.__cause__, msgspec.ValidationError):
            raise explained(error.__cause__, foreign.toml_value(text), where, kind, docs) from None
        raise ScenarioError(f"{where} is not TOML: {error}", f"see {docs}") from None
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {_placed(error.what, foreign.toml_value(text))}", error.fix) from None


def _placed(what: str, document: Any) -> str:
    """What is wrong with ``Struct.field``, said of its place in the document, where only one can be meant."""
    found = re.match(r"[A-Z]\w*\.(\w+)(?= is no number)", what)
    places = [] if found is None else list(_too_large(document, "", found[1].rstrip("_")))
    return what if found is None or len(places) != 1 else places[0] + what[found.end() :]


def _too_large(value: Any, path: str, field: str) -> Iterator[str]:
    """The paths of a document that end in a field whose whole numbers do not fit into 64 bits."""
    if isinstance(value, dict):
        for name, part in value.items():
            below = f"{path}.{name}" if path else name
            if name == field and _beyond(part):
                yield below
            else:
                yield from _too_large(part, below, field)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _too_large(part, f"{path}[{index}]", field)


def _beyond(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_beyond, value))
    return isinstance(value, int) and abs(value) > LARGEST


_FIELD = re.compile(r"unknown field `(?P<name>[^`]+)`")
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def explained(
    error: msgspec.ValidationError,
    document: Any,
    where: str,
    kind: type[msgspec.Struct] = Scenario,
    docs: str = "docs/scenarios.md",
) -> ScenarioError:
    """A validation error of a document that should be of a kind, as one line: file, place, what is wrong, the nearest
    thing that would be right.
    """
    message = foreign.shown(str(error), 500)
    found = _PATH.search(message)
    path = found["path"] if found else ""
    what = message[: found.start()] if found else message
    unknown = _FIELD.search(what)
    if unknown is not None:
        known = _fields_at(path, document, kind)
        place = f"{path}." if path else ""
        return ScenarioError(f"{where}: unknown field '{place}{unknown['name']}'", did_you_mean(unknown["name"], known))
    inner = path.removeprefix("scenario.")
    for field, union in (("liquidators", Liquidators), ("mechanism", Mechanism), ("mitigation", Mitigation)):
        place = re.sub(r"\[\d+\]", "", inner)
        if place == f"{field}.kind" or (place == field and "kind" in what):
            return _unknown_kind(where, field, what, kinds_of(union))
    for field, union in (("depth", Depth), ("oracle", OracleRule)):
        if re.fullmatch(rf"impact\.assets\[\d+\]\.{field}(\.kind)?", inner) and "kind" in message:
            return _unknown_kind(where, field, what, kinds_of(union))
    tag = re.fullmatch(r"Invalid value '([^']*)'", what)
    above, _, field = path.rpartition(".")
    tags = [str(part.tag) for part in _parts_at(above, document, kind) if part.tag_field == field] if tag else []
    if tag and tags:
        return ScenarioError(f"{where}: {path}: unknown '{tag[1]}'", did_you_mean(tag[1], tags))
    place = path or ("scenario" if kind is Scenario else "")
    return ScenarioError(
        f"{where}: {place}: {what}" if place else f"{where}: {what}", _unit(inner, document) or f"see {docs}"
    )


def _unknown_kind(where: str, field: str, what: str, known: list[str]) -> ScenarioError:
    tag = re.search(r"'([^']*)'", what)
    named = tag[1] if tag else ""
    return ScenarioError(
        f"{where}: unknown {field} '{named}'" if named else f"{where}: {field} says no kind", did_you_mean(named, known)
    )


def _unit(path: str, document: Any) -> str:
    """The remedy for a value of an override that is written in another unit."""
    found = re.fullmatch(r"overrides\[(\d+)\]\.(value|change)", path)
    if found is None:
        return ""
    override = (document.get("scenario") or document)["overrides"][int(found[1])]
    parameter, value = override.get("parameter"), override[found[2]]
    if not isinstance(parameter, str) or parameter not in PARAMETERS or not isinstance(value, float | str):
        return ""
    return meant(parameter, str(value), absolute=found[2] == "value")


def kinds_of(union: Any) -> list[str]:
    """The tags of all structs of a union: of liquidator models, or of mechanisms."""
    return [str(part.tag) for part in _structs(inspect.type_info(union))]


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """The structs that a value of this type may be, or hold."""
    if isinstance(kind, inspect.StructType):
        return [kind]
    if isinstance(kind, inspect.UnionType):
        return [part for member in kind.types for part in _structs(member)]
    if isinstance(kind, inspect.VarTupleType):
        return _structs(kind.item_type)
    return []


def _parts_at(path: str, document: Any, kind: type[msgspec.Struct]) -> list[inspect.StructType]:
    """What the table at ``path`` of a document may be, given its tag where there are several."""
    parts = _structs(inspect.type_info(kind))
    for step in re.findall(r"\w+|\[\d+\]", path):
        if step.startswith("["):
            document = document[int(step[1:-1])]
            continue
        document = document[step]
        parts = [
            part
            for parent in parts
            for field in parent.fields
            if field.encode_name == step
            for part in _structs(field.type)
        ]
    tagged = [
        part
        for part in parts
        if isinstance(document, dict) and part.tag_field in document and part.tag == document[part.tag_field]
    ]
    return tagged or parts


def _fields_at(path: str, document: Any, kind: type[msgspec.Struct]) -> list[str]:
    """The fields that the table at ``path`` of a document may have."""
    return [field.encode_name for part in _parts_at(path, document, kind) for field in part.fields]
