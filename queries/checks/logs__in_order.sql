-- Purpose: within a block, log indexes and transaction indexes rise together: a node that counts logs anew in each transaction gives them no order.
-- Grain: (market, block_number, log_index): the log that is out of order.
-- Columns:
--   market: name of the market
--   block_number: block
--   log_index: index of the log within the block, as the node told it
--   transaction_index: index of its transaction
--   before: index of the transaction of the log before it
--   dataset: raw dataset of the log
SELECT market, block_number, log_index, transaction_index, before, dataset
FROM (
    SELECT market, block_number, log_index, transaction_index, dataset, lag(transaction_index) OVER ordered AS before, lag(log_index) OVER ordered AS log_before
    FROM raw.logs
    WINDOW ordered AS (PARTITION BY market, block_number ORDER BY log_index, transaction_index)
)
WHERE transaction_index < before OR (log_index = log_before AND transaction_index <> before)
