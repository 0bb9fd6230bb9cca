-- Purpose: no imported row without a transaction hash has an identical one, so that they may be one fact told twice.
-- Grain: (market, dataset, block_number, account).
-- Columns:
--   market: name of the market
--   dataset: flow, liquidation, parameter, price or checkpoint
--   block_number: block
--   account: account, or name of the parameter, or asset
--   rows: number of identical rows
SELECT market, dataset, block_number, account, count(*) AS rows
FROM (
    SELECT market, 'flow' AS dataset, block_number, account, ambiguous FROM raw.import_Flow
    UNION ALL SELECT market, 'liquidation', block_number, account, ambiguous FROM raw.import_Liquidation
    UNION ALL SELECT market, 'parameter', block_number, name, ambiguous FROM raw.import_Parameter
    UNION ALL SELECT market, 'price', block_number, asset, ambiguous FROM raw.import_Price
    UNION ALL SELECT market, 'checkpoint', block_number, asset, ambiguous FROM raw.import_Checkpoint
)
WHERE ambiguous
GROUP BY market, dataset, block_number, account
ORDER BY market, dataset, block_number, account
