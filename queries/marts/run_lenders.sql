-- Purpose: who lent what was borrowed in stored replays: what each held at the end of the window, and its share of the debt that nobody will repay.
-- Grain: (run_id, account, asset); assets that somebody owes at the end or of which debt was written off, accounts that hold some.
-- Columns:
--   run_id: the replay
--   name: name of the scenario
--   market: name of the market
--   account: address
--   asset: address of the underlying token
--   symbol: its symbol
--   lent: native units with interest, less what its protocol took of it for debt written off, exact
--   share: of all that accounts hold of the asset, DOUBLE
--   lent_base: base-currency units at history's oracle price at the end of the window, rounded down; null without a price
--   written_off_base: its share of the debt that was written off, base-currency units at the oracle price then, rounded up
--   open_base: its share of debt beyond the collateral of its account at the end, rounded up; null where that is not known
--   loss_base: both together
-- Shares are those of the end of the window. What an account owes beyond its collateral is split over its debts by value, at history's prices.
-- Whether lenders share losses is the protocol's law: in markets of their own they do (what was written off is missing in what they hold already), elsewhere a reserve may stand before them.
WITH ended AS (
    SELECT r.run_id, r.name, r.market, w.block_number FROM runs AS r JOIN run_windows AS w ON w.run_id = r.run_id AND w.label = 'end'
), priced AS (
    SELECT e.run_id, e.asset, e.symbol, p.price::HUGEINT AS price, pow(10, e.decimals)::HUGEINT AS unit
    FROM (SELECT * FROM ended JOIN assets USING (market)) AS e
    ASOF LEFT JOIN price_steps AS p ON p.market = e.market AND p.asset_id = e.asset_id AND e.block_number >= p.block_number
), held AS (
    SELECT b.run_id, b.account, b.asset, b.collateral::HUGEINT AS lent, b.debt::HUGEINT AS owed, p.symbol, mul_div_down(b.collateral::HUGEINT, p.price, p.unit) AS lent_base,
        mul_div_up(b.debt::HUGEINT, p.price, p.unit) AS owed_base
    FROM run_balances AS b JOIN priced AS p ON p.run_id = b.run_id AND p.asset = b.asset
), written AS (
    SELECT run_id, asset, sum(amount_base)::HUGEINT AS amount_base FROM run_deficits GROUP BY run_id, asset
), debts AS (
    SELECT h.run_id, h.asset, a.open_bad_debt_base::HUGEINT AS open_base, h.owed_base, sum(h.owed_base) OVER account AS all_base, count(*) OVER account AS debts
    FROM held AS h JOIN run_accounts AS a ON a.run_id = h.run_id AND a.account = h.account
    WHERE h.owed > 0 WINDOW account AS (PARTITION BY h.run_id, h.account)
), uncovered AS (
    SELECT run_id, asset, CASE WHEN bool_and(part IS NOT NULL) THEN sum(part) END AS open_base
    FROM (SELECT run_id, asset, CASE WHEN debts = 1 OR open_base = 0 THEN open_base ELSE mul_div_up(open_base, owed_base, nullif(all_base, 0)) END AS part FROM debts)
    GROUP BY run_id, asset
), pools AS (
    SELECT h.run_id, h.asset, sum(h.lent) AS lent, coalesce(any_value(w.amount_base), 0) AS written_base, CASE WHEN any_value(u.asset) IS NULL THEN 0 ELSE any_value(u.open_base) END AS open_base
    FROM held AS h LEFT JOIN written AS w ON w.run_id = h.run_id AND w.asset = h.asset LEFT JOIN uncovered AS u ON u.run_id = h.run_id AND u.asset = h.asset
    GROUP BY h.run_id, h.asset HAVING sum(h.lent) > 0 AND (sum(h.owed) > 0 OR any_value(w.asset) IS NOT NULL)
), shared AS (
    SELECT h.*, h.lent::DOUBLE / b.lent::DOUBLE AS share, mul_div_up(b.written_base::HUGEINT, h.lent, b.lent::HUGEINT) AS written_off_base, mul_div_up(b.open_base::HUGEINT, h.lent, b.lent::HUGEINT) AS open_base
    FROM held AS h JOIN pools AS b ON b.run_id = h.run_id AND b.asset = h.asset WHERE h.lent > 0
)
SELECT s.run_id, e.name, e.market, s.account, s.asset, s.symbol, s.lent::DECIMAL(38, 0) AS lent, s.share, s.lent_base::DECIMAL(38, 0) AS lent_base,
    s.written_off_base::DECIMAL(38, 0) AS written_off_base, s.open_base::DECIMAL(38, 0) AS open_base, (s.written_off_base + s.open_base)::DECIMAL(38, 0) AS loss_base
FROM shared AS s JOIN ended AS e ON e.run_id = s.run_id
