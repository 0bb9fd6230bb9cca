-- Purpose: liquidations that happened, with names and values; of markets whose positions nothing tells, without state.
-- Grain: (market, block_number, log_index).
-- Columns:
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
--   debt_symbol: its symbol; without state what the imported file calls it
--   collateral_asset_id: asset seized; null without state
--   collateral_symbol: its symbol; without state what the imported file calls it
--   repaid: native units of the debt asset, exact; null where an imported file does not say it
--   seized: native units of the collateral asset that the liquidator got, exact
--   protocol_fee: native units of the collateral asset that the treasury got, exact; null without state
--   receive_collateral_token: whether the liquidator took the protocol's collateral token; null without state
--   repaid_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
--   seized_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
--   protocol_fee_usd: whole units of the base currency at the oracle price just before, DOUBLE; null without a price
--   bonus: share of what was repaid that was seized on top of it, fee included, at the oracle prices just before; without state the imported parameter liquidation_bonus less one; DOUBLE, null without either
--   implied_price: native units of the debt asset per native unit of the collateral asset at which what was seized is worth what was repaid and the bonus, DOUBLE; null without a bonus
--   without_state: true for an import of liquidations alone: nothing of it can be replayed
-- A place is (block, log index) as one number.
WITH placed AS (
    SELECT market, asset_id, price, block_number * 4294967296 + log_index AS place FROM prices
),
replayable AS (
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
),
valued AS (
    SELECT *, (seized_usd + coalesce(protocol_fee_usd, 0)) / nullif(repaid_usd, 0) - 1 AS bonus FROM replayable
),
stated AS (
    SELECT market, asset, block_number, value::DOUBLE / 1e18 - 1 AS bonus FROM raw.import_Parameter WHERE name = 'liquidation_bonus'
)
SELECT *, repaid::DOUBLE * (1 + bonus) / nullif(seized::DOUBLE + coalesce(protocol_fee::DOUBLE, 0), 0) AS implied_price, false AS without_state
FROM valued
UNION ALL
SELECT i.market, NULL, i.block_number, i.log_index, i.timestamp, i.transaction_hash, NULL, i.account, NULL, i.liquidator, NULL, i.debt_asset, NULL,
    i.collateral_asset, i.repaid, i.seized, NULL, NULL, NULL, NULL, NULL, s.bonus, i.repaid::DOUBLE * (1 + s.bonus) / nullif(i.seized::DOUBLE, 0), true
FROM raw.import_Liquidation AS i
ASOF LEFT JOIN stated AS s ON s.market = i.market AND s.asset = i.collateral_asset AND i.block_number >= s.block_number
WHERE i.market NOT IN (SELECT market FROM canonical.accounts)
