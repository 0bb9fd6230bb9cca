-- Purpose: what each market of a joint replay is spared without another market, an owner or an asset's impact.
-- Grain: (joint_id, kind, left_out, of_market).
-- Columns:
--   joint_id: the joint replay
--   name: name of the scenario
--   kind: market, owner or asset: see leave_one_out
--   left_out: which
--   of_market: who is spared
--   currency: what amounts are counted in, base units: the first market's base currency; each amount of another is rounded up
--   decimals: its decimals
--   bad_debt_base: debt written off, and debt beyond the collateral of its account, without it
--   borrowers_loss_base: seized plus protocol fee minus repaid, without it
--   repaid_base: debt repaid, without it
--   spared_bad_debt_base: the joint replay's less that without it, of the same accounts; below zero where more is lost without it
--   spared_borrowers_loss_base: the same of the borrowers' loss
--   spared_repaid_base: the same of debt repaid
--   drawn: whether another seed may come to another difference
WITH worth AS (
    SELECT l.joint_id, j.name, l.kind, l.left_out, l.of_market, j.currency, j.decimals, l.drawn, j.worth_numerator::HUGEINT AS up, j.worth_denominator::HUGEINT AS down,
        mul_div_up((l.realised_bad_debt_base + l.open_bad_debt_base)::HUGEINT, up, down) AS bad_debt, mul_div_up(l.repaid_base::HUGEINT, up, down) AS repaid,
        mul_div_up((l.seized_base + l.protocol_fee_base)::HUGEINT, up, down) AS taken,
        mul_div_up((l.joint_realised_bad_debt_base + l.joint_open_bad_debt_base)::HUGEINT, up, down) AS joint_bad_debt,
        mul_div_up(l.joint_repaid_base::HUGEINT, up, down) AS joint_repaid, mul_div_up((l.joint_seized_base + l.joint_protocol_fee_base)::HUGEINT, up, down) AS joint_taken
    FROM leave_one_out AS l JOIN joints AS j ON j.joint_id = l.joint_id AND j.market = l.of_market
)
SELECT joint_id, name, kind, left_out, of_market, currency, decimals, bad_debt::DECIMAL(38, 0) AS bad_debt_base,
    (taken - repaid)::DECIMAL(38, 0) AS borrowers_loss_base, repaid::DECIMAL(38, 0) AS repaid_base, (joint_bad_debt - bad_debt)::DECIMAL(38, 0) AS spared_bad_debt_base,
    (joint_taken - joint_repaid - taken + repaid)::DECIMAL(38, 0) AS spared_borrowers_loss_base, (joint_repaid - repaid)::DECIMAL(38, 0) AS spared_repaid_base, drawn
FROM worth
