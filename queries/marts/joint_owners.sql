-- Purpose: addresses that have accounts in several markets of a joint replay: what was liquidated of them, joint and alone.
-- Grain: (joint_id, account).
-- Columns:
--   joint_id: the joint replay
--   account: address
--   markets: number of markets in which it holds or owes something at the end of the window, joint or alone, or was liquidated
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   liquidations: in the joint replay
--   alone_liquidations: in the replays alone
--   equity_base: collateral minus debt at the end of the window, of all markets, in the joint replay; rounded towards zero in each
--   alone_equity_base: in the replays alone
WITH runs_of AS (
    SELECT joint_id, market, currency, decimals, worth_numerator AS up, worth_denominator AS down, run_id, true AS joint FROM joints
    UNION ALL SELECT joint_id, market, currency, decimals, worth_numerator, worth_denominator, alone_id, false FROM joints WHERE alone_id IS NOT NULL
), parts AS (
    SELECT r.joint_id, r.market, r.currency, r.decimals, r.joint, e.account, e.equity_base, r.up, r.down, 0 AS hits FROM runs_of AS r JOIN run_equity AS e USING (run_id) WHERE e.label = 'end'
    UNION ALL SELECT r.joint_id, r.market, r.currency, r.decimals, r.joint, h.account, 0, r.up, r.down, 1 FROM runs_of AS r JOIN run_liquidations AS h USING (run_id)
)
SELECT joint_id, account, count(DISTINCT market) AS markets, any_value(currency) AS currency, any_value(decimals) AS decimals,
    coalesce(sum(hits) FILTER (joint), 0)::BIGINT AS liquidations, coalesce(sum(hits) FILTER (NOT joint), 0)::BIGINT AS alone_liquidations,
    coalesce(sum(sign(equity_base) * mul_div_down(abs(equity_base)::HUGEINT, up::HUGEINT, down::HUGEINT)) FILTER (joint), 0)::DECIMAL(38, 0) AS equity_base,
    coalesce(sum(sign(equity_base) * mul_div_down(abs(equity_base)::HUGEINT, up::HUGEINT, down::HUGEINT)) FILTER (NOT joint), 0)::DECIMAL(38, 0) AS alone_equity_base
FROM parts GROUP BY joint_id, account HAVING markets > 1
