-- Purpose: liquidations that happened, with names and values; of markets whose positions nothing tells, without state.
-- Grain: (market, block_number, log_index).
-- Columns:
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   market: name of the market
--   seq: the event; null without state
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   transaction_hash: 32 bytes
--   account_id: the borrower; null without state
--   account: address of the borrower
--   liquidator_id: the liquidator; null without state
--   liquidator: address of the liquidator
--   debt_asset_id: asset repaid; null without state
--   debt_asset: its address; without state what the imported file calls it
--   debt_symbol: its symbol; without state what the imported file calls it
--   collateral_asset_id: asset seized; null without state
--   collateral_asset: its address; without state what the imported file calls it
--   collateral_symbol: its symbol; without state what the imported file calls it
--   repaid: native units of the debt asset, exact; null where an imported file does not say it
--   seized: native units of the collateral asset that the liquidator got, exact
--   protocol_fee: native units of the collateral asset that the treasury got, exact; null without state
--   receive_collateral_token: whether the liquidator took the protocol's collateral token; null without state
--   repaid_usd: US dollars at the oracle price just before, DOUBLE; null without a price, or where nothing in the lake turns the base currency into dollars
--   seized_usd: US dollars at the oracle price just before, DOUBLE; null without a price, or where nothing in the lake turns the base currency into dollars
--   protocol_fee_usd: US dollars at the oracle price just before, DOUBLE; null without a price, or where nothing in the lake turns the base currency into dollars
--   usd_from: base currency where the market's prices are in dollars; else the market whose oracle turns its base currency into dollars
--   bonus: share of what was repaid that was seized on top of it, fee included, at the oracle prices just before; without state the imported parameter liquidation_bonus less one; DOUBLE, null without either
--   implied_price: native units of the debt asset per native unit of the collateral asset at which what was seized is worth what was repaid and the bonus, DOUBLE; null without a bonus
--   without_state: true for an import of liquidations alone: nothing of it can be replayed
-- A place is (block, log index) as one number.
WITH placed AS (
    SELECT market, asset_id, price, block_number * 4294967296 + log_index AS place FROM prices
),
valued AS (
    SELECT m.protocol, m.chain_id, l.*, borrower.account, taker.account AS liquidator, d.asset AS debt_asset, d.symbol AS debt_symbol, c.asset AS collateral_asset,
        c.symbol AS collateral_symbol, l.repaid::DOUBLE / pow(10, d.decimals) * pd.price::DOUBLE / pow(10, m.base_decimals) AS repaid_value,
        l.seized::DOUBLE / pow(10, c.decimals) * pc.price::DOUBLE / pow(10, m.base_decimals) AS seized_value,
        l.protocol_fee::DOUBLE / pow(10, c.decimals) * pc.price::DOUBLE / pow(10, m.base_decimals) AS fee_value
    FROM canonical.liquidations AS l
    JOIN markets AS m ON m.market = l.market
    JOIN accounts AS borrower ON borrower.market = l.market AND borrower.account_id = l.account_id
    JOIN accounts AS taker ON taker.market = l.market AND taker.account_id = l.liquidator_id
    JOIN assets AS d ON d.market = l.market AND d.asset_id = l.debt_asset_id
    JOIN assets AS c ON c.market = l.market AND c.asset_id = l.collateral_asset_id
    ASOF LEFT JOIN placed AS pd ON pd.market = l.market AND pd.asset_id = l.debt_asset_id AND l.block_number * 4294967296 + l.log_index >= pd.place
    ASOF LEFT JOIN placed AS pc ON pc.market = l.market AND pc.asset_id = l.collateral_asset_id AND l.block_number * 4294967296 + l.log_index >= pc.place
),
rated AS (
    SELECT v.*, (seized_value + coalesce(fee_value, 0)) / nullif(repaid_value, 0) - 1 AS bonus, d.usd, d.usd_from
    FROM valued AS v ASOF LEFT JOIN dollars AS d ON d.market = v.market AND v.block_number >= d.block_number
),
stated AS (
    SELECT market, asset, block_number, value::DOUBLE / 1e18 - 1 AS bonus FROM raw.import_Parameter WHERE name = 'liquidation_bonus'
)
SELECT protocol, chain_id, market, seq, block_number, log_index, timestamp, transaction_hash, account_id, account, liquidator_id, liquidator, debt_asset_id, debt_asset,
    debt_symbol, collateral_asset_id, collateral_asset, collateral_symbol, repaid, seized, protocol_fee, receive_collateral_token, repaid_value * usd AS repaid_usd,
    seized_value * usd AS seized_usd, fee_value * usd AS protocol_fee_usd, usd_from, bonus,
    repaid::DOUBLE * (1 + bonus) / nullif(seized::DOUBLE + coalesce(protocol_fee::DOUBLE, 0), 0) AS implied_price, false AS without_state
FROM rated
UNION ALL
SELECT m.protocol, m.chain_id, i.market, NULL, i.block_number, i.log_index, i.timestamp, i.transaction_hash, NULL, i.account, NULL, i.liquidator, NULL, i.debt_asset, i.debt_asset, NULL,
    i.collateral_asset, i.collateral_asset, i.repaid, i.seized, NULL, NULL, NULL, NULL, NULL, NULL, s.bonus, i.repaid::DOUBLE * (1 + s.bonus) / nullif(i.seized::DOUBLE, 0), true
FROM raw.import_Liquidation AS i
LEFT JOIN markets AS m ON m.market = i.market
ASOF LEFT JOIN stated AS s ON s.market = i.market AND s.asset = i.collateral_asset AND i.block_number >= s.block_number
WHERE i.market NOT IN (SELECT market FROM canonical.accounts)
