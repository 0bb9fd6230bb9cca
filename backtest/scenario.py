"""A scenario is one frozen value: what is replayed, by which liquidators, under which parameters.

Parsed strictly from TOML (unknown fields are errors with a did-you-mean) and hashed canonically: defaults are omitted,
so a new field with a default does not change the id of an old scenario.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import inspect

from backtest.errors import ScenarioError, did_you_mean

SCENARIO_VERSION = 1

_LARGEST = 2**63 - 1  # stored as 64-bit integers
T = TypeVar("T", bound=msgspec.Struct)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Observed(_Strict, frozen=True, tag_field="kind", tag="observed"):
    """Liquidators act exactly as in history."""


class Competitive(_Strict, frozen=True, tag_field="kind", tag="competitive"):
    """After each price, index or parameter change the most profitable liquidation happens at once, until none pays.

    Profit is valued at oracle prices; ties go to the lower account address.
    """

    gas_cost: int = 0
    """Cost of one call in base-currency units (1e8 = one US dollar on the main markets)."""
    pair: Literal["most-profitable", "largest-debt", "largest-collateral"] = "most-profitable"
    """How the pair of one account is chosen."""
    settle: Literal["underlying", "collateral-token"] = "underlying"
    """Whether the liquidator takes the underlying or the protocol's collateral token."""
    max_calls: int = 10
    """Most calls per account and block."""
    looks: Literal["any-change", "price-update"] = "any-change"
    """After which transactions they look: those that change a price, an index or a parameter (and, while offers stand that did not pay, a
    market price or a pool), or those that change an oracle price only."""

    def __post_init__(self) -> None:
        if self.gas_cost < 0:
            raise ScenarioError(f"liquidators.gas_cost = {self.gas_cost} is negative", "give base-currency units, 0 or more")
        if self.max_calls < 1:
            raise ScenarioError(f"liquidators.max_calls = {self.max_calls} lets nobody liquidate", "give 1 or more")


Liquidators = Observed | Competitive


class Users(_Strict, frozen=True):
    """What users do in a book that is no longer history's. Every historical action is checked again by the contract's rules."""

    response: Literal["frozen", "same-ltv", "same-health"] = "frozen"
    """Amounts of actions that raise risk: as in history, or so that the account uses the same share of its borrowing power, or has the
    same health factor afterwards."""
    refused: Literal["skip", "shrink"] = "skip"
    """An action that would revert is skipped, or shrunk to the largest amount allowed."""


RESPONSES: tuple[str, ...] = get_args(get_type_hints(Users)["response"])
"""Every way in which users may respond; the first is the headline of a comparison."""

PARAMETERS: dict[str, tuple[int, int]] = {
    "ltv": (0, 10_000),
    "liquidation_threshold": (0, 10_000),
    "liquidation_bonus": (10_000, 20_000),
    "liquidation_protocol_fee": (0, 10_000),
    "close_factor": (1, 10_000),
    "liquidation_ratio": (10_000, 100_000),
    "liquidation_penalty": (10_000, 20_000),
    "liquidation_system": (10, 20),
    "dust": (0, 10**12),
    "line": (0, 10**12),
    "lump": (0, 10**12),
    "dunk": (0, 10**12),
    "box": (0, 10**12),
    "hole": (0, 10**12),
    "global_hole": (0, 10**12),
    "beg": (10_000, 20_000),
    "ttl": (1, 10**8),
    "tau": (1, 10**8),
    "buf": (10_000, 100_000),
    "tail": (0, 10**8),
    "cusp": (0, 10_000),
    "chip": (0, 10_000),
    "tip": (0, 10**12),
    "calc": (0, 2),
    "calc_tau": (1, 10**8),
    "step": (1, 10**8),
    "cut": (0, 10_000),
}
"""Parameters that may be overridden, and the least and greatest value of each: basis points; from ``dust`` on amounts are whole tokens, times
seconds (those of Maker, ``backtest.protocols.maker.params``). The protocol says which of them it has."""

