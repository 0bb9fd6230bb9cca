-- Purpose: no scaled balance is ever below zero.
-- Grain: (market, account_id, asset_id, side): the first time.
-- Columns:
--   market: name of the market
--   account_id: account
--   asset_id: asset
--   side: collateral or debt
--   block_number: block in which it first falls below zero
--   seq: event at which it first falls below zero
--   balance: scaled units then
SELECT market, account_id, asset_id, side, arg_min(block_number, seq) AS block_number, min(seq) AS seq, arg_min(balance, seq) AS balance
FROM (
    SELECT market, account_id, asset_id, side, seq, block_number,
        sum(delta) OVER (PARTITION BY market, account_id, asset_id, side ORDER BY seq ROWS UNBOUNDED PRECEDING) AS balance
    FROM (
        SELECT market, account_id, asset_id, side, seq, any_value(block_number) AS block_number, sum(delta) AS delta
        FROM position_events GROUP BY market, account_id, asset_id, side, seq
    )
)
WHERE balance < 0
GROUP BY market, account_id, asset_id, side
