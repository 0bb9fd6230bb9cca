"""Every number of a comparison or a page: SQL over result tables, prices and assets. Nothing here replays.

Amounts stay exact (DECIMAL) in tables; ``_usd`` columns are DOUBLE, in whole units of the market's base currency, for
charts only. Names that start with a dollar sign are filled in by ``Selection.fill``.
"""

from __future__ import annotations

SHOWN_ASSETS = 6

# One row per run: what liquidations did over the whole window; amounts in base-currency units.
SUMMARY = """
WITH hits AS (
    SELECT run_id, sum(profit_base) AS profit, max(repaid_base) AS largest, count(*) FILTER (matches_history) AS
    matching,
        count(matches_history) AS matchable
    FROM run_liquidations WHERE run_id IN $runs GROUP BY run_id
), made AS (
    SELECT run_id, count(*) FILTER (made_by_override) AS liquidated_by_override FROM run_accounts
    WHERE run_id IN $runs AND liquidations > 0 GROUP BY run_id
), direct AS (
    SELECT run_id, count(DISTINCT account) AS made_accounts, sum(debt_base) AS made_debt FROM run_override_accounts
    WHERE run_id IN $runs GROUP BY run_id
)
SELECT run_id, s.liquidations, s.accounts_liquidated AS accounts, coalesce(liquidated_by_override, 0) AS
liquidated_by_override,
    s.accounts_liquidated - coalesce(liquidated_by_override, 0) AS liquidated_by_prices, coalesce(made_accounts, 0)
    AS made_accounts,
    coalesce(made_debt, 0) AS made_debt, s.repaid_base AS repaid, s.seized_base AS seized, s.protocol_fee_base AS
    protocol_fee,
    coalesce(profit, 0) AS profit, largest, coalesce(matching, 0) AS matching, coalesce(matchable, 0) AS matchable,
    w.debt_base AS debt,
    w.collateral_base AS collateral, w.liquidatable_debt_base AS liquidatable, w.accounts_liquidatable AS
    accounts_liquidatable, actions
FROM run_summary AS s JOIN runs USING (run_id) LEFT JOIN hits USING (run_id) LEFT JOIN made USING (run_id) LEFT JOIN
direct USING (run_id)
    LEFT JOIN run_windows AS w ON w.run_id = s.run_id AND w.label = 'end'
WHERE s.run_id IN $runs
"""

# One row per run and window: losses by then.
LOSSES = """
SELECT run_id, label, timestamp, realised_bad_debt_base AS realised, open_bad_debt_base AS open, bad_debt_base AS
bad_debt,
    peak_bad_debt_base AS peak, borrower_loss_base AS borrower_loss, equity_difference_base AS equity_difference
FROM run_losses WHERE run_id IN $runs ORDER BY timestamp
"""

# One row per run and measure: the share of its total, or of all gains, that the largest one and five accounts have.
SHARES = (
    "SELECT run_id, measure, share_largest, share_largest_five FROM run_concentration WHERE run_id IN $runs AND"
    " share_largest IS NOT NULL"
)

# One row per run and outcome: users' actions that were not made as in history.
ACTIONS = """
SELECT run_id, outcome, sum(actions) AS actions, sum(value_base) AS value FROM run_actions WHERE run_id IN $runs
GROUP BY run_id, outcome
"""

# One row per run: the furthest reach of one of its overrides.
REACH = """
SELECT run_id, max(accounts) AS accounts, arg_max(accounts_with_debt, accounts) AS of, max(accounts_in_emode) AS
in_emode
FROM run_reach WHERE run_id IN $runs GROUP BY run_id
"""

# One row per run and account with any of it: what it contributes to each measure of ``verdict.MEASURES``.
CONTRIBUTIONS = """
SELECT run_id, account, repaid_base AS repaid, liquidations, (liquidations > 0)::INTEGER AS accounts,
    realised_bad_debt_base + coalesce(open_bad_debt_base, 0) AS bad_debt, borrower_loss_base AS borrower_loss,
    protocol_fee_base AS protocol_fee,
    profit_base AS profit
FROM run_accounts WHERE run_id IN $known AND (liquidations > 0 OR realised_bad_debt_base <> 0 OR open_bad_debt_base
<> 0)
"""

# One row per compared run: the number of accounts of the market in it or in its baseline.
POPULATIONS = """
SELECT p.run_id, count(DISTINCT a.account) AS accounts FROM run_pairs AS p JOIN run_accounts AS a ON a.run_id =
p.run_id OR a.run_id = p.baseline_id
WHERE p.run_id IN $known AND p.baseline_id IS NOT NULL GROUP BY p.run_id
"""

# One row per run and time bin, none missing: what was liquidated in it, since the start, and that less the same of its
# baseline.
TIMELINE = """
WITH grid AS (SELECT run_id, unnest(range($start - $start % $step, $end + 1, $step)) AS bin FROM runs WHERE run_id IN
$runs),
hits AS (
    SELECT run_id, timestamp - timestamp % $step AS bin, sum(repaid_base) AS repaid, count(*) AS liquidations
    FROM run_liquidations WHERE run_id IN $runs GROUP BY ALL
), summed AS (
    SELECT run_id, bin, coalesce(repaid, 0) AS repaid, coalesce(liquidations, 0) AS liquidations,
        sum(coalesce(repaid, 0)) OVER (PARTITION BY run_id ORDER BY bin) AS cumulative
    FROM grid LEFT JOIN hits USING (run_id, bin)
)
SELECT s.run_id, s.bin, s.repaid::DOUBLE / $unit AS repaid_usd, s.liquidations, s.cumulative::DOUBLE / $unit AS
cumulative_usd,
    (s.cumulative - b.cumulative)::DOUBLE / $unit AS beyond_baseline_usd
FROM summed AS s LEFT JOIN run_pairs AS p USING (run_id) LEFT JOIN summed AS b ON b.run_id = p.baseline_id AND b.bin
= s.bin ORDER BY s.run_id, s.bin
"""

