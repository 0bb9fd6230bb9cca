-- Purpose: the loss of several markets together, against the sum of what each loses alone.
-- Grain: (joint_id, label).
-- Columns:
--   joint_id: the joint replay
--   name: name of the scenario
--   label: end, +1h, +1d or +7d
--   markets: number of markets that have figures there; where it is less than all, the sums lack the others
--   of_markets: number of all markets
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   liquidations: in the joint replay
--   alone_liquidations: in the replays alone
--   bad_debt_base: of all markets together
--   alone_bad_debt_base: the sum of what each loses alone
--   contagion_base: the difference: what the markets do to each other
SELECT joint_id, any_value(l.name) AS name, label, count(*) AS markets, any_value(of.markets) AS of_markets, any_value(currency) AS currency, any_value(decimals) AS decimals,
    sum(liquidations)::BIGINT AS liquidations, sum(alone_liquidations)::BIGINT AS alone_liquidations, sum(bad_debt_base)::DECIMAL(38, 0) AS bad_debt_base,
    sum(alone_bad_debt_base)::DECIMAL(38, 0) AS alone_bad_debt_base, sum(contagion_base)::DECIMAL(38, 0) AS contagion_base
FROM joint_losses AS l JOIN (SELECT joint_id, count(*) AS markets FROM joints GROUP BY joint_id) AS of USING (joint_id) GROUP BY joint_id, label
