"""How well a model tells history: its liquidations against those that happened, which it is not shown, measured and
stored.

One step ahead the model is asked at every price update in history's own book; free-running it acts from the first block
on. Both are held against history by ``backtest.matching``; the result is stored in the lake as
``results/validations`` and ``results/validation_episodes``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest import matching
from backtest.calibration.ordering import EDGES, standing
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.model import AssetId, Market
from backtest.prices.imported import DERIVED, IN_SAMPLE, PRICE, STAND_IN
from backtest.prices.proxy import ProxyStep, proxy_steps
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay import ENGINE_VERSION
from backtest.replay.accepted import accepted_bounds
from backtest.replay.engine import Progress, replay
from backtest.replay.forecast import Ahead, PriceRanges, look_ahead
from backtest.replay.record import Liquidation
from backtest.replay.timeline import Timeline
from backtest.result_tables import RESULTS, as_table
from backtest.results import load_market, load_timeline, require_current
from backtest.scenario import Competitive, Costs, ProtocolsOwn, Scenario
from backtest.tables import RULES_VERSION

LARGEST = 2
"""Accounts left out of the second set of figures, by default."""
ONE_STEP, FREE = "one-step", "free"
_TABLES = ("validations", "validation_episodes")


@dataclass(frozen=True, slots=True)
class Validation:
    """A stored validation: rows of ``validations`` and of ``validation_episodes``; ``made`` is false where the lake
    held it already.
    """

    run_id: str
    rows: list[dict[str, Any]]
    episodes: list[dict[str, Any]]
    notes: tuple[str, ...]
    made: bool


def validate(
    lake: Lake, market: str, scenario: Scenario, *, largest: int = LARGEST, progress: Progress | None = None
) -> Validation:
    """Hold the model of ``scenario`` against history and store the result; read it where it is stored already.

    Args:
        largest: figures are also given without the accounts from which most collateral was seized, this many.
        progress: of the free-running replay.

    Raises:
        UserError: the scenario is not a model under history's parameters; nothing was liquidated; no current canonical
            tables.
    """
    terms = scenario.liquidators
    if (
        not isinstance(terms, Competitive)
        or scenario.overrides
        or scenario.mechanism != ProtocolsOwn()
        or scenario.costs != Costs()
        or scenario.impact.assets
    ):
        remedy = "use competitive liquidators without overrides, costs (but gas_cost), impact or another mechanism"
        raise UserError("a validation holds a model under history's parameters against history", remedy)
    if largest < 0:
        raise UserError(f"--largest {largest} is negative", "give 0 or more")
    require_current(lake, market)
    digest = lake.digest(market)
    body = [
        f"validation {matching.VERSION}",
        scenario.canonical(),
        market,
        digest,
        RULES_VERSION,
        ENGINE_VERSION,
        largest,
    ]
    run_id = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
    stored = _stored(lake, market, run_id)
    if stored is not None:
        return stored
    protocol, described = protocol_named(lake.market_config(market).protocol), load_market(lake, market)
    timeline = load_timeline(lake, market, oracle_delay=scenario.oracle_delay)
    derived = {} if scenario.oracle_delay is not None else derived_ranges(lake, market)
    ranges = price_ranges(lake, market, _delay(protocol, scenario)) | derived
    first, last = scenario.from_block or timeline.first_block, timeline.last_known_block(scenario.to_block)
    ahead = look_ahead(protocol, described, timeline, terms, ranges, from_block=first, to_block=last)
    if not ahead.pasts:
        raise UserError(
            f"nothing was liquidated in blocks {first} to {last} of market '{market}'",
            "there is nothing to hold a model against",
        )
    actual = happened(lake, described, ahead)
    alarms = list(_alarm_rows(ahead, described))
    evidence = _evidence(ahead, described, actual, alarms, proxy=bool(ranges))
    one_step = matching.explain(matching.match(matching.episodes(alarms, standing=True), actual), evidence)
    defended = _defended(protocol, described, timeline, ranges, evidence.latency, last)
    outcome = replay(protocol, described, timeline, scenario, progress=progress)
    made = [one for one in outcome.liquidations if one.takes and first <= one.clock.block_number <= last]
    held = _range_held(ahead, described, actual) if ranges else None
    free = matching.explain_free(
        matching.match(matching.episodes(_free_rows(made, described, one_step, proxy=bool(ranges))), actual), one_step
    )
    common = {
        "run_id": run_id,
        "market": market,
        "name": scenario.name,
        "scenario": scenario.canonical(),
        "seed": scenario.seed,
        "rules_version": RULES_VERSION,
        "engine_version": ENGINE_VERSION,
        "lake_digest": digest,
        "from_block": first,
        "to_block": last,
        "accepted": None if held is None else held.accepted,
        "accepted_beyond": None if held is None else held.beyond,
        "notes": json.dumps(notes := _notes(protocol, ahead, ranges, derived, held, described, evidence, defended)),
    }
    whales = matching.largest(actual, largest)
    modes = ((ONE_STEP, one_step, ahead.questions), (FREE, free, outcome.events))
    tables = {
        "validations": [
            {**common, **row}
            for mode, pairings, questions in modes
            for row in _figures(mode, pairings, questions, whales, scenario.seed, actual)
        ],
        "validation_episodes": [
            {"run_id": run_id, "market": market, "mode": mode, "number": number, **_episode(pairing, whales)}
            for mode, pairings, _ in modes
            for number, pairing in enumerate(pairings)
        ],
    }
    with lake.writer() as writer:
        again = _stored(lake, market, run_id)
        if again is not None:
            return again
        writer.append_all(
            market,
            {f"results/{name}": as_table(RESULTS[name], rows) for name, rows in tables.items()},
            stamp=RULES_VERSION,
        )
    return Validation(run_id, tables["validations"], tables["validation_episodes"], tuple(notes), made=True)


def with_and_without(lake: Lake, market: str, scenario: Scenario) -> list[Scenario]:
    """The scenario; where the market's oracle prices were derived in-sample, with them and with the venue's in their
    place.
    """
    if scenario.oracle_delay is not None or not derived_ranges(lake, market):
        return [scenario]
    own = protocol_named(lake.market_config(market).protocol).oracle_delay
    return [
        replace(scenario, name=f"{scenario.name}, oracle {IN_SAMPLE}"),
        replace(scenario, name=f"{scenario.name}, venue's price", oracle_delay=own),
    ]


def _stored(lake: Lake, market: str, run_id: str) -> Validation | None:
    found = []
    for name in _TABLES:
        table = lake.read(f"results/{name}", market)
        found.append(table.filter(pc.equal(table["run_id"], run_id)).to_pylist())
    return (
        Validation(run_id, found[0], found[1], tuple(json.loads(found[0][0]["notes"])), made=False)
        if found[0]
        else None
    )


# -- prices ------------------------------------------------------------------------------------------------------------


def price_ranges(lake: Lake, market: str, delay: int) -> dict[AssetId, PriceRanges]:
    """Between what the oracle may have been, for every asset whose oracle price is a venue's.

    The price in force was read ``delay`` or more before: by an oracle that is poked at any moment of its period, and
    from sources that may lag themselves. So it lies within what the venue had in the period that starts at the moment
    taken for the reading and in the one before it. Where the venue has a gap there, nothing is known.
    """
    return {
        asset: PriceRanges([step.timestamp for step, _ in steps], [bounds for _, bounds in steps])
        for asset, steps in venue_steps(lake, market, delay).items()
    }


def venue_steps(lake: Lake, market: str, delay: int) -> dict[AssetId, list[tuple[ProxyStep, tuple[int, int] | None]]]:
    """The steps of ``price_ranges`` with the venue's price that stands for the oracle's, and the range of each."""
    methods = lake.read("canonical/prices", market, columns=["asset_id", "method"])
    stand_in = pc.is_in(methods["method"].cast(pa.string()), value_set=pa.array(STAND_IN))
    venue = lake.read(
        "canonical/market_prices", market, columns=["asset_id", "timestamp", "price", "low", "high", "period", "source"]
    )
    venue = venue.filter(pc.is_null(venue["source"]))
    found = {}
    for asset in sorted(set(methods.filter(stand_in)["asset_id"].to_pylist())):
        rows = venue.filter(pc.equal(venue["asset_id"], asset)).sort_by("timestamp").to_pylist()
        bounds = _bounds(rows)
        steps = proxy_steps(
            [row["timestamp"] for row in rows],
            [int(row["price"]) for row in rows],
            [row["period"] for row in rows],
            delay=delay,
        )
        found[AssetId(asset)] = [(s, None if s.gap else bounds[s.market_timestamp]) for s in steps]
    return found


def derived_ranges(lake: Lake, market: str) -> dict[AssetId, PriceRanges]:
    """The intervals of derived prices (``calibrate oracle``), of every asset that has some."""
    methods = lake.read("canonical/prices", market, columns=["asset_id", "method"])
    chosen = methods.filter(pc.equal(methods["method"].cast(pa.string()), DERIVED))
    wanted = set(chosen["asset_id"].to_pylist())
    if not wanted:
        return {}
    table = lake.read(PRICE, market, columns=["asset", "kind", "timestamp", "low", "high"])
    table = table.filter(pc.equal(table["kind"], DERIVED)).sort_by("timestamp")
    names = {row["asset"]: row["asset_id"] for row in lake.read("canonical/assets", market).to_pylist()}
    found: dict[AssetId, PriceRanges] = {}
    for name, asset in names.items():
        rows = table.filter(pc.equal(table["asset"], name)).to_pylist()
        if asset in wanted:
            found[AssetId(asset)] = PriceRanges(
                [row["timestamp"] for row in rows],
                [
                    None if row["low"] is None or row["high"] is None else (int(row["low"]), int(row["high"]))
                    for row in rows
                ],
            )
    return found


def _bounds(rows: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, int] | None]:
    """Lowest and highest of each row's period and of the one right before it, by the row's time; None where the venue
    does not say.
    """
    own = [None if row["low"] is None or row["high"] is None else (int(row["low"]), int(row["high"])) for row in rows]
    out: dict[int, tuple[int, int] | None] = {row["timestamp"]: None for row in rows[:1]}
    for (row, mine), (before, theirs) in pairwise(zip(rows[::-1], own[::-1], strict=True)):
        adjoins = before["period"] is not None and before["timestamp"] + before["period"] == row["timestamp"]
        out[row["timestamp"]] = (
            (min(mine[0], theirs[0]), max(mine[1], theirs[1])) if adjoins and mine and theirs else None
        )
    return out


def _delay(protocol: LendingProtocol[Any], scenario: Scenario) -> int:
    return protocol.oracle_delay if scenario.oracle_delay is None else scenario.oracle_delay


def happened(lake: Lake, market: Market, ahead: Ahead) -> list[matching.Episode]:
    """History's episodes, as they were met on the way."""
    return matching.episodes(_past_rows(ahead, market, _stated(lake, market.name)))


