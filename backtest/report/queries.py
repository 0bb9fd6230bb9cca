"""Every number on the page: SQL over result tables, prices and assets. Nothing here replays.

A ``Query`` runs one SELECT and returns its rows. Amounts stay exact (DECIMAL) in tables; ``_usd`` columns are DOUBLE,
in whole units of the market's base currency, for charts only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.errors import UserError

Row = dict[str, Any]
Query = Callable[[str], list[Row]]

BINS = 300  # time bins of a chart, each some three pixels wide
STEPS = (60, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000)
SHOWN_ASSETS = 6


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs of one page, all of one market, and what scales them.

    ``runs`` are rows of the table ``runs`` in the order asked for; ``base`` is the run that others are compared with;
    ``decimals`` those of the base currency; ``step`` the width of a time bin in seconds.
    """

    query: Query
    runs: tuple[Row, ...]
    base: Row
    market: str
    decimals: int
    currency: str

    @property
    def start(self) -> int:
        """First second of the window: the earliest of the runs."""
        return int(min(run["from_timestamp"] for run in self.runs))

    @property
    def end(self) -> int:
        """Last second of the window."""
        return int(max(run["to_timestamp"] for run in self.runs))

    @property
    def step(self) -> int:
        """Seconds of one time bin."""
        wanted = (self.end - self.start) / BINS
        return next((step for step in STEPS if step >= wanted), STEPS[-1])

    def fill(self, text: str) -> list[Row]:
        """Rows of a SELECT in which ``$runs``, ``$base``, ``$market``, ``$unit``, ``$start``, ``$end`` and ``$step`` stand for the selection's."""
        values = {
            "$runs": "(" + ", ".join(_quoted(run["run_id"]) for run in self.runs) + ")",
            "$base": _quoted(self.base["run_id"]),
            "$market": _quoted(self.market),
            "$unit": f"1e{self.decimals}",
            "$start": str(self.start),
            "$end": str(self.end),
            "$step": str(self.step),
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return self.query(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def find_runs(query: Query, wanted: Sequence[str], market: str | None = None) -> tuple[Row, ...]:
    """The runs whose id starts with, or whose name is, each word of ``wanted``; no words: all runs, history first. Of one market, if given.

    Raises:
        UserError: no such run, several, or runs of more than one market.
    """
    where = "" if market is None else f"WHERE market = {_quoted(market)}"
    known = query(f"SELECT * FROM runs {where} ORDER BY liquidator_model = 'observed' DESC, contains(scenario, 'overrides'), name, run_id")
    if not known:
        raise UserError(f"the lake holds no runs{f' of {market}' if market else ''}", "make one first: backtest replay --help")
    if not wanted:
        found = known
    else:
        found = []
        for word in wanted:
            hits = [run for run in known if run["run_id"].startswith(word) or run["name"] == word]
            if len(hits) != 1:
                names = ", ".join(f"{run['run_id'][:12]} ({run['name']})" for run in (hits or known)[:8])
                raise UserError(f"{'several runs match' if hits else 'there is no run'} '{word}'", f"give an id or its first digits: {names}")
            found += [run for run in hits if run not in found]
    markets = sorted({run["market"] for run in found})
    if len(markets) > 1:
        raise UserError(f"runs of several markets: {', '.join(markets)}", "name one with --market")
    return tuple(found)


# One row per run; amounts in base-currency units. ``cost`` is what liquidations took from borrowers beyond the debt repaid.
SUMMARY = """
WITH hits AS (
    SELECT run_id, count(*) AS liquidations, count(DISTINCT account) AS accounts, sum(repaid_base) AS repaid, sum(seized_base) AS seized,
        sum(protocol_fee_base) AS fee, sum(seized_base + protocol_fee_base - repaid_base) AS cost, sum(profit_base) AS profit,
        max(repaid_base) AS largest, count(*) FILTER (matches_history) AS matching, count(matches_history) AS matchable,
        bool_and(rules_tested) AS tested
    FROM run_liquidations WHERE run_id IN $runs GROUP BY run_id
), written_off AS (
    SELECT run_id, sum(amount_base) AS deficit FROM run_deficits WHERE run_id IN $runs GROUP BY run_id
), last_totals AS (
    SELECT run_id, arg_max(debt_base, block_number) AS debt_end, arg_max(collateral_base, block_number) AS collateral_end,
        arg_max(bad_debt_base, block_number) AS bad_debt_end, arg_max(liquidatable_debt_base, block_number) AS liquidatable_end
    FROM run_totals WHERE run_id IN $runs GROUP BY run_id
)
SELECT run_id, coalesce(hits.liquidations, 0) AS liquidations, coalesce(accounts, 0) AS accounts, coalesce(repaid, 0) AS repaid,
    coalesce(seized, 0) AS seized, coalesce(fee, 0) AS fee, coalesce(cost, 0) AS cost, coalesce(profit, 0) AS profit, largest,
    coalesce(matching, 0) AS matching, coalesce(matchable, 0) AS matchable, tested, coalesce(deficit, 0) AS deficit,
    debt_end, collateral_end, bad_debt_end, liquidatable_end, runs.actions_clamped
FROM runs LEFT JOIN hits USING (run_id) LEFT JOIN written_off USING (run_id) LEFT JOIN last_totals USING (run_id)
WHERE run_id IN $runs
"""

# One row per run and time bin, none missing: what was liquidated in it, since the start, and that less the base run's.
TIMELINE = """
WITH grid AS (SELECT run_id, unnest(range($start - $start % $step, $end + 1, $step)) AS bin FROM runs WHERE run_id IN $runs),
hits AS (
    SELECT run_id, timestamp - timestamp % $step AS bin, sum(repaid_base) AS repaid, count(*) AS liquidations
    FROM run_liquidations WHERE run_id IN $runs GROUP BY ALL
), summed AS (
    SELECT run_id, bin, coalesce(repaid, 0) AS repaid, coalesce(liquidations, 0) AS liquidations,
        sum(coalesce(repaid, 0)) OVER (PARTITION BY run_id ORDER BY bin) AS cumulative
    FROM grid LEFT JOIN hits USING (run_id, bin)
)
SELECT run_id, bin, repaid::DOUBLE / $unit AS repaid_usd, liquidations, cumulative::DOUBLE / $unit AS cumulative_usd,
    (cumulative - sum(cumulative) FILTER (run_id = $base) OVER (PARTITION BY bin))::DOUBLE / $unit AS beyond_base_usd
FROM summed ORDER BY run_id, bin
"""

# One row per asset and time bin with a price: the last one in the bin, and relative to the last known at the start (100).
# Of the assets that some run liquidated, those with the most seized; all assets where nothing was seized.
PRICES = """
WITH shown AS (
    SELECT asset_id, symbol, asset FROM assets LEFT JOIN run_liquidations AS hits
        ON hits.collateral_asset = assets.asset AND hits.run_id IN $runs
    WHERE assets.market = $market GROUP BY ALL ORDER BY sum(seized_base) DESC NULLS LAST, asset_id LIMIT $shown
), steps AS (
    SELECT asset_id, symbol, asset, price, seq, greatest(timestamp, $start) - greatest(timestamp, $start) % $step AS bin
    FROM prices JOIN shown USING (asset_id) WHERE prices.market = $market AND timestamp <= $end AND price IS NOT NULL
), binned AS (SELECT asset_id, symbol, asset, bin, arg_max(price, seq) AS price FROM steps GROUP BY ALL)
SELECT symbol, asset, bin, price::DOUBLE / $unit AS price_usd,
    100 * price::DOUBLE / first_value(price) OVER (PARTITION BY asset_id ORDER BY bin) AS relative
FROM binned ORDER BY asset_id, bin
""".replace("$shown", str(SHOWN_ASSETS))

# One row per run and collateral asset.
BY_COLLATERAL = """
SELECT run_id, coalesce(assets.symbol, collateral_asset) AS symbol, count(*) AS liquidations, count(DISTINCT account) AS accounts,
    sum(repaid_base) AS repaid, sum(seized_base) AS seized, sum(repaid_base)::DOUBLE / $unit AS repaid_usd
FROM run_liquidations LEFT JOIN assets ON assets.asset = collateral_asset AND assets.market = $market
WHERE run_id IN $runs GROUP BY run_id, ALL ORDER BY repaid DESC, symbol
""".replace("run_id, ALL", "run_id, assets.symbol, collateral_asset")

# The collateral and debt assets that the base run liquidated most.
PAIRS = """
SELECT coalesce(c.symbol, collateral_asset) AS collateral, coalesce(d.symbol, debt_asset) AS debt, count(*) AS liquidations,
    count(DISTINCT account) AS accounts, sum(repaid_base) AS repaid, sum(seized_base) AS seized, sum(protocol_fee_base) AS fee,
    sum(seized_base + protocol_fee_base - repaid_base) AS cost
FROM run_liquidations LEFT JOIN assets AS c ON c.asset = collateral_asset AND c.market = $market
    LEFT JOIN assets AS d ON d.asset = debt_asset AND d.market = $market
WHERE run_id = $base GROUP BY 1, 2 ORDER BY repaid DESC, 1, 2 LIMIT 20
"""

# One row per run and time bin with a sample: the last sample in it.
TOTALS = """
SELECT run_id, timestamp - timestamp % $step AS bin, arg_max(collateral_base, block_number)::DOUBLE / $unit AS collateral_usd,
    arg_max(debt_base, block_number)::DOUBLE / $unit AS debt_usd, arg_max(bad_debt_base, block_number)::DOUBLE / $unit AS bad_debt_usd,
    arg_max(deficit_base, block_number)::DOUBLE / $unit AS deficit_usd,
    max(liquidatable_debt_base)::DOUBLE / $unit AS liquidatable_usd
FROM run_totals WHERE run_id IN $runs AND timestamp BETWEEN $start AND $end GROUP BY ALL ORDER BY run_id, bin
"""

# One row per run and rank (by debt repaid): the share of all debt repaid that the accounts up to this rank had.
CONCENTRATION = """
WITH accounts AS (
    SELECT run_id, account, sum(repaid_base) AS repaid FROM run_liquidations WHERE run_id IN $runs GROUP BY ALL
), ranked AS (
    SELECT run_id, row_number() OVER per_run AS rank, sum(repaid) OVER per_run AS so_far, sum(repaid) OVER (PARTITION BY run_id) AS everything
    FROM accounts WINDOW per_run AS (PARTITION BY run_id ORDER BY repaid DESC, account)
)
SELECT run_id, rank, so_far::DOUBLE / everything AS share FROM ranked
WHERE everything > 0 AND (rank <= 100 OR so_far = everything) ORDER BY run_id, rank
"""

# The ten accounts that the base run liquidated for most.
LARGEST = """
SELECT account, count(*) AS liquidations, sum(repaid_base) AS repaid, sum(seized_base) AS seized,
    sum(seized_base + protocol_fee_base - repaid_base) AS cost, min(health_before) AS lowest_health, min(timestamp) AS first_time,
    sum(repaid_base)::DOUBLE / (SELECT sum(repaid_base) FROM run_liquidations WHERE run_id = $base) AS share
FROM run_liquidations WHERE run_id = $base GROUP BY account ORDER BY repaid DESC, account LIMIT 10
"""

# One row per run and bin of one hundredth: debt repaid by the health factor (1 = threshold) just before.
HEALTH = """
SELECT run_id, greatest(floor(health_before::DOUBLE / 1e16), 50) / 100 AS health, sum(repaid_base)::DOUBLE / $unit AS repaid_usd,
    count(*) AS liquidations
FROM run_liquidations WHERE run_id IN $runs AND health_before IS NOT NULL GROUP BY ALL ORDER BY run_id, health
"""
