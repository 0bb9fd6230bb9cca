-- Purpose: liquidations that happened, with names and values.
-- Grain: (market, seq).
-- Columns:
--   market: name of the market
--   seq: the event
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   transaction_hash: 32 bytes
--   account_id: the borrower
--   account: address of the borrower
--   liquidator_id: the liquidator
--   liquidator: address of the liquidator
--   debt_asset_id: asset repaid
--   debt_symbol: its symbol
--   collateral_asset_id: asset seized
--   collateral_symbol: its symbol
--   repaid: native units of the debt asset, exact
--   seized: native units of the collateral asset that the liquidator got, exact
--   protocol_fee: native units of the collateral asset that the treasury got, exact
--   receive_collateral_token: whether the liquidator took the protocol's collateral token
--   repaid_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
--   seized_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
--   protocol_fee_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
-- A place is (block, log index) as one number.
WITH placed AS (
    SELECT market, asset_id, price, block_number * 4294967296 + log_index AS place FROM prices
)
SELECT l.market, l.seq, l.block_number, l.log_index, l.timestamp, l.transaction_hash, l.account_id, borrower.account, l.liquidator_id,
    taker.account AS liquidator, l.debt_asset_id, d.symbol AS debt_symbol, l.collateral_asset_id, c.symbol AS collateral_symbol, l.repaid, l.seized,
    l.protocol_fee, l.receive_collateral_token, l.repaid::DOUBLE / pow(10, d.decimals) * pd.price::DOUBLE / pow(10, m.base_decimals) AS repaid_usd,
    l.seized::DOUBLE / pow(10, c.decimals) * pc.price::DOUBLE / pow(10, m.base_decimals) AS seized_usd,
    l.protocol_fee::DOUBLE / pow(10, c.decimals) * pc.price::DOUBLE / pow(10, m.base_decimals) AS protocol_fee_usd
FROM canonical.liquidations AS l
JOIN markets AS m ON m.market = l.market
JOIN accounts AS borrower ON borrower.market = l.market AND borrower.account_id = l.account_id
JOIN accounts AS taker ON taker.market = l.market AND taker.account_id = l.liquidator_id
JOIN assets AS d ON d.market = l.market AND d.asset_id = l.debt_asset_id
JOIN assets AS c ON c.market = l.market AND c.asset_id = l.collateral_asset_id
ASOF LEFT JOIN placed AS pd ON pd.market = l.market AND pd.asset_id = l.debt_asset_id AND l.block_number * 4294967296 + l.log_index >= pd.place
ASOF LEFT JOIN placed AS pc ON pc.market = l.market AND pc.asset_id = l.collateral_asset_id AND l.block_number * 4294967296 + l.log_index >= pc.place
