-- Bites (Cat) and barks (Dog). DEBT_TO_COVER_AMOUNT is normalised debt (art); DAI_REPAYED_AMOUNT is Dai: art times rate, without the penalty
-- in the time of the Cat. What the auctions brought is not in the files.
SELECT source_row, VAULT_NUMBER AS account, ORIGIN_FROM_ADDRESS AS liquidator, 'dai' AS debt_asset, $collateral AS collateral_asset,
    DEBT_TO_COVER_AMOUNT AS debt_scaled, DAI_REPAYED_AMOUNT AS repaid, COLLATERAL_LIQUIDATED_AMOUNT AS seized,
    BLOCK_NUMBER AS block, BLOCK_TIMESTAMP AS timestamp, TX_HASH AS transaction_hash, EVENT_INDEX AS log_index,
    CASE WHEN COLLATERAL_TYPE <> $ilk THEN 'collateral type ' || COLLATERAL_TYPE || ', not ' || $ilk END AS problem
FROM liquidations
