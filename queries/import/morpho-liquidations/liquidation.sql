-- Amounts are native units of tokens that the files do not name: the assets are the market's loan and collateral.
-- debt_scaled: the borrow shares that were repaid.
SELECT source_row, borrower AS account, caller AS liquidator, lower(id) || ':loan' AS debt_asset, lower(id) || ':collateral' AS collateral_asset,
    repaidAssets AS repaid_native, repaidShares AS debt_scaled_native, seizedAssets AS seized_native, badDebtAssets AS bad_debt_native,
    block_number AS block, block_timestamp AS timestamp, tx_hash AS transaction_hash, log_index,
    CASE WHEN event <> 'Liquidate' THEN 'event ' || event || ', not Liquidate' END AS problem
FROM liquidations
