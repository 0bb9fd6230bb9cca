-- Purpose: quotas of Gearbox V3.1 credit accounts at the end of some blocks, and the interest on each since its last change (PoolQuotaKeeperV3).
-- Grain: (market, block_number, account_id, asset_id): quotas that are not zero.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: credit account
--   asset_id: the token
--   quota: native units of the underlying for which the token counts at most, HUGEINT
--   interest: native units of the underlying owed for it and not stored yet, HUGEINT; null where the block's time is not known
--   interest_near: the same in DOUBLE, where interest is beyond what SQL's integers hold (10^33 units)
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'gearbox-v3'
), marks AS (
    -- The last change of a quota in a block: one of its size starts at the token's index of that moment, one of its index says it.
    SELECT market, account_id, asset_id, block_number, max(seq) AS seq, arg_max(timestamp, seq)::HUGEINT AS timestamp, arg_max(setting, seq) AS setting, arg_max(value, seq)::HUGEINT AS value
    FROM setting_events SEMI JOIN ours USING (market)
    WHERE setting IN ('quota', 'quota_index') AND (accounts IS NULL OR (market, account_id) IN (SELECT (market, account_id) FROM accounts WHERE account IN (SELECT lower(unnest(accounts::VARCHAR[])))))
    GROUP BY market, account_id, asset_id, block_number
), steps AS (
    SELECT market, asset_id, name, seq, value::HUGEINT AS value FROM params SEMI JOIN ours USING (market) WHERE name IN ('quota_rate', 'quota_index', 'quota_rates_updated')
), started AS (
    SELECT m.market, m.account_id, m.asset_id, m.block_number, CASE WHEN m.setting = 'quota_index' THEN m.value
        ELSE coalesce(x.value, 1)::HUGEINT + 100000000000000000000000 * greatest(0, m.timestamp - coalesce(u.value, 0))::HUGEINT * coalesce(r.value, 0)::HUGEINT // 31536000 END AS started
    FROM marks AS m
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'quota_index') AS x ON x.market = m.market AND x.asset_id = m.asset_id AND m.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'quota_rate') AS r ON r.market = m.market AND r.asset_id = m.asset_id AND m.seq >= r.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'quota_rates_updated') AS u ON u.market = m.market AND m.seq >= u.seq
), placed AS (
    SELECT k.market, r.block_number, k.account_id, k.asset_id, q.value::HUGEINT AS quota, r.quota_index - s.started AS grown
    FROM (SELECT DISTINCT market, account_id, asset_id FROM marks) AS k JOIN gearbox_v3_reserves(blocks) AS r ON r.market = k.market AND r.asset_id = k.asset_id
    ASOF JOIN (SELECT * FROM setting_steps WHERE setting = 'quota') AS q ON q.market = k.market AND q.account_id = k.account_id AND q.asset_id = k.asset_id AND r.block_number >= q.block_number
    ASOF JOIN started AS s ON s.market = k.market AND s.account_id = k.account_id AND s.asset_id = k.asset_id AND r.block_number >= s.block_number
)
SELECT market, block_number, account_id, asset_id, quota, mul_div_down(quota, grown, 1000000000000000000000000000) AS interest,
    mul_div_near(quota, grown, 1000000000000000000000000000) AS interest_near
FROM placed WHERE quota <> 0