def contradictions(market: Market, ahead: Ahead, actual: Sequence[matching.Episode]) -> dict[str, str]:
    """Accounts of which history says that they were not what was rebuilt, each with how."""
    rebuilt = {
        account: f"rebuilt {error:.1%} off what its own liquidation took"
        for account, error in matching.contradicted(actual).items()
    }
    return rebuilt | {
        market.accounts[account]: "it gives more than it ever got in the data" for account in ahead.outside
    }


# -- rows --------------------------------------------------------------------------------------------------------------


def _stated(lake: Lake, market: str) -> dict[tuple[int, int], int | None] | None:
    """What exports say was repaid as the protocol stores it, by place; canonical rows of exports have what left the
    rebuilt account instead. None where the market's liquidations are not imported.
    """
    table = lake.read("raw/import/Liquidation", market, columns=["block_number", "log_index", "debt_scaled"])
    rows = table.to_pylist()
    found = {
        (row["block_number"], row["log_index"]): None if row["debt_scaled"] is None else int(row["debt_scaled"])
        for row in rows
    }
    return found or None


def _past_rows(
    ahead: Ahead, market: Market, stated: Mapping[tuple[int, int], int | None] | None
) -> Iterable[matching.Row]:
    for past in ahead.pasts:
        event = past.event
        yield matching.Row(
            account=market.accounts[event.account],
            time=event.timestamp,
            repaid=event.repaid + sum(amount for asset, amount in event.deficits if asset == event.debt_asset),
            seized=event.seized + event.protocol_fee,
            debt_base=past.repaid_base,
            repaid_base=past.repaid_base,
            pair=(event.debt_asset, event.collateral_asset),
            collateral_base=past.seized_base,
            health=past.health,
            held_collateral=past.held_collateral,
            held_debt=past.held_debt,
            held_scaled=past.held_scaled,
            repaid_scaled=event.debt_scaled if stated is None else stated.get((event.block_number, event.log_index)),
            left_collateral=past.left_collateral,
            left_debt=past.left_debt,
            possible=past.possible,
            unwanted=past.refusal,
        )


