-- Purpose: who lends in the markets of a joint replay, a vault in several of them: what it has lent at the end, and its share of their losses, joint and alone.
-- Grain: (joint_id, account).
-- Columns:
--   joint_id: the joint replay
--   account: address
--   markets: number of markets in which it holds, at the end of the joint replay, what is borrowed there
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   lent_base: what it has lent at the end of the joint replay, rounded down in each market; null without a price
--   loss_base: its share of debt written off and of debt without cover at the end (run_lenders), rounded up in each market; null where that is not known
--   alone_loss_base: the same of the replays alone
--   contagion_base: loss_base less alone_loss_base
WITH parts AS (
    SELECT j.joint_id, j.market, j.currency, j.decimals, l.account, true AS joint, j.worth_numerator AS up, j.worth_denominator AS down, l.lent_base, l.loss_base
    FROM joints AS j JOIN run_lenders AS l ON l.run_id = j.run_id
    UNION ALL
    SELECT j.joint_id, j.market, j.currency, j.decimals, l.account, false, j.worth_numerator, j.worth_denominator, l.lent_base, l.loss_base
    FROM joints AS j JOIN run_lenders AS l ON l.run_id = j.alone_id
), valued AS (
    SELECT joint_id, account, market, currency, decimals, joint, mul_div_down(lent_base::HUGEINT, up::HUGEINT, down::HUGEINT) AS lent_base,
        mul_div_up(loss_base::HUGEINT, up::HUGEINT, down::HUGEINT) AS loss_base
    FROM parts
), known AS (
    SELECT joint_id, bool_and(alone_id IS NOT NULL) AS alone FROM joints GROUP BY joint_id
), sums AS (
    SELECT joint_id, account, count(DISTINCT market) FILTER (joint) AS markets, any_value(currency) AS currency, any_value(decimals) AS decimals,
        CASE WHEN bool_and(lent_base IS NOT NULL) FILTER (joint) THEN sum(lent_base) FILTER (joint) END AS lent_base,
        CASE WHEN bool_and(loss_base IS NOT NULL) FILTER (joint) THEN sum(loss_base) FILTER (joint) END AS loss_base,
        CASE WHEN coalesce(bool_and(loss_base IS NOT NULL) FILTER (NOT joint), true) THEN coalesce(sum(loss_base) FILTER (NOT joint), 0) END AS alone_base
    FROM valued GROUP BY joint_id, account
)
SELECT joint_id, account, markets, currency, decimals, lent_base::DECIMAL(38, 0) AS lent_base, loss_base::DECIMAL(38, 0) AS loss_base,
    CASE WHEN k.alone THEN alone_base END::DECIMAL(38, 0) AS alone_loss_base, CASE WHEN k.alone THEN loss_base - alone_base END::DECIMAL(38, 0) AS contagion_base
FROM sums JOIN known AS k USING (joint_id) WHERE markets > 0
