-- Purpose: what accounts of branches of Liquity V2 hold and owe at the end of some blocks: troves with interest and what redistributions gave them, and what is left of deposits.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt, none of the system's own four accounts, no batch.
-- Parameters:
--   accounts: list of addresses (a trove's is its id of 32 bytes); NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: scaled units, exact: collateral as of the account's last call; of BOLD a deposit
--   debt_scaled: scaled units, exact: debt as of the account's last call; in a batch shares of its debt
--   collateral_enabled: whether it counts as the account's collateral
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units with what redistributions gave, HUGEINT; of BOLD what liquidations left of the deposit
--   debt: native units with interest and what redistributions gave, HUGEINT
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT): a BOLD counts as a dollar
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33 units): as stored then, and a deposit in DOUBLE
--   least_ratio_wad: the least collateral ratio, wad, HUGEINT
--   coll_price: base units of a whole token of the collateral, HUGEINT
--   revision: version of the contract; null where rules are not known
WITH steps AS (
    SELECT market, seq, name, value::HUGEINT AS value FROM params SEMI JOIN (SELECT market FROM markets WHERE protocol = 'liquity-v2') AS ours USING (market)
    WHERE name IN ('product', 'scale')
), put AS (
    SELECT c.market, c.account_id, c.block_number, coalesce(x.value, 1000000000000000000000000000000000000)::HUGEINT AS product_then, coalesce(y.value, 0)::HUGEINT AS scale_then
    FROM (
        SELECT market, account_id, block_number, max(seq) AS seq FROM position_events SEMI JOIN (SELECT market FROM markets WHERE protocol = 'liquity-v2') AS ours USING (market)
        WHERE account_id > 3 AND asset_id = 1 AND side = 'collateral' GROUP BY market, account_id, block_number
    ) AS c
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'product') AS x ON x.market = c.market AND c.seq >= x.seq
    ASOF LEFT JOIN (SELECT * FROM steps WHERE name = 'scale') AS y ON y.market = c.market AND c.seq >= y.seq
), priced AS (
    SELECT market, block_number, max(price)::HUGEINT AS coll_price, bool_and(price_exact) AS coll_exact FROM liquity_v2_reserves(blocks) WHERE asset_id = 0 GROUP BY market, block_number
), placed AS (
    SELECT h.market, h.block_number, h.account_id, h.asset_id, h.collateral_scaled::HUGEINT AS held, h.asset_id = 0 AS is_coll, r.timestamp, r.symbol, r.revision,
        r.liquidation_threshold_wad, r.least_ratio_wad, r.product, r.scale, q.coll_price, q.coll_exact, t.account_id IS NOT NULL AS is_trove, t.stored_debt, t.coll, t.debt,
        coalesce(t.debt_exact, true) AS debt_exact, p.product_then, p.scale_then
    FROM scaled_at('liquity-v2', accounts, blocks) AS h
    JOIN liquity_v2_reserves(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    JOIN priced AS q ON q.market = h.market AND q.block_number = h.block_number
    LEFT JOIN liquity_v2_troves(blocks) AS t ON t.market = h.market AND t.block_number = h.block_number AND t.account_id = h.account_id
    ASOF LEFT JOIN put AS p ON p.market = h.market AND p.account_id = h.account_id AND h.block_number >= p.block_number
    WHERE h.account_id > 3 AND (t.account_id IS NOT NULL OR h.collateral_scaled <> 0)
), left_of AS (
    -- StabilityPool getCompoundedBoldDeposit. No number here is as long as four changes of scale, by 10^9 each, take away.
    SELECT *, CASE scale - scale_then WHEN 0 THEN 1::HUGEINT WHEN 1 THEN 1000000000::HUGEINT WHEN 2 THEN 1000000000000000000::HUGEINT
            WHEN 3 THEN 1000000000000000000000000000::HUGEINT ELSE 1000000000000000000000000000000000000::HUGEINT END AS scales,
        CASE WHEN held = 0 THEN 0::HUGEINT WHEN product = product_then THEN held ELSE wide_mul_div_down(held, product, product_then) END AS compounded
    FROM placed
), native AS (
    SELECT *, CASE WHEN is_coll AND is_trove THEN coll WHEN is_coll THEN held ELSE compounded // scales END AS collateral_exact,
        CASE WHEN is_coll OR NOT is_trove THEN 0::HUGEINT ELSE debt END AS owed
    FROM left_of
), valued AS (
    SELECT *, CASE WHEN is_coll AND is_trove THEN mul_div_down(collateral_exact, coll_price, 1000000000000000000) ELSE 0::HUGEINT END AS value_exact FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, held::DECIMAL(38, 0) AS collateral_scaled,
    CASE WHEN is_coll OR NOT is_trove THEN 0 ELSE stored_debt END::DECIMAL(38, 0) AS debt_scaled, is_coll AND is_trove AND coll > 0 AS collateral_enabled, 0 AS emode,
    coalesce(collateral_exact, mul_div_near(held, product, product_then) // scales) AS collateral, owed AS debt,
    coalesce(value_exact, mul_div_near(collateral_exact, coll_price, 1000000000000000000)) AS collateral_value, owed AS debt_value, liquidation_threshold_wad AS threshold_wad,
    coll_price IS NOT NULL OR NOT is_trove AND NOT is_coll AS price_known, coalesce(coll_exact, false) AS price_exact,
    debt_exact AND collateral_exact IS NOT NULL AND (coll_price IS NULL OR value_exact IS NOT NULL) AS amounts_exact, least_ratio_wad, coll_price, revision
FROM valued
WHERE held <> 0 OR owed <> 0 OR coalesce(collateral_exact, 1) <> 0
