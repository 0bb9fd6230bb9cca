-- Purpose: prices as they stand at the end of each block that changes any.
-- Grain: (market, asset_id, block_number).
-- Columns:
--   market: name of the market
--   asset_id: asset
--   block_number: block
--   price: base-currency units per whole token; null where the oracle would revert
--   price_rest: what the oracle's own price has below a base unit
--   exact: false where the price is not known at this position
SELECT market, asset_id, block_number, last.price AS price, last.price_rest AS price_rest, last.exact AS exact
FROM (
    SELECT market, asset_id, block_number, arg_max(struct_pack(price := price, price_rest := price_rest, exact := exact), log_index) AS last
    FROM prices
    GROUP BY market, asset_id, block_number
)
