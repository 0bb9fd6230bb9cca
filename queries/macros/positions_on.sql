-- Purpose: what accounts of every protocol hold and owe at the end of some blocks, in one unit.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance, with debt, or flagged as collateral.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   account: address
--   asset_id: asset
--   asset: address of the token: one token has one address in every market of a chain
--   symbol: symbol of the asset
--   held: whole tokens that the account holds in the market, with interest, DOUBLE
--   owed: whole tokens that it owes, with interest, DOUBLE
--   price: whole units of the market's base currency per whole token, by its oracle, DOUBLE; null: see missing
--   held_usd: US dollars at the market's own oracle price, whether or not it counts as collateral, DOUBLE; null: see missing
--   collateral_usd: the part of it that counts as collateral, before its threshold, DOUBLE; null: see missing
--   debt_usd: US dollars, DOUBLE; null: see missing
--   threshold: liquidation threshold that applies, DOUBLE; null where rules are not known
--   usd_from: base currency where the market's prices are in dollars; else the market whose oracle turns its base currency into dollars
--   missing: why a number in dollars is null: price (of the asset, or block time or rules), dollars (nothing in the lake prices the market's base currency)
WITH valued AS (
    SELECT h.*, h.collateral::DOUBLE / r.unit::DOUBLE AS held, h.debt::DOUBLE / r.unit::DOUBLE AS owed, r.price::DOUBLE / pow(10, m.base_decimals) AS price,
        m.protocol, m.chain_id, pow(10, m.base_decimals) AS base_unit
    FROM holdings(accounts, blocks) AS h
    JOIN markets AS m ON m.market = h.market
    LEFT JOIN reserves_at(blocks) AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
)
SELECT v.protocol, v.chain_id, v.market, v.block_number, v.timestamp, v.account_id, a.account, v.asset_id, s.asset, v.symbol, v.held, v.owed, v.price,
    v.held * v.price * d.usd AS held_usd, v.collateral_value::DOUBLE / v.base_unit * d.usd AS collateral_usd, v.debt_value::DOUBLE / v.base_unit * d.usd AS debt_usd,
    v.threshold_wad::DOUBLE / 1e18 AS threshold, d.usd_from,
    CASE WHEN v.price IS NULL OR v.collateral_value IS NULL OR v.debt_value IS NULL THEN 'price' WHEN d.usd IS NULL THEN 'dollars' END AS missing
FROM valued AS v
JOIN accounts AS a ON a.market = v.market AND a.account_id = v.account_id
JOIN assets AS s ON s.market = v.market AND s.asset_id = v.asset_id
ASOF LEFT JOIN dollars AS d ON d.market = v.market AND v.block_number >= d.block_number
