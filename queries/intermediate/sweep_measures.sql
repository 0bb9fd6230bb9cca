-- Purpose: the measures of every replay of a sweep, in a form that compares them.
-- Grain: (sweep_id, point, response, window, measure); baselines, failed scenarios and measures that a run lacks are left out.
-- Columns:
--   sweep_id: the sweep
--   point: number of the parameter set
--   response: what users do
--   window: name of the window
--   held_out: whether the window is kept apart
--   run_id: the replay
--   measure: bad_debt (realised plus open at the end), borrower_loss (bonus and fee), borrowing_power (at the end) or repaid (liquidated volume)
--   amount_base: base-currency units
--   cost_base: the same, with its sign turned where more is better: less is always better
WITH each AS (
    UNPIVOT (
        SELECT s.sweep_id, s.point, s.response, s."window", s.held_out, s.run_id,
            (w.realised_bad_debt_base + w.open_bad_debt_base)::DECIMAL(38, 0) AS bad_debt,
            (w.seized_base + w.protocol_fee_base - w.repaid_base)::DECIMAL(38, 0) AS borrower_loss,
            w.borrowing_power_base AS borrowing_power, w.repaid_base AS repaid
        FROM sweep_scenarios AS s JOIN run_windows AS w ON w.run_id = s.run_id AND w.label = 'end' WHERE s.role = 'scenario'
    ) ON bad_debt, borrower_loss, borrowing_power, repaid INTO NAME measure VALUE amount
)
SELECT e.sweep_id, e.point, e.response, e."window", e.held_out, e.run_id, e.measure, e.amount AS amount_base,
    (CASE o.better WHEN 'max' THEN -e.amount ELSE e.amount END)::DECIMAL(38, 0) AS cost_base
FROM each AS e JOIN results.sweep_objectives AS o USING (sweep_id, measure)
