-- Deposits, withdrawals, borrows and repayments. The account is the vault's number.
-- Deposits have no transaction: their natural key is block, vault and amount, and their number among equal ones.
-- DAI_MINTED and DAI_REPAYED are Dai, not normalised debt.
WITH flows AS (
    SELECT source_row, 'supply' AS action, $collateral AS asset, BLOCK_NUMBER, BLOCK_TIMESTAMP, NULL AS tx, NULL AS event, VAULT_NUMBER, $ilk AS ilk,
        URN_ADDRESS AS urn, DEPOSIT_AMOUNT_ADJ AS amount,
        concat_ws(':', 'deposit', BLOCK_NUMBER, VAULT_NUMBER, DEPOSIT_AMOUNT_ADJ, row_number() OVER
            (PARTITION BY BLOCK_NUMBER, VAULT_NUMBER, DEPOSIT_AMOUNT_ADJ ORDER BY source_row)) AS identity
    FROM deposits
    UNION ALL
    SELECT source_row, 'withdraw', $collateral, BLOCK_NUMBER, BLOCK_TIMESTAMP, TX_HASH, EVENT_INDEX, VAULT_NUMBER, COLLATERAL_TYPE, NULL,
        WITHDRAWN_AMOUNT_ADJ, NULL
    FROM withdrawals
    UNION ALL
    SELECT source_row, 'borrow', 'dai', BLOCK_NUMBER, BLOCK_TIMESTAMP, TX_HASH, EVENT_INDEX, VAULT_NUMBER, COLLATERAL_TYPE, NULL, DAI_MINTED, NULL
    FROM borrows
    UNION ALL
    SELECT source_row, 'repay', 'dai', BLOCK_NUMBER, BLOCK_TIMESTAMP, TX_HASH, EVENT_INDEX, VAULT_NUMBER, COLLATERAL_TYPE, URN_ADDRESS, DAI_REPAYED, NULL
    FROM repayments
),
urns AS (SELECT VAULT_NUMBER, min(lower(URN_ADDRESS)) AS urn FROM creations GROUP BY VAULT_NUMBER)
SELECT f.source_row, f.VAULT_NUMBER AS account, f.asset, f.action, f.amount, f.BLOCK_NUMBER AS block, f.BLOCK_TIMESTAMP AS timestamp,
    f.tx AS transaction_hash, f.event AS log_index, f.identity,
    CASE
        WHEN f.ilk <> $ilk THEN 'collateral type ' || f.ilk || ', not ' || $ilk
        WHEN lower(f.urn) <> u.urn THEN 'vault ' || f.VAULT_NUMBER || ' has urn ' || u.urn || ' in creations, not ' || f.urn
    END AS problem
FROM flows AS f
LEFT JOIN urns AS u ON u.VAULT_NUMBER = f.VAULT_NUMBER