# One row per asset and time bin with a price: the last one in the bin, and relative to the last known at the start
# (100). Of the assets that some run liquidated, those with the most seized; all assets where nothing was seized.
PRICES = """
WITH shown AS (
    SELECT asset_id, label AS symbol, asset FROM assets LEFT JOIN run_liquidations AS hits
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

# Where prices answer to sales: the oracle's and the market's in per cent of history's, the least of each bin.
ANSWERED = """
WITH steps AS (
    SELECT run_id, label AS symbol, greatest(timestamp, $start) - greatest(timestamp, $start) % $step AS bin,
        100 * oracle_price::DOUBLE / history_price::DOUBLE AS oracle,
        100 * market_price::DOUBLE / history_price::DOUBLE AS market
    FROM run_prices JOIN assets USING (market, asset) WHERE run_id IN $runs AND history_price > 0 AND timestamp <= $end
), binned AS (SELECT run_id, symbol, bin, min(oracle) AS oracle, min(market) AS market FROM steps GROUP BY ALL)
UNPIVOT binned ON oracle, market INTO NAME price VALUE relative ORDER BY symbol, run_id, price, bin
"""

# One row per run and collateral asset.
BY_COLLATERAL = """
SELECT run_id, coalesce(assets.label, collateral_asset) AS symbol, count(*) AS liquidations, count(DISTINCT account)
AS accounts,
    sum(repaid_base) AS repaid, sum(seized_base) AS seized, sum(repaid_base)::DOUBLE / $unit AS repaid_usd
FROM run_liquidations LEFT JOIN assets ON assets.asset = collateral_asset AND assets.market = $market
WHERE run_id IN $runs GROUP BY run_id, ALL ORDER BY repaid DESC, symbol
""".replace("run_id, ALL", "run_id, assets.label, collateral_asset")

# The collateral and debt assets that the main run liquidated most.
PAIRS = """
SELECT coalesce(c.label, collateral_asset) AS collateral, coalesce(d.label, debt_asset) AS debt, count(*) AS
liquidations,
    count(DISTINCT account) AS accounts, sum(repaid_base) AS repaid, sum(seized_base) AS seized,
    sum(protocol_fee_base) AS fee,
    sum(seized_base + protocol_fee_base - repaid_base) AS cost
FROM run_liquidations LEFT JOIN assets AS c ON c.asset = collateral_asset AND c.market = $market
    LEFT JOIN assets AS d ON d.asset = debt_asset AND d.market = $market
WHERE run_id = $main GROUP BY 1, 2 ORDER BY repaid DESC, 1, 2 LIMIT 20
"""

# One row per run and time bin with a sample: the last sample in it.
TOTALS = """
SELECT run_id, timestamp - timestamp % $step AS bin, arg_max(collateral_base, block_number)::DOUBLE / $unit AS
collateral_usd,
    arg_max(debt_base, block_number)::DOUBLE / $unit AS debt_usd, arg_max(bad_debt_base, block_number)::DOUBLE /
    $unit AS bad_debt_usd,
    arg_max(deficit_base, block_number)::DOUBLE / $unit AS deficit_usd,
    max(liquidatable_debt_base)::DOUBLE / $unit AS liquidatable_usd
FROM run_totals WHERE run_id IN $runs AND timestamp BETWEEN $start AND $end GROUP BY ALL ORDER BY run_id, bin
"""

# One row per run and rank (by debt repaid): the share of all debt repaid that the accounts up to this rank had.
CONCENTRATION = """
WITH accounts AS (
    SELECT run_id, account, sum(repaid_base) AS repaid FROM run_liquidations WHERE run_id IN $runs GROUP BY ALL
), ranked AS (
    SELECT run_id, row_number() OVER per_run AS rank, sum(repaid) OVER per_run AS so_far, sum(repaid) OVER (PARTITION
    BY run_id) AS everything
    FROM accounts WINDOW per_run AS (PARTITION BY run_id ORDER BY repaid DESC, account)
)
SELECT run_id, rank, so_far::DOUBLE / everything AS share FROM ranked
WHERE everything > 0 AND (rank <= 100 OR so_far = everything) ORDER BY run_id, rank
"""

# The ten accounts that the main run liquidated for most.
LARGEST = """
SELECT account, count(*) AS liquidations, sum(repaid_base) AS repaid, sum(seized_base) AS seized,
    sum(seized_base + protocol_fee_base - repaid_base) AS cost, min(health_before) AS lowest_health, min(timestamp)
    AS first_time,
    sum(repaid_base)::DOUBLE / (SELECT sum(repaid_base) FROM run_liquidations WHERE run_id = $main) AS share
FROM run_liquidations WHERE run_id = $main GROUP BY account ORDER BY repaid DESC, account LIMIT 10
"""

# One row per run and bin of one hundredth: debt repaid by the health factor (1 = threshold) just before.
HEALTH = """
SELECT run_id, greatest(floor(health_before::DOUBLE / 1e16), 50) / 100 AS health, sum(repaid_base)::DOUBLE / $unit AS
repaid_usd,
    count(*) AS liquidations
FROM run_liquidations WHERE run_id IN $runs AND health_before IS NOT NULL GROUP BY ALL ORDER BY run_id, health
"""
