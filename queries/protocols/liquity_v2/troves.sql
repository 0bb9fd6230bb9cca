-- Purpose: every trove of branches of Liquity V2 at the end of some blocks, with interest and what redistributions gave it (TroveManager getLatestTroveData).
-- Grain: (market, block_number, account_id): troves that have or owe something.
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   account_id: the trove
--   stored_coll: native units of collateral as its last call left them, HUGEINT
--   stored_debt: native units of debt as its last call left them, of a trove in a batch shares of the batch's debt, HUGEINT
--   coll: native units of collateral, HUGEINT
--   debt: native units of debt, HUGEINT
--   debt_exact: false where a number is beyond what SQL's integers hold (10^33 units, or 10^33 a unit staked): coll and debt as stored then
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'liquity-v2'
), set_so AS (
    SELECT market, account_id, setting, block_number, arg_max(value, seq) AS value, max(timestamp) AS timestamp
    FROM setting_events SEMI JOIN ours USING (market) GROUP BY market, account_id, setting, block_number
), managers AS (
    SELECT DISTINCT market, account_id FROM set_so WHERE setting = 'management_fee'
), calls AS (
    -- Each call on a trove: the collateral that it left, whether it took the stake and the sums anew (TroveManager _updateStakeAndTotalStakes, _updateTroveRewardSnapshots).
    SELECT market, account_id, seq, max(block_number) AS block_number, max(timestamp) AS timestamp,
        sum(coalesce(sum(delta) FILTER (asset_id = 0), 0)) OVER (PARTITION BY market, account_id ORDER BY seq) AS coll,
        bool_or(action NOT IN ('redistribution', 'interest', 'upfront_fee', 'rebatch')) AS stakes,
        bool_or(action IN ('redistribution', 'open')) AS sums, bool_or(asset_id = 1) AS owes
    FROM position_events SEMI JOIN ours USING (market)
    WHERE account_id > 3 AND (asset_id = 0 AND action <> 'offset' OR asset_id = 1 AND side = 'debt')
    GROUP BY market, account_id, seq
), steps AS (
    SELECT market, seq, name, value::HUGEINT AS value FROM params SEMI JOIN ours USING (market) WHERE name IN ('coll_sum', 'debt_sum', 'stakes_then', 'colls_then')
), staked AS (
    SELECT c.market, c.account_id, c.block_number, CASE WHEN coalesce(y.value, 0) = 0 THEN c.coll::HUGEINT ELSE mul_div_down(c.coll::HUGEINT, x.value, y.value) END AS stake
    FROM (SELECT market, account_id, block_number, max(seq) AS seq, arg_max(coll, seq) AS coll FROM calls WHERE stakes GROUP BY market, account_id, block_number) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'stakes_then') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'colls_then') AS y ON y.market = c.market AND c.seq >= y.seq
), summed AS (
    SELECT c.market, c.account_id, c.block_number, coalesce(x.value, 0)::HUGEINT AS coll_then, coalesce(y.value, 0)::HUGEINT AS debt_then
    FROM (SELECT market, account_id, block_number, max(seq) AS seq FROM calls WHERE sums GROUP BY market, account_id, block_number) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'coll_sum') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'debt_sum') AS y ON y.market = c.market AND c.seq >= y.seq
), owed AS (
    SELECT market, account_id, block_number, max(timestamp) AS timestamp FROM calls WHERE owes GROUP BY market, account_id, block_number
), stored AS (
    SELECT market, block_number, account_id, coalesce(sum(collateral_scaled) FILTER (asset_id = 0), 0)::HUGEINT AS coll,
        coalesce(sum(debt_scaled) FILTER (asset_id = 1), 0)::HUGEINT AS debt
    FROM scaled_at('liquity-v2', NULL, blocks) WHERE account_id > 3 GROUP BY market, block_number, account_id
), shared AS (
    SELECT DISTINCT market, block_number, interest_until, coll_sum, debt_sum FROM liquity_v2_reserves(blocks)
), placed AS (
    SELECT t.market, t.block_number, t.account_id, t.coll, t.debt, k.stake, coalesce(m.coll_then, 0) AS coll_then, coalesce(m.debt_then, 0) AS debt_then,
        coalesce(r.value, 0)::HUGEINT AS rate, coalesce(b.value, 0)::BIGINT - 1 AS batch, greatest(o.timestamp, b.timestamp) AS since
    FROM stored AS t ANTI JOIN managers AS n ON n.market = t.market AND n.account_id = t.account_id
    ASOF JOIN staked AS k ON k.market = t.market AND k.account_id = t.account_id AND t.block_number >= k.block_number
    ASOF LEFT JOIN summed AS m ON m.market = t.market AND m.account_id = t.account_id AND t.block_number >= m.block_number
    ASOF LEFT JOIN owed AS o ON o.market = t.market AND o.account_id = t.account_id AND t.block_number >= o.block_number
    ASOF LEFT JOIN (SELECT * FROM set_so WHERE setting = 'rate') AS r ON r.market = t.market AND r.account_id = t.account_id AND t.block_number >= r.block_number
    ASOF LEFT JOIN (SELECT * FROM set_so WHERE setting = 'batch') AS b ON b.market = t.market AND b.account_id = t.account_id AND t.block_number >= b.block_number
    WHERE t.coll <> 0 OR t.debt <> 0
), batched AS (
    SELECT market, block_number, batch, sum(debt)::HUGEINT AS shares FROM placed WHERE batch >= 0 GROUP BY market, block_number, batch
), batches AS (
    -- A batch's debt, and the interest and management fee that it has not recorded (TroveManager _getLatestBatchData).
    SELECT b.market, b.block_number, b.batch, b.shares, t.debt, coalesce(r.value, 0)::HUGEINT AS rate, coalesce(f.value, 0)::HUGEINT AS fee, o.timestamp AS since
    FROM batched AS b JOIN stored AS t ON t.market = b.market AND t.block_number = b.block_number AND t.account_id = b.batch
    ASOF LEFT JOIN owed AS o ON o.market = b.market AND o.account_id = b.batch AND b.block_number >= o.block_number
    ASOF LEFT JOIN (SELECT * FROM set_so WHERE setting = 'rate') AS r ON r.market = b.market AND r.account_id = b.batch AND b.block_number >= r.block_number
    ASOF LEFT JOIN (SELECT * FROM set_so WHERE setting = 'management_fee') AS f ON f.market = b.market AND f.account_id = b.batch AND b.block_number >= f.block_number
), due AS (
    -- Simple interest, whose two cuts are one: by a year of 31,536,000 seconds and by a wad (LiquityBase _calcInterest).
    SELECT p.market, p.block_number, p.account_id, p.coll, p.debt, p.batch, p.stake, s.coll_sum - p.coll_then AS coll_grown, s.debt_sum - p.debt_then AS debt_grown,
        b.shares, b.debt AS batch_debt, CASE WHEN p.batch >= 0 THEN mul_div_down(b.debt, b.rate * greatest(0, s.interest_until - b.since), 31536000000000000000000000)
            ELSE mul_div_down(p.debt, p.rate * greatest(0, s.interest_until - p.since), 31536000000000000000000000) END AS interest,
        CASE WHEN p.batch >= 0 THEN mul_div_down(b.debt, b.fee * greatest(0, s.interest_until - b.since), 31536000000000000000000000) ELSE 0::HUGEINT END AS fee
    FROM placed AS p JOIN shared AS s ON s.market = p.market AND s.block_number = p.block_number
    LEFT JOIN batches AS b ON b.market = p.market AND b.block_number = p.block_number AND b.batch = p.batch
), latest AS (
    SELECT *, coll + mul_div_down(stake, coll_grown, 1000000000000000000) AS coll_now, mul_div_down(stake, debt_grown, 1000000000000000000)
        + CASE WHEN batch < 0 THEN debt + interest WHEN debt = 0 THEN 0
            ELSE mul_div_down(batch_debt, debt, shares) + mul_div_down(interest, debt, shares) + mul_div_down(fee, debt, shares) END AS debt_now
    FROM due
)
SELECT market, block_number, account_id, coll AS stored_coll, debt AS stored_debt, coalesce(coll_now, coll) AS coll, coalesce(debt_now, debt) AS debt,
    coll_now IS NOT NULL AND debt_now IS NOT NULL AS debt_exact
FROM latest
