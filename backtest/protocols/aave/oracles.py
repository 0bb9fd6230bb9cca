"""Which source an ``AaveOracle`` takes each asset's price from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.model import SourceChange
from backtest.protocols.aave.columns import address_text
from backtest.protocols.interface import RawEvents
from backtest.units import WAD

_NONE = "0x" + "00" * 20


@dataclass(slots=True)
class _Oracle:
    """One ``AaveOracle`` as its logs tell it so far. ``currency`` is priced at ``unit`` without a source."""

    sources: dict[str, str] = field(default_factory=dict)
    fallback: str = _NONE
    currency: str = _NONE
    unit: int = 0


def _chain(known: Mapping[str, _Oracle], oracle: str, asset: str) -> tuple[str, tuple[str, ...], bool, int | None]:
    """The oracle, the sources that are asked for an asset's price in order, whether an oracle that logs nothing of
    itself is asked after them, and a price by definition.
    """
    sources: list[str] = []
    asked, at = set(), oracle
    while at != _NONE and at not in asked:  # oracles that fall back on each other have no answer
        asked.add(at)
        if at not in known and at != oracle:
            return oracle, tuple(sources), True, None
        own = known.get(at, _Oracle())
        if asset == own.currency:
            return (oracle, tuple(sources), bool(sources), None if sources else own.unit)
        if (source := own.sources.get(asset, _NONE)) != _NONE:
            sources.append(source)
        at = own.fallback
    return oracle, tuple(sources), False, None


def price_sources(
    raw: RawEvents, listed: Sequence[tuple[str, str]], currencies: Sequence[str] = ("BaseCurrencySet",)
) -> list[SourceChange]:
    """See ``LendingProtocol.price_sources``: sources of the oracle that ``PriceOracleUpdated`` put in force, and of the
    oracles that it falls back on.

    An oracle sets its first sources in its constructor, before it is put in force: they take effect then. Where the
    history names no oracle at all, the first one that set a source is the market's. The base currency's price is its
    unit; else the source's answer counts if it is above zero, and else what the fallback says, by the same rule
    (``misc/AaveOracle.sol`` ``getAssetPrice`` of protocol-v2, aave-v3-core
    and aave-v3-origin, all versions). A fallback that logs
    nothing of itself is ``untold``.

    Args:
        listed: events that name an asset whose price somebody asks for, and the column of its address.
        currencies: events by which an oracle says its base currency; ``WethSet`` is of the first oracles of V2, whose
            WETH is one by definition.
    """
    events = ("PriceOracleUpdated", "AssetSourceUpdated", "FallbackOracleUpdated", *currencies)
    logs: list[tuple[str, dict[str, Any]]] = [(event, row) for event in events for row in raw.table(event).to_pylist()]
    named = any(event == "PriceOracleUpdated" for event, _ in logs)
    for event, column in listed:
        rows = raw.table(event).select(["seq", "block_number", "log_index", column]).to_pylist()
        logs += [("listed", row | {"asset": row[column]}) for row in rows if any(row[column])]
    known: dict[str, _Oracle] = {}
    wanted: dict[str, None] = {}
    said: dict[str, tuple[str, tuple[str, ...], bool, int | None]] = {}
    in_force = _NONE
    changes: list[SourceChange] = []
    for event, row in sorted(logs, key=lambda log: log[1]["seq"]):
        again: Iterable[str] = ()  # whose change is given even where nothing differs
        if event == "listed":
            wanted[address_text(row["asset"])] = None
        elif event == "PriceOracleUpdated":
            before = known.get(in_force, _Oracle()).sources
            in_force = address_text(row["new_address"])
            own = known.get(in_force, _Oracle()).sources
            again = [*own, *(asset for asset in before if asset not in own)]
        else:
            address = address_text(row["address"])
            oracle = known.setdefault(address, _Oracle())
            if event == "AssetSourceUpdated":
                asset = address_text(row["asset"])
                oracle.sources[asset] = address_text(row["source"])
                in_force = in_force if named or in_force != _NONE else address
                again = [asset] if address == in_force else ()
            elif event == "FallbackOracleUpdated":
                oracle.fallback = address_text(row["fallback_oracle"])
            elif event == "WethSet":
                oracle.currency, oracle.unit = address_text(row["weth"]), WAD
            else:
                oracle.currency, oracle.unit = address_text(row["base_currency"]), int(row["base_currency_unit"])
        for asset in dict.fromkeys([*again, *said, *wanted]):
            found = _chain(known, in_force, asset)
            # An asset without a source is of no interest as long as nothing else answers for it.
            if asset in again or said.get(asset, (in_force, (), False, None)) != found:
                said[asset] = found
                oracle_of, sources, untold, fixed = found
                first, *others = sources or (_NONE,)
                changes.append(
                    SourceChange(
                        row["block_number"],
                        row["log_index"],
                        asset,
                        first,
                        oracle_of,
                        fixed=fixed,
                        others=tuple(others),
                        untold=untold,
                    )
                )
    return changes
