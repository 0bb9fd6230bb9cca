-- Purpose: borrowing power against value at risk over stresses of the same draws: what each parameter set gives, and whether another gives as much for less risk.
-- Grain: (stress_id, ordinal); cases that do not concern the market are left out.
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   draws: the same for stresses whose paths have the same prices
--   ordinal: the case
--   case_name: its name
--   changes: what the scenario changes, in words; empty: nothing
--   borrowing_power_base: what all accounts may owe before any path, base-currency units
--   var99_base: ninety-nine paths of a hundred add no more bad debt, base-currency units
--   mean_base: mean of the bad debt added, base-currency units, DOUBLE
--   efficient: whether no other stress of the same draws and case has as much borrowing power and less risk, or more power and no more risk
WITH points AS (
    SELECT l.stress_id, l.market, b.draws, l.ordinal, l.case_name, b.changes, b.borrowing_power_base, l.var99_base, l.mean_base
    FROM stress_losses AS l JOIN stress_books AS b USING (stress_id)
)
SELECT p.*, NOT EXISTS (
        FROM points AS o WHERE o.draws = p.draws AND o.ordinal = p.ordinal AND o.borrowing_power_base >= p.borrowing_power_base
            AND o.var99_base <= p.var99_base AND (o.borrowing_power_base > p.borrowing_power_base OR o.var99_base < p.var99_base)
    ) AS efficient
FROM points AS p
