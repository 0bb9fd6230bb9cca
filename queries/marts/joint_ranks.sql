-- Purpose: who matters to a joint replay: what is spared without each market, owner and asset's impact, ranked.
-- Grain: (joint_id, kind, left_out).
-- Columns:
--   joint_id: the joint replay
--   name: name of the scenario
--   kind: market, owner or asset: see leave_one_out
--   left_out: which
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   bad_debt_base: of all markets, without it
--   borrowers_loss_base: the same of the borrowers' loss: seized plus protocol fee minus repaid
--   repaid_base: the same of debt repaid
--   spared_bad_debt_base: the joint replay's bad debt of all markets less that without it, its own included; below zero where more is lost without it
--   spared_borrowers_loss_base: the same of the borrowers' loss
--   spared_repaid_base: the same of debt repaid
--   others_bad_debt_base: of that what others are spared: zero where it touches nobody
--   others_borrowers_loss_base: the same of the borrowers' loss
--   others_repaid_base: the same of debt repaid
--   rank_bad_debt: its place by spared bad debt, from 1; equal ones share it
--   rank_borrowers_loss: by spared borrowers' loss
--   rank_repaid: by spared debt repaid
--   drawn: whether another seed may come to another difference
WITH whole AS (
    SELECT j.joint_id, sum(mul_div_up((w.realised_bad_debt_base + w.open_bad_debt_base)::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)) AS bad_debt,
        sum(mul_div_up((w.seized_base + w.protocol_fee_base)::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)
            - mul_div_up(w.repaid_base::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)) AS borrowers_loss,
        sum(mul_div_up(w.repaid_base::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)) AS repaid
    FROM joints AS j JOIN run_windows AS w ON w.run_id = j.run_id AND w.label = 'end' GROUP BY j.joint_id
), without AS (
    SELECT joint_id, any_value(name) AS name, kind, left_out, any_value(currency) AS currency, any_value(decimals) AS decimals, bool_or(drawn) AS drawn,
        sum(bad_debt_base) AS bad_debt, sum(borrowers_loss_base) AS borrowers_loss, sum(repaid_base) AS repaid,
        sum(spared_bad_debt_base) AS others_bad_debt, sum(spared_borrowers_loss_base) AS others_borrowers_loss, sum(spared_repaid_base) AS others_repaid
    FROM joint_without GROUP BY joint_id, kind, left_out
)
SELECT o.joint_id, o.name, o.kind, o.left_out, o.currency, o.decimals,
    o.bad_debt::DECIMAL(38, 0) AS bad_debt_base, o.borrowers_loss::DECIMAL(38, 0) AS borrowers_loss_base, o.repaid::DECIMAL(38, 0) AS repaid_base,
    (w.bad_debt - o.bad_debt)::DECIMAL(38, 0) AS spared_bad_debt_base, (w.borrowers_loss - o.borrowers_loss)::DECIMAL(38, 0) AS spared_borrowers_loss_base,
    (w.repaid - o.repaid)::DECIMAL(38, 0) AS spared_repaid_base, o.others_bad_debt::DECIMAL(38, 0) AS others_bad_debt_base,
    o.others_borrowers_loss::DECIMAL(38, 0) AS others_borrowers_loss_base, o.others_repaid::DECIMAL(38, 0) AS others_repaid_base,
    rank() OVER (PARTITION BY o.joint_id ORDER BY spared_bad_debt_base DESC) AS rank_bad_debt,
    rank() OVER (PARTITION BY o.joint_id ORDER BY spared_borrowers_loss_base DESC) AS rank_borrowers_loss,
    rank() OVER (PARTITION BY o.joint_id ORDER BY spared_repaid_base DESC) AS rank_repaid, o.drawn
FROM without AS o JOIN whole AS w USING (joint_id)