def _alarm_rows(ahead: Ahead, market: Market) -> Iterable[matching.Row]:
    for alarm in ahead.alarms:
        yield matching.Row(
            account=market.accounts[alarm.account],
            time=alarm.clock.timestamp,
            until=alarm.until,
            repaid=alarm.repaid,
            seized=alarm.seized,
            debt_base=alarm.debt_base,
            repaid_base=alarm.repaid_base,
            health=alarm.health,
            throughout=alarm.throughout,
        )


def _free_rows(
    made: Iterable[Liquidation], market: Market, one_step: Sequence[matching.Pairing], *, proxy: bool
) -> Iterable[matching.Row]:
    """What the replay did; throughout the range where such an alarm stood in history's own book at about that time."""
    sure: dict[str, list[matching.Episode]] = {}
    for pairing in one_step:
        if pairing.predicted is not None and pairing.predicted.throughout:
            sure.setdefault(pairing.account, []).append(pairing.predicted)
    for one in made:
        account, time = market.accounts[one.fill.order.account], one.clock.timestamp
        yield matching.Row(
            account=account,
            time=time,
            until=time,
            repaid=one.fill.repaid,
            seized=one.fill.seized,
            debt_base=one.repaid_base,
            repaid_base=one.repaid_base,
            health=one.health_before,
            throughout=not proxy
            or any(
                episode.first - matching.WITHIN <= time <= episode.last + matching.WITHIN
                for episode in sure.get(account, ())
            ),
        )


