-- Purpose: what Gearbox V3.1 credit accounts owe at the end of some blocks: principal, interest on it and on quotas, fees (CreditManagerV3 _calcDebtAndCollateral, CreditLogic calcTotalDebt).
-- Grain: (market, block_number, account_id): accounts with a principal.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: credit account
--   principal: native units of the underlying, HUGEINT
--   base_interest: interest on the principal, native units, HUGEINT
--   quota_interest: interest on quotas, native units, HUGEINT
--   fees: fees of quotas and the treasury's share of both kinds of interest, native units, HUGEINT
--   total: all of it, HUGEINT; null where the block's time or the rules are not known
--   owed_exact: false where a number is beyond what SQL's integers hold (10^33 units): DOUBLE then, good to 1e-14
WITH settled AS (
    SELECT market, account_id, setting, block_number, value::HUGEINT AS value FROM setting_steps
    SEMI JOIN (SELECT market FROM markets WHERE protocol = 'gearbox-v3') AS ours USING (market) WHERE setting IN ('debt_index', 'quota_interest', 'quota_fees')
), quoted AS (
    SELECT market, block_number, account_id, sum(coalesce(interest, interest_near))::HUGEINT AS interest, bool_and(interest IS NOT NULL) AS exact
    FROM gearbox_v3_quotas(accounts, blocks) GROUP BY market, block_number, account_id
), placed AS (
    SELECT h.market, h.block_number, h.account_id, h.debt_scaled::HUGEINT AS principal, r.pool_index, r.interest_fee, d.value AS started, coalesce(f.value, 0)::HUGEINT AS quota_fees,
        coalesce(s.value, 0)::HUGEINT + coalesce(q.interest, 0)::HUGEINT AS quota_interest, coalesce(q.exact, true) AS quotas_exact
    FROM scaled_at('gearbox-v3', accounts, blocks) AS h
    JOIN gearbox_v3_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    LEFT JOIN quoted AS q ON q.market = h.market AND q.block_number = h.block_number AND q.account_id = h.account_id
    ASOF LEFT JOIN (SELECT * FROM settled WHERE setting = 'debt_index') AS d ON d.market = h.market AND d.account_id = h.account_id AND h.block_number >= d.block_number
    ASOF LEFT JOIN (SELECT * FROM settled WHERE setting = 'quota_interest') AS s ON s.market = h.market AND s.account_id = h.account_id AND h.block_number >= s.block_number
    ASOF LEFT JOIN (SELECT * FROM settled WHERE setting = 'quota_fees') AS f ON f.market = h.market AND f.account_id = h.account_id AND h.block_number >= f.block_number
    WHERE h.asset_id = 0 AND h.debt_scaled <> 0
), grown AS (
    SELECT *, mul_div_down(principal, pool_index, started) AS with_interest FROM placed
), earned AS (
    SELECT *, coalesce(with_interest, mul_div_near(principal, pool_index, started)) - principal AS base_interest FROM grown
), charged AS (
    -- The treasury's part of each kind is cut by itself.
    SELECT *, quota_fees + base_interest * interest_fee // 10000 + quota_interest * interest_fee // 10000 AS fees FROM earned
)
SELECT market, block_number, account_id, principal, base_interest, quota_interest, fees, principal + base_interest + quota_interest + fees AS total,
    with_interest IS NOT NULL AND quotas_exact AS owed_exact
FROM charged
