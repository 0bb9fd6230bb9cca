-- Purpose: the measures of every replay of a sweep that its objectives name, in a form that compares them.
-- Grain: (sweep_id, point, response, window, measure); baselines, failed scenarios and measures that a run lacks are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   run_id: the replay; of several markets the first one's run, and amounts are sums over all, in its base units, each rounded up
--   measure: a number of run_summary or sweep_liquidators, without _base at its end; borrowing_power (at the end of the window, of run_windows)
--   unit: base (base-currency units), number, seconds, points (hhi, rounded) or bps (zero_bid_share, rounded to basis points)
--   amount: in that unit
--   cost: the same, with its sign turned where more is better: less is always better
WITH summed AS (
    UNPIVOT (
        SELECT s.sweep_id, s.point, s.response, s."window", s.held_out, s.run_id, p.up, p.down, w.liquidations::DECIMAL(38, 0) AS liquidations,
            r.accounts_liquidated::DECIMAL(38, 0) AS accounts_liquidated, w.repaid_base AS repaid, w.seized_base AS seized,
            w.protocol_fee_base AS protocol_fee, (w.seized_base + w.protocol_fee_base - w.repaid_base)::DECIMAL(38, 0) AS borrower_loss,
            w.realised_bad_debt_base AS deficit, w.open_bad_debt_base AS open_bad_debt,
            (w.realised_bad_debt_base + w.open_bad_debt_base)::DECIMAL(38, 0) AS bad_debt, w.peak_bad_debt_base AS peak_bad_debt,
            w.borrowing_power_base AS borrowing_power
        FROM sweep_scenarios AS s JOIN sweep_parts AS p USING (run_id) JOIN run_windows AS w ON w.run_id = p.part_id AND w.label = 'end'
        LEFT JOIN runs AS r ON r.run_id = p.part_id
        WHERE s.role = 'scenario'
    ) ON liquidations, accounts_liquidated, repaid, seized, protocol_fee, borrower_loss, deficit, open_bad_debt, bad_debt, peak_bad_debt,
        borrowing_power INTO NAME measure VALUE amount
), competed AS (
    UNPIVOT (
        SELECT sweep_id, point, response, "window", held_out, run_id, rent_base AS rent, bid_base AS bid, protocol_share_base AS protocol_share,
            oracle_share_base AS oracle_share, opportunities::DECIMAL(38, 0) AS opportunities, median_seconds::DECIMAL(38, 0) AS median_seconds,
            p90_seconds::DECIMAL(38, 0) AS p90_seconds, missed_debt_base AS missed_debt, round(hhi)::DECIMAL(38, 0) AS hhi,
            contests::DECIMAL(38, 0) AS contests, round(10000 * zero_bid_share)::DECIMAL(38, 0) AS zero_bid_share
        FROM sweep_liquidators
    ) ON rent, bid, protocol_share, oracle_share, opportunities, median_seconds, p90_seconds, missed_debt, hhi, contests, zero_bid_share
        INTO NAME measure VALUE amount
), each AS (
    SELECT sweep_id, point, response, "window", held_out, run_id, measure, sum(
        CASE WHEN up = down OR measure IN ('liquidations', 'accounts_liquidated') THEN amount
            ELSE sign(amount) * mul_div_up(abs(amount)::HUGEINT, up, down) END
    )::DECIMAL(38, 0) AS amount FROM summed GROUP BY ALL
    UNION ALL SELECT * FROM competed
)
SELECT e.sweep_id, e.point, e.response, e."window", e.held_out, e.run_id, e.measure,
    CASE WHEN e.measure IN ('liquidations', 'accounts_liquidated', 'opportunities', 'contests') THEN 'number'
        WHEN e.measure IN ('median_seconds', 'p90_seconds') THEN 'seconds' WHEN e.measure = 'hhi' THEN 'points'
        WHEN e.measure = 'zero_bid_share' THEN 'bps' ELSE 'base' END AS unit,
    e.amount, (CASE o.better WHEN 'max' THEN -e.amount ELSE e.amount END)::DECIMAL(38, 0) AS cost
FROM each AS e JOIN results.sweep_objectives AS o USING (sweep_id, measure)
