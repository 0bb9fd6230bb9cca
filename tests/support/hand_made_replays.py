"""Outcomes of replays written down by hand, and lakes that hold them: what is stored and compared does not ask how it
came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Clock, Market
from backtest.outcome import notes_of, tables_of
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Pair
from backtest.replay.record import Deficit, Horizon, Liquidation, MarketTotals, Replay
from backtest.scenario import Scenario
from tests.support.lake_tables import CONFIG, MARKET

U = 10**8
"""One whole unit of the base currency in base units."""
NAMES = "ABCDEFGH"
"""Accounts by a letter; the last one liquidates."""
LIQUIDATOR = "H"
START, END = Clock(10, -1, 1000), Clock(90, 5, 9000)
LATER = {"end": 0, "+1h": 3600, "+1d": 86_400, "+7d": 604_800}


def address(name: str) -> str:
    """The address of an account that goes by a letter."""
    return f"0x{NAMES.index(name) + 0xA1:040x}"


class _Empty:
    """A protocol in whose book nobody holds anything."""

    def open(self, market: Market, *, recompute: bool = False) -> None:
        return None

    def accounts(self, state: None) -> Sequence[AccountId]:
        return ()


def hit(name: str, *, repaid: int, seized: int, fee: int, **more: Any) -> dict[str, Any]:
    """A liquidation of an account, in whole units of the base currency (profit is what the liquidator gets beyond the
    debt).
    """
    return {"account": name, "repaid": repaid, "seized": seized, "fee": fee, **more}


def replay_of(
    hits: Sequence[Mapping[str, Any]],
    *,
    deficits: Mapping[str, int] | None = None,
    equity: Mapping[str, Mapping[str, int]] | None = None,
    peak: int = 0,
    unpriced: Mapping[str, int] | None = None,
    **more: Any,
) -> Replay[Any]:
    """An outcome. ``deficits``: account to debt written off with its first liquidation; ``equity``: window to account
    to collateral minus debt; ``unpriced``: window to number of accounts without a price; all in whole units. Other
    fields of ``Replay`` as given.
    """
    assets = (Asset(AssetId(0), "0x" + "c0" * 20, "COL", 18), Asset(AssetId(1), "0x" + "d0" * 20, "USD", 6))
    market = Market(
        name=MARKET, protocol="aave-v3", chain_id=1, assets=assets, accounts=tuple(address(name) for name in NAMES)
    )
    book: Book[Any] = Book.open(_Empty(), market)  # type: ignore[arg-type]
    book.now = END
    liquidations = [_liquidation(ordinal, each) for ordinal, each in enumerate(hits)]
    lost = [
        Deficit(
            liquidation=next(r.ordinal for r in liquidations if r.fill.order.account == _id(name)),
            seq=7,
            clock=next(r.clock for r in liquidations if r.fill.order.account == _id(name)),
            account=_id(name),
            asset=AssetId(1),
            amount=amount * 10**6,
            amount_base=amount * U,
        )
        for name, amount in (deficits or {}).items()
    ]
    horizons = [
        _horizon(label, own, liquidations, lost, peak, (unpriced or {}).get(label, 0))
        for label, own in (equity or {"end": {}}).items()
    ]
    short = tuple(label for label in LATER if label not in (equity or {"end": {}}))
    fields = {"short_of": short, "from_clock": START, **more}
    return Replay(book=book, liquidations=liquidations, deficits=lost, horizons=horizons, **fields)


def _id(name: str) -> AccountId:
    return AccountId(NAMES.index(name))


def _liquidation(ordinal: int, each: Mapping[str, Any]) -> Liquidation:
    order = Order(_id(each["account"]), Pair(AssetId(1), AssetId(0)), _id(LIQUIDATOR))
    fill = Fill(order, each["repaid"] * 10**6, each["seized"] * 10**16, each["fee"] * 10**16, ())
    return Liquidation(
        ordinal=ordinal,
        seq=ordinal,
        clock=Clock(20 + ordinal, 0, 2000 + ordinal),
        fill=fill,
        step="call",
        repaid_base=each["repaid"] * U,
        seized_base=each["seized"] * U,
        protocol_fee_base=each["fee"] * U,
        profit_base=(each["seized"] - each["repaid"]) * U,
        health_before=9 * 10**17,
        health_after=None,
        matches_history=each.get("matches"),
        made_by_override=each.get("by_override", False),
    )


def _horizon(
    label: str,
    equity: Mapping[str, int],
    liquidations: Sequence[Liquidation],
    lost: Sequence[Deficit],
    peak: int,
    unpriced: int,
) -> Horizon:
    clock = Clock(END.block_number + LATER[label] // 12, -1, END.timestamp + LATER[label])
    totals = MarketTotals(
        clock=clock,
        collateral_base=1000 * U,
        debt_base=600 * U,
        liquidatable_debt_base=0,
        bad_debt_base=0,
        borrowing_power_base=0,
        deficit_base=0,
        accounts_liquidatable=0,
        accounts_unpriced=unpriced,
    )
    return Horizon(
        label=label,
        clock=clock,
        totals=totals,
        liquidations=len(liquidations),
        deficits=len(lost),
        repaid_base=sum(r.repaid_base for r in liquidations),
        seized_base=sum(r.seized_base for r in liquidations),
        protocol_fee_base=sum(r.protocol_fee_base for r in liquidations),
        realised_bad_debt_base=sum(d.amount_base for d in lost),
        open_bad_debt_base=sum(max(0, -value) for value in equity.values()) * U,
        peak_bad_debt_base=peak * U,
        peak_clock=Clock(55, 0, 5500),
        equity={_id(name): value * U for name, value in equity.items()},
    )


def lake_of(path: Path, runs: Mapping[str, tuple[Scenario, Replay[Any]]], config: MarketConfig = CONFIG) -> Lake:
    """A lake of these runs: run id to scenario and outcome."""
    lake = Lake(path, create=True)
    with lake.writer() as writer:
        writer.set_market(config)
        for run_id, (scenario, outcome) in runs.items():
            notes = notes_of(outcome, scenario, config, ())
            stored = tables_of(
                outcome, scenario, config, run_id, lake_digest="ab" * 32, proxy_prices=False, notes=notes
            )
            writer.append_all(config.name, {f"results/{name}": table for name, table in stored.items()})
    lake.refresh()
    return lake
