-- Purpose: balances of every account at the end of a block.
-- Grain: (market, account_id, asset_id); only rows with a balance.
-- Parameters:
--   at_block: block number; native amounts need its header in the lake (see blocks), scaled ones do not
-- Columns:
--   market: name of the market
--   account_id: account
--   account: address
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: scaled units, exact
--   debt_scaled: scaled units of variable-rate debt, exact
--   collateral: native units with interest, DOUBLE; null where the block's time is not known
--   debt: native units with interest, DOUBLE; null where the block's time is not known
--   collateral_usd: US dollars at the oracle price, DOUBLE; null where time, price or the base currency in dollars is not known
--   debt_usd: US dollars at the oracle price, DOUBLE; null where time, price or the base currency in dollars is not known
WITH balances AS (
    SELECT market, account_id, asset_id, sum(delta) FILTER (side = 'collateral') AS collateral_scaled, sum(delta) FILTER (side = 'debt') AS debt_scaled
    FROM position_events
    WHERE block_number <= at_block
    GROUP BY market, account_id, asset_id
), principals AS (
    -- Where debts are stored as they were at the account's last change: how far the index had grown by then.
    SELECT e.market, e.account_id, e.asset_id, i.borrow_index::DOUBLE / 1e27 AS grown
    FROM (
        SELECT market, account_id, asset_id, max(seq) AS seq FROM position_events
        SEMI JOIN (SELECT market, asset_id FROM params WHERE name = 'debt_is_principal') AS stored USING (market, asset_id)
        WHERE side = 'debt' AND block_number <= at_block GROUP BY market, account_id, asset_id
    ) AS e
    ASOF JOIN indexes AS i ON i.market = e.market AND i.asset_id = e.asset_id AND e.seq >= i.seq
), accrued AS (
    SELECT b.market, b.account_id, b.asset_id, r.symbol, coalesce(b.collateral_scaled, 0)::DECIMAL(38, 0) AS collateral_scaled,
        coalesce(b.debt_scaled, 0)::DECIMAL(38, 0) AS debt_scaled, coalesce(b.collateral_scaled, 0)::DOUBLE / r.share_unit * (1 + r.supply_excess) AS collateral,
        coalesce(b.debt_scaled, 0)::DOUBLE / r.share_unit * (1 + r.borrow_excess) / coalesce(p.grown, 1) AS debt, r.price::DOUBLE / r.unit::DOUBLE / pow(10, m.base_decimals) AS price
    FROM balances AS b
    LEFT JOIN principals AS p ON p.market = b.market AND p.account_id = b.account_id AND p.asset_id = b.asset_id
    LEFT JOIN reserves_at([at_block]) AS r ON r.market = b.market AND r.asset_id = b.asset_id
    JOIN markets AS m ON m.market = b.market
    WHERE b.collateral_scaled <> 0 OR b.debt_scaled <> 0
)
SELECT b.market, b.account_id, a.account, b.asset_id, b.symbol, b.collateral_scaled, b.debt_scaled, b.collateral, b.debt,
    b.collateral * b.price * d.usd AS collateral_usd, b.debt * b.price * d.usd AS debt_usd
FROM accrued AS b JOIN accounts AS a ON a.market = b.market AND a.account_id = b.account_id
LEFT JOIN (SELECT market, arg_max(struct_pack(usd := usd), block_number).usd AS usd FROM dollars WHERE block_number <= at_block GROUP BY market) AS d ON d.market = b.market