_OF_ASSETS = ("ltv", "liquidation_threshold", "liquidation_bonus", "liquidation_protocol_fee")
MARKET_WIDE = frozenset(PARAMETERS) - frozenset(_OF_ASSETS)
"""Parameters that are one for the whole market."""

_EMODE_PARAMETERS = ("ltv", "liquidation_threshold", "liquidation_bonus")


class Override(_Strict, frozen=True):
    """One changed parameter: from a block on, at once or in equal steps. Values in basis points; a bonus is 10000 + bonus (10500 = 5 %)."""

    parameter: str
    """See below."""
    value: int | None = None
    """What it becomes, basis points; or give ``change``."""
    change: int | None = None
    """By how much it changes, basis points: added to what history has, also later."""
    asset: str | None = None
    """Symbol or address; None: every asset."""
    emode: int | Literal["all"] | None = None
    """E-mode category whose parameter this is; None: the assets' own parameters, which leave accounts in an e-mode alone; "all": both, the
    assets' own and those of every category that has the asset as collateral."""
    from_block: int = 0
    """First block in which it holds; of a ramp, the block where it starts from history's value."""
    until_block: int | None = None
    """A ramp: the block from which it holds in full. Step k of n holds from the block at k/n of the way on."""
    from_time: str | None = None
    """Instead of ``from_block``: a date or a time of day, UTC (2020-03-12 or 2020-03-12T08:00:00)."""
    until_time: str | None = None
    """Instead of ``until_block``."""
    steps: int = 1
    """Of a ramp: how many equal steps it takes, each rounded towards history's value."""

    def __post_init__(self) -> None:
        name = self.parameter
        if name not in PARAMETERS:
            raise ScenarioError(f"unknown parameter '{name}' in an override", did_you_mean(name, PARAMETERS))
        low, high = PARAMETERS[name]
        if (self.value is None) == (self.change is None):
            raise ScenarioError(f"override {name}: {'neither' if self.value is None else 'both'} value and change", "give one of them")
        if self.value is not None and not low <= self.value <= high:
            hint = "; a bonus is 10000 + bonus" if name == "liquidation_bonus" else ""
            raise ScenarioError(f"override {name} = {self.value} is out of range", f"give basis points from {low} to {high}{hint}")
        if self.emode is not None and name not in _EMODE_PARAMETERS:
            raise ScenarioError(f"override {name}: e-mode categories have no such parameter", f"they have {', '.join(_EMODE_PARAMETERS)}")
        if isinstance(self.emode, int) and self.asset is not None:
            raise ScenarioError(f"override {name}: asset '{self.asset}' and e-mode {self.emode} together", "give one of them")
        if name in MARKET_WIDE and self.asset is not None:
            raise ScenarioError(f"override {name}: it is one for the whole market", "leave the asset out")
        self._check_moments()

    def _check_moments(self) -> None:
        name = self.parameter
        if self.from_block < 0 or (self.until_block or 0) < 0:
            raise ScenarioError(f"override {name}: a block below zero", "give a block number")
        for block, field in ((self.from_block, "from"), (self.until_block, "until")):
            time = self.from_time if field == "from" else self.until_time
            if block and time is not None:
                raise ScenarioError(f"override {name}: {field}_block and {field}_time together", "give one of them")
            if time is not None:
                seconds_of(time, f"override {name}: {field}_time")
        ramp = self.until_block is not None or self.until_time is not None
        if self.steps < 1 or (self.steps > 1 and not ramp):
            raise ScenarioError(f"override {name}: steps = {self.steps} without an end", "give until_block or until_time, and 1 step or more")
        if self.until_block is not None and self.from_time is None and self.until_block <= self.from_block:
            raise ScenarioError(f"override {name}: until_block = {self.until_block} is not after from_block = {self.from_block}", "swap them")


