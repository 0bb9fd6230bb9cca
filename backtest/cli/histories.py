"""History's own replay of the blocks that runs are judged over: made where it is wanted, so that a verdict does not
depend on what happens to be stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.lake import Lake
    from backtest.report.selection import Selection


def selected(lake: Lake, wanted: Sequence[str], *, market: str | None = None) -> Selection:
    """``report.select``, with the replays of history that its verdicts need stored."""
    from backtest.report import select

    chosen = select(lake, wanted, market=market)
    return select(lake, wanted, market=market) if _made(lake, chosen.market, chosen.alternatives) else chosen


def of_sweep(lake: Lake, market: str, sweep_id: str) -> None:
    """Store the replays of history that the baselines of a sweep are held against."""
    from backtest.report.sweeps import find_sweep

    view = find_sweep(lake, sweep_id, market=market)
    _made(
        lake,
        market,
        view.rows(
            "SELECT DISTINCT from_block, to_block, lake_digest, rules_version, engine_version, history_id FROM runs"
            " JOIN (SELECT run_id, kind, history_id FROM run_pairs) USING (run_id)"
            " JOIN (SELECT sweep_id, run_id FROM sweep_scenarios) USING (run_id)"
            " WHERE sweep_id = $sweep AND kind = 'baseline' ORDER BY from_block, to_block"
        ),
    )


def _made(lake: Lake, market: str, runs: Iterable[dict[str, Any]]) -> bool:
    """Replay and store what these lack; runs of other data or versions stay without, and so does what cannot be
    replayed. Whether there is something new.
    """
    from backtest.cli.replay import progress_bar
    from backtest.replay import ENGINE_VERSION
    from backtest.results import run
    from backtest.scenario import Scenario
    from backtest.tables import RULES_VERSION

    now = (lake.digest(market), RULES_VERSION, ENGINE_VERSION)
    windows = {
        (row["from_block"], row["to_block"])
        for row in runs
        if row["history_id"] is None and (row["lake_digest"], row["rules_version"], row["engine_version"]) == now
    }
    found = False
    for first, last in sorted(windows):
        try:
            with progress_bar() as progress:
                run(lake, market, Scenario(from_block=first, to_block=last), progress=progress)
        except (UserError, OSError):  # the lake may be read-only, or busy
            continue
        found = True
    if found:
        lake.refresh()
    return found
