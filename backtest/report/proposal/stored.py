"""What stored runs of a proposal came to, by SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backtest.report import tables
from backtest.report.proposal import INCOME, MEASURES, POWER, ProposalOutcome
from backtest.report.selection import Query, Row

# One row per run and account with any of it: what it contributes to each measure. Protocol income is the fee and the
# protocol's share of what liquidators bid.
_CONTRIBUTIONS = """
WITH shares AS (
    SELECT h.run_id, h.account, sum(w.protocol_share_base) AS share
    FROM run_liquidations AS h JOIN results.run_waterfalls AS w USING (run_id, ordinal)
    WHERE run_id IN $runs GROUP BY ALL
)
SELECT a.run_id, a.account, a.repaid_base AS repaid, a.liquidations, (a.liquidations > 0)::INTEGER AS accounts,
    a.realised_bad_debt_base + coalesce(a.open_bad_debt_base, 0) AS bad_debt, a.borrower_loss_base AS borrower_loss,
    a.protocol_fee_base + coalesce(s.share, 0) AS protocol_income
FROM run_accounts AS a LEFT JOIN shares AS s USING (run_id, account)
WHERE a.run_id IN $runs AND (a.liquidations > 0 OR a.realised_bad_debt_base <> 0 OR a.open_bad_debt_base <> 0)
"""
_ENDS = "SELECT run_id, borrowing_power_base AS power FROM run_windows WHERE label = 'end' AND run_id IN $runs"
_REFUSED = """
SELECT run_id, sum(value_base) AS refused FROM results.run_actions
WHERE run_id IN $runs AND outcome IN ('skipped', 'shrunk') AND NOT unfunded GROUP BY run_id
"""
_POPULATION = "SELECT count(DISTINCT account) AS accounts FROM run_accounts WHERE run_id IN $runs"
_RUNS = "SELECT * FROM runs WHERE run_id IN $runs ORDER BY run_id"


def outcomes(query: Query, run_ids: Sequence[str]) -> dict[str, ProposalOutcome]:
    """By run id."""
    keys = [measure.key for measure in MEASURES if measure.key != POWER]
    assert INCOME in keys
    contributions: dict[str, dict[str, dict[str, int]]] = {run_id: {} for run_id in run_ids}
    for row in _asked(query, _CONTRIBUTIONS, run_ids):
        contributions[row["run_id"]][row["account"]] = {key: int(row[key]) for key in keys}
    power = {row["run_id"]: int(row["power"] or 0) for row in _asked(query, _ENDS, run_ids)}
    refused = {row["run_id"]: int(row["refused"]) for row in _asked(query, _REFUSED, run_ids)}
    return {
        run_id: ProposalOutcome(own, power[run_id], refused.get(run_id, 0)) for run_id, own in contributions.items()
    }


def population(query: Query, run_ids: Sequence[str]) -> int:
    """The number of accounts of the market in any of these runs."""
    [row] = _asked(query, _POPULATION, run_ids)
    return int(row["accounts"])


def described(query: Query, run_ids: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows of these runs, and the assumptions that all of them state."""
    rows = _asked(query, _RUNS, run_ids)
    stated = [tables.notes_of(row) for row in rows]
    return rows, [note for note in stated[0] if all(note in other for other in stated)]


def _asked(query: Query, text: str, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
    return query(text.replace("$runs", f"({listed})"))