def seconds_of(text: str, where: str) -> int:
    """A date or time of day in UTC as seconds since 1970; ScenarioError names ``where``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ScenarioError(f"{where} = '{text}' is no date", "write 2020-03-12 or 2020-03-12T08:00:00, in UTC") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class Scenario(_Strict, frozen=True):
    """The default scenario is history itself."""

    name: str = "history"
    """What tables and charts call the run; not part of the run id."""
    liquidators: Liquidators = Observed()
    """Who liquidates."""
    overrides: tuple[Override, ...] = ()
    """Changed parameters."""
    users: Users = Users()
    """How users behave."""
    rates: Literal["historical", "recomputed"] = "historical"
    """Interest: indexes as recorded, or following this book's utilisation through the market's own rate strategy."""
    allow_invalid: bool = False
    """Let overrides pass that the market's configurator would refuse."""
    oracle_delay: int | None = None
    """Seconds from a market price to the oracle's, for markets whose oracle is known by market prices; None: the protocol's own."""
    from_block: int | None = None
    """First block in which the model acts; before it history runs as observed. None: from the start."""
    to_block: int | None = None
    """Last block replayed; None: the last one the lake covers."""
    seed: int = 0
    """Seed of random draws, for models that draw."""

    def __post_init__(self) -> None:
        if isinstance(self.liquidators, Observed) and (self.overrides or self.oracle_delay is not None):
            raise ScenarioError(
                "'observed' liquidators with overrides: history's liquidators did not see the changed parameters or prices",
                "use liquidators kind = 'competitive', and compare with a competitive run without overrides",
            )
        if self.oracle_delay is not None and self.oracle_delay < 0:
            raise ScenarioError(f"oracle_delay = {self.oracle_delay} is negative", "give seconds, 0 or more")
        for name, block in (("from_block", self.from_block), ("to_block", self.to_block)):
            if block is not None and block < 0:
                raise ScenarioError(f"{name} = {block} is negative", "give a block number")
            if block is not None and block > _LARGEST:
                raise ScenarioError(f"{name} = {block} is no block number", "give one below 2^63")
        if not 0 <= self.seed <= _LARGEST:
            raise ScenarioError(f"seed = {self.seed} is negative or too large", "give a whole number from 0 to 2^63 - 1")
        if self.from_block is not None and self.to_block is not None and self.from_block > self.to_block:
            raise ScenarioError(f"from_block = {self.from_block} is after to_block = {self.to_block}", "swap them")

    @property
    def alters(self) -> bool:
        """Whether it changes the market itself, so that it is compared with the same scenario that does not."""
        return bool(self.overrides) or self.oracle_delay is not None

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, defaults omitted, scenario version included; the name is not part of it."""
        body = _without_defaults(self)
        body.pop("name", None)
        body["version"] = SCENARIO_VERSION
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of ``canonical()``, hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def _without_defaults(value: Any) -> Any:
    """A value as plain JSON types, fields equal to their defaults left out (msgspec's own omit_defaults compares by identity)."""
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    config = type(value).__struct_config__
    body = {config.tag_field: config.tag} if config.tag_field else {}
    for field in msgspec.structs.fields(value):
        own = getattr(value, field.name)
        if field.required or own != field.default:
            body[field.encode_name] = _without_defaults(own)
    return body


def parse_scenario(text: str, where: str) -> Scenario:
    """A scenario from TOML text; ``where`` names its file in errors. ScenarioError, one line, for anything not understood."""
    return parse_toml(text, Scenario, where)


def parse_toml(text: str, kind: type[T], where: str) -> T:
    """A struct that is a scenario or holds one, from TOML text; errors as those of ``parse_scenario``."""
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise explained(error, msgspec.toml.decode(text), where, kind) from None
    except msgspec.DecodeError as error:
        raise ScenarioError(f"{where} is not TOML: {error}", "see docs/scenarios.md") from None
    except ScenarioError as error:
        raise ScenarioError(f"{where}: {error.what}", error.fix) from None


_SET = re.compile(
    r"(?:(?P<scope>[^=@]+)\.)?(?P<parameter>\w+?)(?P<relative>[+-]?)=(?P<value>[\d_]+)"
    r"(?:@(?P<start>[\w:-]+)(?:\.\.(?P<end>[\w:-]+)(?:/(?P<steps>\d+))?)?)?"
)


def parse_override(text: str) -> Override:
    """``[ASSET.|ASSET+emode.|emodeN.]PARAMETER[+|-]=VALUE[@FROM[..UNTIL[/STEPS]]]``, as on the command line.

    ``WETH.liquidation_threshold=8000@19000000``; relative ``WETH.liquidation_threshold-=300``; a ramp
    ``WETH.ltv=7000@2024-01-01..2024-02-01/10``. FROM and UNTIL are blocks or dates.
    """
    match = _SET.fullmatch(text.strip())
    if match is None:
        raise ScenarioError(f"--set '{text}' is not understood", "write ASSET.parameter=value, for example WETH.liquidation_threshold=8000")
    scope: str = match["scope"] or ""
    emode: int | Literal["all"] | None = None
    if numbered := re.fullmatch(r"emode(\d+)", scope):
        scope, emode = "", int(numbered[1])
    elif scope.endswith("+emode"):
        scope, emode = scope.removesuffix("+emode"), "all"
    amount = int(match["value"])
    start, end = _moment(match["start"], "from"), _moment(match["end"], "until")
    return Override(
        parameter=match["parameter"],
        value=None if match["relative"] else amount,
        change={"+": amount, "-": -amount}.get(match["relative"]),
        asset=scope or None,
        emode=emode,
        steps=int(match["steps"] or 1),
        **start,
        **end,
    )


def _moment(text: str | None, field: str) -> dict[str, Any]:
    """The field of a block or of a time."""
    if text is None:
        return {}
    return {f"{field}_block": int(text)} if re.fullmatch(r"[\d_]+", text) else {f"{field}_time": text}


_FIELD = re.compile(r"unknown field `(?P<name>[^`]+)`")
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def explained(error: msgspec.ValidationError, document: Any, where: str, kind: type[msgspec.Struct] = Scenario) -> ScenarioError:
    """A validation error of a document that should be of a kind, as one line: file, place, what is wrong, the nearest thing that would be right."""
    message = str(error)
    found = _PATH.search(message)
    path = found["path"] if found else ""
    what = message[: found.start()] if found else message
    unknown = _FIELD.search(what)
    if unknown is not None:
        known = _fields_at(path, document, kind)
        place = f"{path}." if path else ""
        return ScenarioError(f"{where}: unknown field '{place}{unknown['name']}'", did_you_mean(unknown["name"], known))
    inner = path.removeprefix("scenario.")
    if inner == "liquidators.kind" or (inner == "liquidators" and "kind" in what):
        tag = re.search(r"'([^']*)'", what)
        named = tag[1] if tag else ""
        return ScenarioError(f"{where}: unknown liquidators '{named}'", did_you_mean(named, _kinds()))
    return ScenarioError(f"{where}: {path or 'scenario'}: {what}", "see docs/scenarios.md")


def _kinds() -> list[str]:
    """The tags of all liquidator models."""
    return [str(part.tag) for part in _structs(inspect.type_info(Liquidators))]


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """The structs that a value of this type may be, or hold."""
    if isinstance(kind, inspect.StructType):
        return [kind]
    if isinstance(kind, inspect.UnionType):
        return [part for member in kind.types for part in _structs(member)]
    if isinstance(kind, inspect.VarTupleType):
        return _structs(kind.item_type)
    return []


def _fields_at(path: str, document: Any, kind: type[msgspec.Struct]) -> list[str]:
    """The fields that the table at ``path`` of a document may have, given its ``kind`` where there are several."""
    parts = _structs(inspect.type_info(kind))
    for step in re.findall(r"\w+|\[\d+\]", path):
        if step.startswith("["):
            document = document[int(step[1:-1])]
            continue
        document = document[step]
        parts = [part for parent in parts for field in parent.fields if field.encode_name == step for part in _structs(field.type)]
    if isinstance(document, dict) and "kind" in document:
        parts = [part for part in parts if part.tag == document["kind"]]
    return [field.encode_name for part in parts for field in part.fields]
