-- Purpose: what each market of a joint replay loses, beside its replay alone.
-- Grain: (joint_id, label, market).
-- Columns:
--   joint_id: the joint replay
--   name: name of the scenario
--   market: name of the market
--   place: its place among the markets
--   label: end, +1h, +1d or +7d
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   liquidations: in the joint replay
--   alone_liquidations: in its replay alone
--   repaid_base: debt repaid in the joint replay
--   alone_repaid_base: in its replay alone
--   bad_debt_base: debt written off, and debt beyond the collateral of its account at the moment, in the joint replay; rounded up
--   alone_bad_debt_base: in its replay alone; rounded up
--   contagion_base: the joint replay's bad debt less that of the replay alone
SELECT j.joint_id, j.name, j.market, j.place, w.label, j.currency, j.decimals, w.liquidations, a.liquidations AS alone_liquidations,
    mul_div_up(w.repaid_base::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)::DECIMAL(38, 0) AS repaid_base,
    mul_div_up(a.repaid_base::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)::DECIMAL(38, 0) AS alone_repaid_base,
    mul_div_up((w.realised_bad_debt_base + w.open_bad_debt_base)::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)::DECIMAL(38, 0) AS bad_debt_base,
    mul_div_up((a.realised_bad_debt_base + a.open_bad_debt_base)::HUGEINT, j.worth_numerator::HUGEINT, j.worth_denominator::HUGEINT)::DECIMAL(38, 0) AS alone_bad_debt_base,
    (bad_debt_base - alone_bad_debt_base)::DECIMAL(38, 0) AS contagion_base
FROM joints AS j JOIN run_windows AS w ON w.run_id = j.run_id LEFT JOIN run_windows AS a ON a.run_id = j.alone_id AND a.label = w.label
