-- Purpose: interest indexes start at one (ray) or above and never fall, but where suppliers of shares bore a loss; share prices by no more than rounding.
-- Grain: (market, asset_id, seq).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   seq: the event
--   block_number: block
--   supply_index: ray (1e27)
--   borrow_index: ray (1e27)
SELECT i.market, i.asset_id, i.seq, i.block_number, supply_index, borrow_index
FROM (
    SELECT market, asset_id, seq, block_number, supply_index, borrow_index, lag(supply_index) OVER ordered AS supply_before,
        lag(borrow_index) OVER ordered AS borrow_before
    FROM indexes
    WINDOW ordered AS (PARTITION BY market, asset_id ORDER BY seq)
) AS i
ANTI JOIN (SELECT market, liquidation_seq FROM deficits) AS d ON d.market = i.market AND d.liquidation_seq = i.seq
ANTI JOIN (SELECT market, asset_id, seq FROM params WHERE name = 'share_price_fell') AS f ON f.market = i.market AND f.asset_id = i.asset_id AND f.seq = i.seq
LEFT JOIN (SELECT DISTINCT market, asset_id FROM params WHERE name = 'share_decimals') AS s ON s.market = i.market AND s.asset_id = i.asset_id
WHERE CASE WHEN s.asset_id IS NULL
    THEN supply_index < supply_before OR borrow_index < borrow_before OR least(supply_index, borrow_index) < CAST('1000000000000000000000000000' AS DECIMAL(38, 0))
    ELSE supply_index::DOUBLE < supply_before::DOUBLE * (1 - 1e-6) OR borrow_index::DOUBLE < borrow_before::DOUBLE * (1 - 1e-6)
        OR borrow_index::DOUBLE < 1e27 * (1 - 1e-6)
    END
