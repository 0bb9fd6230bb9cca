-- Purpose: what liquidations did to each account in each stored replay, and how it ended.
-- Grain: (run_id, account); accounts that were liquidated, or hold or owe something at the end of the window.
-- Columns:
--   run_id: the replay
--   account: address
--   liquidations: number of liquidations
--   repaid_base: its debt that liquidators repaid, base-currency units at the oracle price of each liquidation
--   seized_base: its collateral that liquidators got, base-currency units at the oracle price of each liquidation
--   protocol_fee_base: its collateral that the treasury got, base-currency units at the oracle price of each liquidation
--   borrower_loss_base: seized plus protocol fee minus repaid: the bonus and the fee, base-currency units
--   profit_base: what its liquidators made after stated costs, base-currency units
--   realised_bad_debt_base: its debt that was written off, base-currency units at the oracle price then
--   open_bad_debt_base: its debt beyond its collateral at the end of the window, base-currency units; null without a price
--   equity_base: collateral minus debt at the end of the window, base-currency units, signed; null where it holds nothing, or without a price
--   made_by_override: whether an override, not a price, made it liquidatable before one of these liquidations
WITH taken AS (
    SELECT run_id, account, count(*) AS liquidations, sum(repaid_base) AS repaid, sum(seized_base) AS seized, sum(protocol_fee_base) AS fee,
        sum(profit_base) AS profit, coalesce(bool_or(made_by_override), false) AS made
    FROM run_liquidations GROUP BY run_id, account
), lost AS (
    SELECT run_id, account, sum(amount_base) AS realised FROM run_deficits GROUP BY run_id, account
), ended AS (
    SELECT run_id, account, equity_base FROM run_equity WHERE label = 'end'
), complete AS (
    SELECT run_id FROM run_windows WHERE label = 'end' AND accounts_unpriced = 0
)
SELECT run_id, account, coalesce(t.liquidations, 0) AS liquidations, coalesce(t.repaid, 0)::DECIMAL(38, 0) AS repaid_base,
    coalesce(t.seized, 0)::DECIMAL(38, 0) AS seized_base, coalesce(t.fee, 0)::DECIMAL(38, 0) AS protocol_fee_base,
    coalesce(t.seized + t.fee - t.repaid, 0)::DECIMAL(38, 0) AS borrower_loss_base, coalesce(t.profit, 0)::DECIMAL(38, 0) AS profit_base,
    coalesce(l.realised, 0)::DECIMAL(38, 0) AS realised_bad_debt_base,
    CASE WHEN e.equity_base IS NOT NULL THEN greatest(-e.equity_base, 0) WHEN c.run_id IS NOT NULL THEN 0 END::DECIMAL(38, 0) AS open_bad_debt_base,
    e.equity_base, coalesce(t.made, false) AS made_by_override
FROM taken AS t FULL JOIN lost AS l USING (run_id, account) FULL JOIN ended AS e USING (run_id, account) LEFT JOIN complete AS c USING (run_id)
