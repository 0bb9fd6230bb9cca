-- Purpose: debt that nobody will repay, over every protocol: what was written off, and what stands above all that its account holds at the last known block.
-- Grain: (market, block_number, account_id, asset_id, kind, seq).
-- Columns:
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   market: name of the market
--   kind: created (written off by the protocol), covered (made good later), standing (owed at the last known block beyond what the account holds, its assets' debts sharing what it holds by value)
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   seq: the event; null for what stands
--   account_id: whose debt it is, or who covered it
--   account: address
--   asset_id: asset
--   asset: address of the token
--   symbol: symbol of the asset
--   amount: whole tokens, DOUBLE; null for an account of which a price is missing: nobody knows
--   amount_usd: US dollars at the oracle price then, DOUBLE; null: see missing
--   usd_from: base currency where the market's prices are in dollars; else the market whose oracle turns its base currency into dollars
--   missing: why amount_usd is null: price, dollars
WITH placed AS (
    SELECT market, asset_id, price, block_number * 4294967296 + log_index AS place FROM prices
), events AS (
    SELECT m.protocol, m.chain_id, e.market, e.kind, e.block_number, e.timestamp, e.seq, e.account_id, e.asset_id, s.asset, s.symbol,
        e.amount::DOUBLE / pow(10, s.decimals) AS amount, p.price::DOUBLE / pow(10, m.base_decimals) AS price
    FROM deficits AS e
    JOIN markets AS m ON m.market = e.market
    JOIN assets AS s ON s.market = e.market AND s.asset_id = e.asset_id
    ASOF LEFT JOIN placed AS p ON p.market = e.market AND p.asset_id = e.asset_id AND e.block_number * 4294967296 + e.log_index >= p.place
)
SELECT e.protocol, e.chain_id, e.market, e.kind, e.block_number, e.timestamp, e.seq, e.account_id, a.account, e.asset_id, e.asset, e.symbol, e.amount,
    e.amount * e.price * d.usd AS amount_usd, d.usd_from, CASE WHEN e.price IS NULL THEN 'price' WHEN d.usd IS NULL THEN 'dollars' END AS missing
FROM events AS e
LEFT JOIN accounts AS a ON a.market = e.market AND a.account_id = e.account_id
ASOF LEFT JOIN dollars AS d ON d.market = e.market AND e.block_number >= d.block_number
UNION ALL
SELECT protocol, chain_id, market, 'standing', block_number, timestamp, NULL, account_id, account, asset_id, asset, symbol,
    owed * uncovered, debt_usd * uncovered, usd_from, CASE WHEN uncovered IS NULL THEN 'price' ELSE missing END
-- Of an account of which a price is missing nobody can say whether what it holds covers what it owes: a row without an amount.
FROM positions_covered WHERE owed > 0 AND coalesce(uncovered > 0, true)
