-- Purpose: stored replays side by side, history in the same columns, each alternative with its baseline.
-- Grain: run_id.
-- Columns:
--   run_id: the replay
--   name: name of the scenario
--   market: name of the market
--   kind: history, baseline or alternative; null in runs of older versions
--   baseline_id: of an alternative: the run that it is compared with; null where none is stored
--   liquidator_model: observed, competitive, sealed-bid, ...: the kind of liquidators
--   response: what users do: frozen, same-ltv, same-health
--   rates: interest: historical or recomputed
--   liquidations: number of liquidations
--   accounts_liquidated: number of distinct accounts liquidated
--   repaid_base: base-currency units at the oracle price of each liquidation
--   seized_base: base-currency units at the oracle price of each liquidation
--   protocol_fee_base: base-currency units at the oracle price of each liquidation
--   borrower_loss_base: seized plus protocol fee minus repaid: the bonus and the fee, base-currency units
--   deficit_base: debt written off, base-currency units at the oracle price
--   open_bad_debt_base: debt beyond the collateral of its account at the end, base-currency units; null in runs of older versions
--   bad_debt_base: both together, base-currency units; null in runs of older versions
--   peak_bad_debt_base: the most that both were together, base-currency units; null in runs of older versions
WITH taken AS (
    SELECT run_id, sum(repaid_base) AS repaid, sum(seized_base) AS seized, sum(protocol_fee_base) AS fee FROM run_liquidations GROUP BY run_id
), lost AS (
    SELECT run_id, sum(amount_base) AS deficit FROM run_deficits GROUP BY run_id
), ended AS (
    SELECT run_id, open_bad_debt_base, bad_debt_base, peak_bad_debt_base FROM run_losses WHERE label = 'end'
)
SELECT r.run_id, r.name, r.market, p.kind, p.baseline_id, r.liquidator_model, r.response, r.rates, r.liquidations, r.accounts_liquidated,
    coalesce(t.repaid, 0)::DECIMAL(38, 0) AS repaid_base, coalesce(t.seized, 0)::DECIMAL(38, 0) AS seized_base,
    coalesce(t.fee, 0)::DECIMAL(38, 0) AS protocol_fee_base, coalesce(t.seized + t.fee - t.repaid, 0)::DECIMAL(38, 0) AS borrower_loss_base,
    coalesce(l.deficit, 0)::DECIMAL(38, 0) AS deficit_base, e.open_bad_debt_base, e.bad_debt_base, e.peak_bad_debt_base
FROM runs AS r LEFT JOIN run_pairs AS p USING (run_id) LEFT JOIN taken AS t USING (run_id) LEFT JOIN lost AS l USING (run_id)
LEFT JOIN ended AS e USING (run_id)