def _evidence(
    ahead: Ahead, market: Market, actual: Sequence[matching.Episode], alarms: Sequence[matching.Row], *, proxy: bool
) -> matching.Evidence:
    names = market.accounts
    return matching.Evidence(
        relief={names[account]: sorted(times) for account, times in ahead.relief.items()},
        outside=contradictions(market, ahead, actual),
        refusals={names[account]: rows for account, rows in ahead.refusals.items()},
        proxy=proxy,
        latency=matching.latency(alarms, actual),
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """The stated range against what the chain accepted: how many actions were held against it, and which accounts'
    would be refused at every price within it, how many each; ``left_out`` are those of accounts whose flows lie outside
    the data, which say nothing about prices.
    """

    accepted: int
    by_account: Mapping[str, int]
    left_out: int

    @property
    def beyond(self) -> int:
        """Accepted actions that the rules refuse at every price within the range."""
        return sum(self.by_account.values())


def _range_held(ahead: Ahead, market: Market, actual: Sequence[matching.Episode]) -> _Held:
    outside = contradictions(market, ahead, actual)
    known = {account for account in ahead.accepted if market.accounts[account] not in outside}
    by_account = {market.accounts[one]: count for one, count in ahead.beyond.items() if one in known}
    return _Held(
        accepted=sum(ahead.accepted[account] for account in known),
        by_account=dict(sorted(by_account.items(), key=lambda item: (-item[1], item[0]))),
        left_out=sum(count for account, count in ahead.beyond.items() if account not in known),
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(
    mode: str,
    pairings: Sequence[matching.Pairing],
    questions: int,
    whales: Sequence[str],
    seed: int,
    actual: Sequence[matching.Episode],
) -> Iterable[dict[str, Any]]:
    """A row for all alarms and for those throughout the range, of all accounts and without the largest."""
    for accounts, left_out in (("all", ()), (f"without the largest {len(whales)}", tuple(whales))):
        if accounts != "all" and not left_out:
            continue
        kept = [pairing for pairing in pairings if pairing.account not in left_out]
        collateral, debt = matching.reconstruction(episode for episode in actual if episode.account not in left_out)
        for alarms, chosen in (("all", kept), ("throughout", matching.throughout_only(kept))):
            scores = matching.score(chosen, seed=seed)
            errors = {
                "collateral_error": matching.spread(collateral),
                "debt_error": matching.spread(debt),
                "time_error": matching.spread([p.time_error for p in chosen if p.time_error is not None]),
                "amount_error": matching.spread([abs(p.amount_error) for p in chosen if p.amount_error is not None]),
            }
            rates = {
                name: getattr(scores, name) for name in ("recall", "precision", "recall_by_debt", "precision_by_debt")
            }
            yield {
                "mode": mode,
                "alarms": alarms,
                "accounts": accounts,
                "left_out": json.dumps(left_out),
                "questions": questions,
                **{name: getattr(scores, name) for name in ("actual", "predicted", "hits", "explained")},
                **{
                    f"{name}_base": getattr(scores, name)
                    for name in ("actual_debt", "predicted_debt", "hit_actual_debt", "hit_predicted_debt")
                },
                **{name: rate.value for name, rate in rates.items()},
                **{f"{name}_low": rate.low for name, rate in rates.items()},
                **{f"{name}_high": rate.high for name, rate in rates.items()},
                "whole_episodes": len(collateral),
                **{
                    f"{name}_{q}": getattr(error, q)
                    for name, error in errors.items()
                    for q in ("least", "median", "p95", "largest")
                },
            }


def _episode(pairing: matching.Pairing, whales: Sequence[str]) -> dict[str, Any]:
    predicted, actual = pairing.predicted, pairing.actual
    return {
        "account": pairing.account,
        "outcome": pairing.outcome,
        "cause": pairing.cause or None,
        "detail": pairing.detail or None,
        "throughout": predicted.throughout if predicted else None,
        "whole": actual.is_whole if actual else None,
        "largest": pairing.account in whales,
        "predicted_from": predicted.first if predicted else None,
        "predicted_to": predicted.last if predicted else None,
        "predicted_rows": len(predicted.rows) if predicted else None,
        "predicted_debt_base": predicted.debt_base if predicted else None,
        "actual_from": actual.first if actual else None,
        "actual_to": actual.last if actual else None,
        "actual_rows": len(actual.rows) if actual else None,
        "actual_debt_base": actual.debt_base if actual else None,
        "actual_repaid": actual.repaid if actual else None,
        "actual_seized": actual.seized if actual else None,
        "held_collateral": actual.rows[0].held_collateral if actual else None,
        "held_debt": actual.rows[0].held_debt if actual else None,
        "health": (
            min(pairing.episode.rows[0].health, 10**38 - 1) if pairing.episode.rows[0].health is not None else None
        ),
        "time_error": pairing.time_error,
        "amount_error": pairing.amount_error,
    }


def _notes(
    protocol: LendingProtocol[Any],
    ahead: Ahead,
    ranges: Mapping[AssetId, PriceRanges],
    derived: Collection[AssetId],
    held: _Held | None,
    market: Market,
    evidence: matching.Evidence,
    defended: Sequence[str],
) -> list[str]:
    """What the figures rest on, in sentences."""
    within = matching.WITHIN // 3600
    out = [
        (
            f"Episodes: liquidations of one account at most {within} h apart; matched one to one where at most {within}"
            " h lie between."
        ),
        (
            f"One step ahead: asked at {ahead.questions:,} price updates in history's own book. Free-running: one"
            " replay from the first block on."
        ),
        (
            "By debt: of an alarm all that the account owes, of a liquidation what it repaid; intervals of 95 %,"
            " Wilson's for counts, a bootstrap over accounts for debt."
        ),
        (
            "Time error: from the first alarm to the first liquidation. Amount error: an alarm's first call against the"
            " first liquidation, a replay's whole episode against history's."
        ),
    ]
    if evidence.latency is not None:
        out.append(
            f"Its owner acted: within {evidence.latency:,} s of the alarm, in which {matching.LATE:.0%} of the"
            " liquidations that followed an alarm came; an owner who acted later was let be."
        )
    venue, own = (
        ", ".join(market.label(asset) for asset in ranges if (asset in derived) == which) for which in (False, True)
    )
    if venue:
        out.append(
            f"{venue}: the oracle's price is a venue's, stated to lie within the period that the oracle read and the"
            " one before. An alarm is throughout the range where it stands at the most favourable of these prices."
        )
    if own:
        out.append(
            f"{own}: the oracle's price is {IN_SAMPLE}: the liquidations that the model is held against are among what"
            " it was made from (backtest calibrate oracle), so that these figures say how much the price explains, not"
            " how well the model foretells. An alarm is throughout the range where it stands at the most favourable"
            " price of the interval."
        )
    if held is None:
        out.append("Oracle prices are known from logs: an alarm is what the rules say at the oracle's own price.")
    else:
        out += _range_notes(held)
    out += defended
    out += protocol.assumptions
    return out


_NAMED = 5
"""Accounts that a note names."""


def _range_notes(held: _Held) -> list[str]:
    """What the chain's own acceptance says of the stated range."""
    if not held.beyond:
        verdict = "none would be refused at every price within that range: nothing here refutes it."
    else:
        named = ", ".join(f"{account}: {count}" for account, count in list(held.by_account.items())[:_NAMED])
        more = len(held.by_account) - _NAMED
        verdict = (
            f"{held.beyond:,} lie outside that range: the rules refuse them at every price within it"
            f" ({named}{f' and {more} accounts more' if more > 0 else ''}). They refute the range, so that an alarm"
            " throughout it may be wrong as well."
        )
    out = [f"Of {held.accepted:,} borrows, withdrawals and liquidations that the chain accepted {verdict}"]
    if held.left_out:
        out.append(
            f"Another {held.left_out:,} outside the range are not counted: their accounts' flows lie outside the data."
        )
    return out


def _defended(
    protocol: LendingProtocol[Any],
    market: Market,
    timeline: Timeline,
    ranges: Mapping[AssetId, PriceRanges],
    latency: int | None,
    last: int,
) -> list[str]:
    """What holds of assets whose oracle is a venue's, though its price is not known: ordering, shares, Brier score."""
    out = []
    for asset, known in ranges.items() if latency is not None else ():
        bounds = accepted_bounds(
            protocol, market, timeline, asset, known.times, ranges, standing=True, to_block=last
        ).bounds
        found = standing(bounds, latency or 0)
        scores = found.brier()
        if scores is None or not found.steps:
            continue
        left = Counter(market.accounts[account] for _, account in found.left)
        named = ", ".join(f"{name} {number} times" if number > 1 else name for name, number in sorted(left.items()))
        out.append(
            f"{market.label(asset)}, ordering, whatever the price was: in {len({time for time, _ in found.left})} of"
            f" {found.steps} steps with a liquidation somebody riskier than one who was liquidated was left for more"
            f" than {latency:,} s{f': {named}' if named else ''}."
        )
        ends = [*(f"{edge:.1%}" for edge in EDGES), "more"]
        spans = [
            f"{low} to {high}: {hit:,} of {number:,}" if high != "more" else f"above {low}: {hit:,} of {number:,}"
            for low, high, (number, hit) in zip(ends[:-1], ends[1:], found.counts, strict=True)
        ]
        out.append(
            f"{market.label(asset)}, liquidated within a step of those so far below the price at which they are safe:"
            f" {'; '.join(spans)}."
        )
        out.append(
            f"{market.label(asset)}, Brier score of 'liquidated where below': {scores[0]:.2e}; of the base rate"
            f" {scores[1]:.2e}; of each span's own share {scores[2]:.2e} (in-sample)."
        )
    return out
