-- Purpose: what accounts of Liquity V1 systems hold and owe at the end of some blocks: troves with what redistributions gave them, and what is left of deposits.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt, none of the system's own two accounts.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: scaled units, exact: collateral of ether, a deposit of LUSD, as of the account's last call
--   debt_scaled: scaled units, exact: debt as of the account's last call
--   collateral_enabled: whether it counts as the account's collateral
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units with what redistributions gave, HUGEINT; of LUSD what liquidations left of the deposit
--   debt: native units with what redistributions gave, HUGEINT
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT): an LUSD counts as a dollar
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units): DOUBLE then, good to 1e-14
--   least_ratio_wad: the least collateral ratio, wad, HUGEINT
WITH people AS (
    SELECT market, account_id FROM accounts SEMI JOIN (SELECT market FROM markets WHERE protocol = 'liquity-v1') AS ours USING (market)
    WHERE account_id > 1 AND (accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[]))))
), calls AS (
    -- Each call of an account: the collateral that it left, whether it took the stake and the sums anew, and whether it was one on a deposit.
    SELECT market, account_id, seq, max(block_number) AS block_number, sum(sum(delta) FILTER (asset_id = 0)) OVER running AS coll,
        bool_or((asset_id = 0 OR side = 'debt') AND action <> 'redistribution') AS stakes,
        bool_or(action IN ('redistribution', 'open')) AS sums, bool_or(asset_id = 1 AND side = 'collateral') AS deposits
    FROM position_events SEMI JOIN people USING (market, account_id)
    GROUP BY market, account_id, seq
    WINDOW running AS (PARTITION BY market, account_id ORDER BY seq)
), steps AS (
    SELECT market, seq, name, value::HUGEINT AS value FROM params
    WHERE name IN ('coll_sum', 'debt_sum', 'stakes_then', 'colls_then', 'product', 'scale', 'epoch') AND asset_id IS NULL
), staked AS (
    SELECT c.market, c.account_id, c.block_number, c.seq, CASE WHEN coalesce(y.value, 0) = 0 THEN c.coll::HUGEINT ELSE mul_div_down(c.coll::HUGEINT, x.value, y.value) END AS stake
    FROM (SELECT market, account_id, block_number, max(seq) AS seq, arg_max(coll, seq) AS coll FROM calls WHERE stakes GROUP BY market, account_id, block_number) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'stakes_then') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'colls_then') AS y ON y.market = c.market AND c.seq >= y.seq
), summed AS (
    SELECT c.market, c.account_id, c.block_number, coalesce(x.value, 0)::HUGEINT AS coll_then, coalesce(y.value, 0)::HUGEINT AS debt_then
    FROM (SELECT market, account_id, block_number, max(seq) AS seq FROM calls WHERE sums GROUP BY market, account_id, block_number) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'coll_sum') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'debt_sum') AS y ON y.market = c.market AND c.seq >= y.seq
), put AS (
    SELECT c.market, c.account_id, c.block_number, coalesce(x.value, 1000000000000000000)::HUGEINT AS product_then, coalesce(y.value, 0)::HUGEINT AS scale_then,
        coalesce(z.value, 0)::HUGEINT AS epoch_then
    FROM (SELECT market, account_id, block_number, max(seq) AS seq FROM calls WHERE deposits GROUP BY market, account_id, block_number) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'product') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'scale') AS y ON y.market = c.market AND c.seq >= y.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'epoch') AS z ON z.market = c.market AND c.seq >= z.seq
), placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.price::HUGEINT AS price, r.price_exact, r.liquidation_threshold_wad, r.least_ratio_wad, h.asset_id = 0 AS is_ether,
        h.collateral_scaled::HUGEINT AS held, h.debt_scaled::HUGEINT AS owed, s.stake,
        r.coll_sum - coalesce(m.coll_then, 0) AS coll_grown, r.debt_sum - coalesce(m.debt_then, 0) AS debt_grown, r.product, r.scale, r.epoch,
        p.product_then, p.scale_then, p.epoch_then
    FROM scaled_at('liquity-v1', accounts, blocks) AS h
    JOIN liquity_v1_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    ASOF LEFT JOIN staked AS s ON s.market = h.market AND s.account_id = h.account_id AND h.block_number >= s.block_number
    ASOF LEFT JOIN summed AS m ON m.market = h.market AND m.account_id = h.account_id AND h.block_number >= m.block_number
    ASOF LEFT JOIN put AS p ON p.market = h.market AND p.account_id = h.account_id AND h.block_number >= p.block_number
    WHERE h.account_id > 1 AND (h.collateral_scaled <> 0 OR h.debt_scaled <> 0)
), left_of AS (
    SELECT *, CASE WHEN held = 0 OR epoch_then < epoch OR scale - scale_then > 1 THEN 0::HUGEINT
            ELSE mul_div_down(held, product, product_then) // CASE WHEN scale > scale_then THEN 1000000000 ELSE 1 END END AS deposit
    FROM placed
), native AS (
    SELECT *, CASE WHEN is_ether THEN held + mul_div_down(stake, coll_grown, 1000000000000000000)
            WHEN deposit < held // 1000000000 THEN 0::HUGEINT ELSE deposit END AS collateral_exact,
        CASE WHEN owed = 0 THEN 0::HUGEINT ELSE owed + mul_div_down(stake, debt_grown, 1000000000000000000) END AS debt_exact
    FROM left_of
), valued AS (
    SELECT *, CASE WHEN is_ether THEN mul_div_down(collateral_exact, price, unit) ELSE 0::HUGEINT END AS collateral_value FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, is_ether AS collateral_enabled, 0 AS emode,
    coalesce(collateral_exact, held) AS collateral, coalesce(debt_exact, owed) AS debt,
    coalesce(collateral_value, mul_div_near(collateral_exact, price, unit)) AS collateral_value, coalesce(debt_exact, owed) AS debt_value,
    liquidation_threshold_wad AS threshold_wad, price IS NOT NULL AS price_known, coalesce(price_exact, false) AS price_exact,
    collateral_exact IS NOT NULL AND debt_exact IS NOT NULL AND (price IS NULL OR collateral_value IS NOT NULL) AS amounts_exact, least_ratio_wad
FROM valued
