"""Exports to canonical tables: flows in DAI and collateral, liquidations, parameter changes
(``backtest.tables.IMPORTED``).

What exports lack is rebuilt by the contracts' rules, and where two readings are possible the documented one is taken:

* **Accumulator.** ``duty`` compounds exactly (Jug ``drip``), dripped at every flow and liquidation and right before
  each change of ``duty`` or ``base``, as ``file`` demands. An export has no drips of its own.
* **Normalised debt.** A borrow draws up to a whole unit of art and a repayment wipes down (dss-proxy-actions
  ``_getDrawDart``, ``_getWipeDart``).
* **One frob a block.** All flows of a vault in one block, up to a liquidation of it, are one action with their net
  effect: exports do not always say their order, and the Vat checks what an action ends with.
* **Closed means empty.** After a frob a vault owes nothing or ``dust`` at least (Vat ``frob``), so a debt below half of
  ``dust`` after a repayment was none. Collateral within the rounding of the amounts (``_DIGITS``) of zero is none.
* **Whole vault.** A liquidation that takes all collateral, but for ``_WHOLE`` of it, takes all of the debt: the
  contracts take the same share of both.
* **Flows outside the export.** Where a vault gives more than it ever got, what is missing is added first, as action
  ``unrecorded``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, did_you_mean
from backtest.markets import MarketConfig
from backtest.protocols.interface import RawEvents
from backtest.protocols.maker.events import ilk_of
from backtest.protocols.maker.ledger import Ledger
from backtest.protocols.maker.params import IMPORTED
from backtest.protocols.vaults.ledger import Place
from backtest.protocols.vaults.math import per_second, rmul_down
from backtest.units import RAY, rpow_half_up

FLOW, LIQUIDATION, PARAMETER = "raw/import/Flow", "raw/import/Liquidation", "raw/import/Parameter"

UNKNOWN = "unknown"
"""The liquidator of an export that names none."""

_DIGITS = 10**9  # amounts have ten significant digits at least
_WHOLE = 1_000  # a thousandth
_ACTIONS = ("borrow", "withdraw", "repay", "supply", "transfer")
_RATES = frozenset({"duty", "base", "stability_fee"})


@dataclass
class _Frob:
    """What one vault does in one block, so far: flows in order; ``last`` is the row that closes it."""

    flows: list[Place] = field(default_factory=list)

    @property
    def last(self) -> Place:
        return self.flows[-1]


def has_imports(raw: RawEvents) -> bool:
    """Whether the market's positions come from exports."""
    return any(raw.table(dataset).num_rows for dataset in (FLOW, LIQUIDATION))


