-- Purpose: stored replays side by side, and history in the same columns where it was observed.
-- Grain: run_id.
-- Columns:
--   run_id: the replay
--   name: name of the scenario
--   market: name of the market
--   liquidator_model: observed or competitive
--   liquidations: number of liquidations
--   accounts_liquidated: number of distinct accounts liquidated
--   repaid_base: base-currency units at the oracle price of each liquidation
--   seized_base: base-currency units at the oracle price of each liquidation
--   protocol_fee_base: base-currency units at the oracle price of each liquidation
--   deficit_base: debt written off, base-currency units at the oracle price
--   bad_debt_base: debt above the collateral of its account at the end, base-currency units; null without sampled totals
WITH taken AS (
    SELECT run_id, sum(repaid_base) AS repaid_base, sum(seized_base) AS seized_base, sum(protocol_fee_base) AS protocol_fee_base
    FROM run_liquidations GROUP BY run_id
), lost AS (
    SELECT run_id, sum(amount_base) AS deficit_base FROM run_deficits GROUP BY run_id
), ended AS (
    SELECT run_id, arg_max(bad_debt_base, block_number) AS bad_debt_base FROM run_totals GROUP BY run_id
)
SELECT r.run_id, r.name, r.market, r.liquidator_model, r.liquidations, r.accounts_liquidated, coalesce(t.repaid_base, 0) AS repaid_base,
    coalesce(t.seized_base, 0) AS seized_base, coalesce(t.protocol_fee_base, 0) AS protocol_fee_base, coalesce(l.deficit_base, 0) AS deficit_base, e.bad_debt_base
FROM runs AS r LEFT JOIN taken AS t USING (run_id) LEFT JOIN lost AS l USING (run_id) LEFT JOIN ended AS e USING (run_id)
