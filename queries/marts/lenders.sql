-- Purpose: who lends what is borrowed, over every protocol, at the last known block of each market: how much of it is out, and what its debt without cover would cost each lender.
-- Grain: (market, account_id, asset_id); assets that somebody owes, accounts that hold some.
-- Columns:
--   protocol: name of the protocol
--   chain_id: chain id (EIP-155)
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   account: address: a vault that lends in many markets has one row in each
--   asset_id: the asset lent
--   asset: address of the token
--   symbol: symbol of the asset
--   against: symbols of what counts as collateral of those who owe it, comma-separated, in order of their debt
--   lent: whole tokens that the account holds in the market, with interest, DOUBLE
--   lent_usd: US dollars at the market's own oracle price, DOUBLE; null: see missing
--   share: of all that accounts of the market hold of the asset, DOUBLE
--   used: how much of all that is owed, DOUBLE; above one where interest is owed that nobody has yet
--   withdrawable: whole tokens that it could take out now if it came first: no more than is not owed, DOUBLE
--   withdrawable_usd: US dollars, DOUBLE; null: see missing
--   uncovered: its share of the asset's debt without cover (bad_debt, standing), whole tokens, DOUBLE; null where a borrower's price is missing: nobody knows
--   uncovered_usd: US dollars, DOUBLE; null: see missing
--   cap: the most that the account lends here by its own rules, whole tokens, DOUBLE; null where it has told none
--   supply_place: at which place, from 1, what it is given goes here; 0 or null: not here
--   withdraw_place: at which place, from 1, it takes from here what it has to pay out; 0 or null: not from here
--   missing: why a number in dollars is null: price, dollars
-- Whether lenders share what is written off is the protocol's law: here all that hold the asset do alike, as in markets of their own.
WITH placed AS MATERIALIZED (
    SELECT * FROM positions_covered
), pools AS (
    SELECT market, asset_id, sum(held) AS lent, sum(owed) AS owed FROM placed GROUP BY market, asset_id HAVING sum(held) > 0 AND sum(owed) > 0
), secured AS (
    -- What an account owes counts for each of its collaterals by value, or for each alike where one has none.
    SELECT market, account_id, symbol, count(*) OVER account AS collaterals, collateral_usd / nullif(sum(collateral_usd) OVER account, 0) AS by_value,
        bool_and(collateral_usd IS NOT NULL) OVER account AS valued
    FROM placed WHERE held > 0 AND coalesce(threshold, 1) > 0
    WINDOW account AS (PARTITION BY market, account_id)
), weighed AS (
    SELECT p.market, p.asset_id, s.symbol, sum(p.owed * CASE WHEN s.valued THEN coalesce(s.by_value, 0) ELSE 1 / s.collaterals END) AS owed
    FROM placed AS p JOIN secured AS s ON s.market = p.market AND s.account_id = p.account_id WHERE p.owed > 0 GROUP BY p.market, p.asset_id, s.symbol
), against AS (
    SELECT market, asset_id, string_agg(symbol, ', ' ORDER BY owed DESC, symbol) AS against FROM weighed GROUP BY market, asset_id
), uncovered AS (
    SELECT market, asset_id, CASE WHEN bool_and(uncovered IS NOT NULL) THEN sum(owed * uncovered) END AS amount FROM placed WHERE owed > 0 GROUP BY market, asset_id
), terms AS (
    SELECT market, category AS account_id, asset_id, arg_max(value, seq) FILTER (name = 'lending_cap') AS cap, arg_max(value, seq) FILTER (name = 'supply_place') AS supply_place,
        arg_max(value, seq) FILTER (name = 'withdraw_place') AS withdraw_place
    FROM params WHERE name IN ('lending_cap', 'supply_place', 'withdraw_place') GROUP BY market, category, asset_id
), each_lender AS (
    SELECT p.*, g.against, p.held / b.lent AS share, b.owed / b.lent AS used, least(p.held, greatest(b.lent - b.owed, 0)) AS out_now,
        u.amount * p.held / b.lent AS lost, p.held_usd / nullif(p.held, 0) AS usd
    FROM placed AS p JOIN pools AS b ON b.market = p.market AND b.asset_id = p.asset_id
    LEFT JOIN against AS g ON g.market = p.market AND g.asset_id = p.asset_id JOIN uncovered AS u ON u.market = p.market AND u.asset_id = p.asset_id
    WHERE p.held > 0
)
SELECT protocol, chain_id, market, block_number, timestamp, account_id, account, asset_id, asset, symbol, against, held AS lent, held_usd AS lent_usd, share, used,
    out_now AS withdrawable, out_now * usd AS withdrawable_usd, lost AS uncovered, lost * usd AS uncovered_usd, t.cap::DOUBLE / pow(10, s.decimals) AS cap,
    t.supply_place::BIGINT AS supply_place, t.withdraw_place::BIGINT AS withdraw_place, missing
FROM each_lender JOIN assets AS s USING (market, asset_id, asset, symbol) LEFT JOIN terms AS t USING (market, asset_id, account_id)