def fold_imports(config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
    """Canonical tables from what ``backtest import`` stored.

    Raises:
        UserError: a market of several ilks.
        RulesError: a parameter or an asset that this market does not have, or a flow before the ilk's fee is known.
    """
    if "ilk" in config.parameters:
        ilk_of(config.parameters)  # exports are of one
    yield from _Imports(config, raw).tables()


class _Imports:
    """One fold in progress."""

    def __init__(self, config: MarketConfig, raw: RawEvents) -> None:
        rows = []
        for dataset in (PARAMETER, FLOW, LIQUIDATION):
            rows += [(dataset, row) for row in raw.table(dataset).to_pylist()]
        rows.sort(key=lambda found: found[1]["seq"])
        self._rows = rows
        self._names = _asset_names(config, rows)
        self._ledger = Ledger(config, *self._names)
        self._dripped = 0
        self._moved: dict[int, int] = defaultdict(int)
        """Collateral that went through each vault since it was last empty."""

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Folds all rows."""
        for _, block in groupby(self._rows, key=lambda found: found[1]["block_number"]):
            pending: dict[int, _Frob] = {}
            for dataset, row in block:
                self._ledger.open(row)
                if dataset == PARAMETER:
                    self._parameter(row)
                    continue
                self._drip(row)
                account = self._ledger.account(row["account"])
                if dataset == FLOW:
                    self._check_asset(row, row["asset"])
                    frob = pending.setdefault(account, _Frob())
                    frob.flows.append(row)
                    continue
                if account in pending:
                    self._frob(account, pending.pop(account))
                self._liquidation(account, row)
            for account, frob in pending.items():
                self._frob(account, frob)
        yield from self._ledger.tables()

    # -- parameters and interest
    # -----------------------------------------------------------------------------------------

    def _parameter(self, row: Place) -> None:
        name, value = row["name"], int(row["value"])
        if name not in IMPORTED:
            raise RulesError(
                f"row {row['source_row']} of an imported file: Maker has no parameter '{name}'",
                did_you_mean(name, IMPORTED),
            )
        if name in _RATES:
            self._drip(row)
        self._ledger.param(row, name, value)
        if name == "stability_fee":
            self._ledger.param(row, "duty", per_second(value))

    def _drip(self, row: Place) -> None:
        """dss ``src/jug.sol`` ``drip``: rate = rmul(rpow(base + duty, now - rho), rate)."""
        ledger, now = self._ledger, row["timestamp"]
        fee = ledger.params.get("duty", 0) + ledger.params.get("base", 0)
        if fee and now > self._dripped:
            ledger.set_rate(row, rmul_down(rpow_half_up(fee, now - self._dripped), ledger.rate))
        elif not fee and row.get("side") == "debt":
            raise RulesError(
                f"block {row['block_number']}: debt moves before a stability fee (duty) is known",
                "import the ilk's parameters from its start",
            )
        self._dripped = max(now, self._dripped)

    # -- owners
    # ------------------------------------------------------------------------------------------------------------

    def _frob(self, account: int, frob: _Frob) -> None:
        ledger, last = self._ledger, frob.last
        dink = dart = dai = 0
        for flow in frob.flows:
            amount = int(flow["amount"])
            if flow["side"] == "collateral":
                dink += amount
                self._moved[account] += abs(amount)
            else:
                dai += amount
                # drawn up, wiped down: in both cases the ceiling of a signed amount
                dart += -(-amount * RAY // ledger.rate)
        names = {flow["action"] for flow in frob.flows}
        action = next((name for name in _ACTIONS if name in names), "transfer")
        ink, art = ledger.ink[account] + dink, ledger.art[account] + dart
        slack = self._moved[account] // _DIGITS
        if dink < 0 and ink < slack:
            if ink < -slack:
                ledger.move(last, account, "collateral", -ink, "unrecorded")
            dink, self._moved[account] = -ledger.ink[account], 0
        if dart < 0 and art * ledger.rate < ledger.params.get("dust", 0) * RAY // 2:
            if -art * ledger.rate > ledger.params.get("dust", 0) * RAY // 2:
                ledger.move(last, account, "debt", -art, "unrecorded")
            dart = -ledger.art[account]
        ledger.frob(last, account, dink, dart, action, paid=abs(dai))

    # -- liquidations
    # ------------------------------------------------------------------------------------------------------

    def _liquidation(self, account: int, row: Place) -> None:
        ledger = self._ledger
        self._check_asset(row, row["collateral_asset"])
        self._check_asset(row, row["debt_asset"])
        seized, ink, art = int(row["seized"]), ledger.ink[account], ledger.art[account]
        dart = self._debt_taken(account, row)
        if seized * _WHOLE >= ink * (_WHOLE - 1):
            if seized * (_WHOLE - 1) > ink * _WHOLE:
                ledger.move(row, account, "collateral", seized - ink, "unrecorded")
            if dart * (_WHOLE - 1) > art * _WHOLE:
                ledger.move(row, account, "debt", dart - art, "unrecorded")
            dink, dart = ledger.ink[account], ledger.art[account]
            self._moved[account] = 0
        else:
            if dart > art:
                ledger.move(row, account, "debt", dart - art, "unrecorded")
            dink = seized
        repaid = rmul_down(dart, ledger.rate) if row["repaid"] is None else int(row["repaid"])
        ledger.move(row, account, "collateral", -dink, "liquidation", amount=seized)
        ledger.move(row, account, "debt", -dart, "liquidation", amount=repaid)
        # what left the rebuilt vault, so that a replay of this history leaves no rest of what rounding made
        ledger.liquidation(row, account, ledger.account(row["liquidator"] or UNKNOWN), repaid, seized, dart)
        if row["bad_debt"]:
            ledger.deficit(row, account, int(row["bad_debt"]))

    def _debt_taken(self, account: int, row: Place) -> int:
        """Art: as the export says it, else from the DAI, else the share of the collateral."""
        ledger = self._ledger
        if row["debt_scaled"] is not None:
            return int(row["debt_scaled"])
        if row["repaid"] is not None:
            return int(row["repaid"]) * RAY // ledger.rate
        ink = ledger.ink[account]
        return ledger.art[account] * min(int(row["seized"]), ink) // ink if ink else 0

    def _check_asset(self, row: Place, asset: str) -> None:
        known = [text.lower() for names in self._names for text in names]
        if asset.lower() not in known:
            raise RulesError(
                f"row {row['source_row']} of an imported file: this market has no asset '{asset}'",
                did_you_mean(asset, known),
            )


def _asset_names(
    config: MarketConfig, rows: list[tuple[str, dict[str, Any]]]
) -> tuple[tuple[str, str], tuple[str, str]]:
    """(asset, symbol) of the collateral and of DAI: the market's own contracts, else as the export calls them."""
    contracts, ilk = config.contracts, config.parameters.get("ilk", "")
    seen: Mapping[str, str | None] = {
        side: next((row["asset"] for dataset, row in rows if dataset == FLOW and row["side"] == side), None)
        for side in ("collateral", "debt")
    }
    collateral = contracts.get("gem") or seen["collateral"] or "collateral"
    dai = contracts.get("dai") or seen["debt"] or "dai"
    return (collateral, ilk.partition("-")[0] or collateral.upper()), (dai, "DAI")
