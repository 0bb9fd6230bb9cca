-- Purpose: what accounts hold and owe (protocols of protocol_rules) at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt, or flagged as collateral.
-- Parameters:
--   accounts: list of addresses; NULL for all
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   account_id: account
--   asset_id: asset
--   symbol: symbol of the asset
--   collateral_scaled: scaled units (Morpho Blue: of the loan token shares), exact
--   debt_scaled: scaled units of variable-rate debt, exact
--   collateral_enabled: the account's flag
--   emode: the account's e-mode category, 0 for none
--   collateral: native units with interest, rounded as the pool does (HUGEINT, good to 1e-15)
--   debt: native units with interest, variable and stable, rounded as the pool does (HUGEINT, good to 1e-15)
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold: liquidation threshold that applies, basis points
--   averaged: rules: average threshold in whole basis points
--   revision: pool revision in force
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
WITH chosen AS (
    SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number
), people AS (
    SELECT market, account_id FROM accounts WHERE accounts IS NULL OR account IN (SELECT lower(unnest(accounts::VARCHAR[])))
), buckets AS (
    -- Each change counts from the first wanted block at or after it; a running sum then gives every wanted block.
    SELECT e.block_number, c.block_number AS counts_from
    FROM (SELECT DISTINCT block_number FROM position_events WHERE block_number <= (SELECT max(block_number) FROM chosen)) AS e
    ASOF JOIN chosen AS c ON e.block_number <= c.block_number
), changes AS (
    -- Two branches, of which one is empty: a filter that lets everything pass would cost as much as the sums.
    SELECT * FROM position_events WHERE accounts IS NULL
    UNION ALL SELECT * FROM position_events SEMI JOIN people USING (market, account_id) WHERE accounts IS NOT NULL
), moved AS (
    SELECT e.market, e.account_id, e.asset_id, b.counts_from AS block_number, sum(e.delta) FILTER (e.side = 'collateral') AS collateral,
        sum(e.delta) FILTER (e.side = 'debt') AS debt
    FROM changes AS e JOIN buckets AS b ON b.block_number = e.block_number
    GROUP BY e.market, e.account_id, e.asset_id, b.counts_from
), settings AS (
    SELECT * FROM setting_steps SEMI JOIN people USING (market, account_id)
), keys AS (
    SELECT market, account_id, asset_id FROM moved
    UNION
    SELECT market, account_id, asset_id FROM settings WHERE setting IN ('stable_principal', 'collateral_enabled')
), scaled AS (
    SELECT k.market, k.account_id, k.asset_id, c.block_number,
        coalesce(sum(m.collateral) OVER running, 0)::DECIMAL(38, 0) AS collateral_scaled, coalesce(sum(m.debt) OVER running, 0)::DECIMAL(38, 0) AS debt_scaled
    FROM keys AS k CROSS JOIN chosen AS c
    LEFT JOIN moved AS m ON m.market = k.market AND m.account_id = k.account_id AND m.asset_id = k.asset_id AND m.block_number = c.block_number
    WINDOW running AS (PARTITION BY k.market, k.account_id, k.asset_id ORDER BY c.block_number ROWS UNBOUNDED PRECEDING)
), stable AS (
    -- Debt at a stable rate: few accounts, and none since 3.2.
    SELECT k.market, k.account_id, k.asset_id, c.block_number, principal.value AS stable_principal, rate.value AS stable_rate, since.value AS stable_since
    FROM (SELECT DISTINCT market, account_id, asset_id FROM settings WHERE setting = 'stable_principal') AS k CROSS JOIN chosen AS c
    ASOF JOIN (SELECT * FROM settings WHERE setting = 'stable_principal') AS principal
        ON principal.market = k.market AND principal.account_id = k.account_id AND principal.asset_id = k.asset_id AND c.block_number >= principal.block_number
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'stable_rate') AS rate
        ON rate.market = k.market AND rate.account_id = k.account_id AND rate.asset_id = k.asset_id AND c.block_number >= rate.block_number
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'stable_since') AS since
        ON since.market = k.market AND since.account_id = k.account_id AND since.asset_id = k.asset_id AND c.block_number >= since.block_number
), categories AS (
    SELECT p.market, p.category, c.block_number, arg_max(p.value, p.block_number)::INTEGER AS threshold
    FROM param_steps AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name = 'emode_liquidation_threshold' GROUP BY p.market, p.category, c.block_number
), sources AS (
    SELECT p.market, p.category, c.block_number, arg_max(p.value, p.block_number)::INTEGER AS price_source
    FROM param_steps AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name = 'emode_price_source' GROUP BY p.market, p.category, c.block_number
), members AS (
    SELECT p.market, p.category, p.asset_id, c.block_number, arg_max(p.value, p.block_number) = 1 AS is_listed
    FROM param_steps AS p JOIN chosen AS c ON p.block_number <= c.block_number
    WHERE p.name = 'emode_collateral' GROUP BY p.market, p.category, p.asset_id, c.block_number
), held AS (
    SELECT s.*, coalesce(flag.value, 0) = 1 AS collateral_enabled, coalesce(mode.value, 0)::INTEGER AS emode,
        coalesce(d.stable_principal, 0) AS stable_principal, d.stable_rate, d.stable_since
    FROM scaled AS s
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'collateral_enabled') AS flag
        ON flag.market = s.market AND flag.account_id = s.account_id AND flag.asset_id = s.asset_id AND s.block_number >= flag.block_number
    ASOF LEFT JOIN (SELECT * FROM settings WHERE setting = 'emode') AS mode
        ON mode.market = s.market AND mode.account_id = s.account_id AND s.block_number >= mode.block_number
    LEFT JOIN stable AS d ON d.market = s.market AND d.account_id = s.account_id AND d.asset_id = s.asset_id AND d.block_number = s.block_number
), reserves AS (
    SELECT * FROM reserves_at(blocks)
), placed AS (
    SELECT h.*, r.timestamp, r.symbol, r.unit, r.share_unit, r.revision,
        -- A category with a price source of its own (Aave V3 to 3.1) values its members by that.
        coalesce(o.asset_id IS NOT NULL AND NOT r.emode_by_bitmap AND h.emode <> 0 AND r.emode_category = h.emode, false) AS by_category_price,
        CASE WHEN by_category_price THEN o.price ELSE r.price END AS price,
        -- The pool asks for that price before any other, even where nothing of the category is held.
        o.asset_id IS NULL OR r.emode_by_bitmap OR h.emode = 0 OR o.price IS NOT NULL AS category_priced,
        CASE WHEN by_category_price THEN o.price_exact ELSE r.price_exact END AS price_exact, r.supply_excess, r.borrow_excess, r.directional, r.averaged, r.threshold_gates,
        r.liquidation_threshold AS base_threshold,
        h.emode <> 0 AND CASE WHEN r.emode_by_bitmap THEN coalesce(listed.is_listed, false) ELSE r.emode_category = h.emode END AS in_emode,
        coalesce(by_category.threshold, 0) AS emode_threshold,
        (r.timestamp - h.stable_since)::DOUBLE AS stable_seconds, h.stable_rate::DOUBLE AS stable_yearly,
        (h.collateral_scaled::HUGEINT % r.share_unit)::DOUBLE / r.share_unit AS collateral_left,
        (h.debt_scaled::HUGEINT % r.share_unit)::DOUBLE / r.share_unit AS debt_left,
        floor(h.stable_rate::DOUBLE * h.stable_rate::DOUBLE / 1e27 / (31536000.0 * 31536000.0)) AS stable_squared
    FROM held AS h
    JOIN reserves AS r ON r.market = h.market AND r.block_number = h.block_number AND r.asset_id = h.asset_id
    LEFT JOIN categories AS by_category ON by_category.market = h.market AND by_category.category = h.emode AND by_category.block_number = h.block_number
    LEFT JOIN sources AS by_source ON by_source.market = h.market AND by_source.category = h.emode AND by_source.block_number = h.block_number
    LEFT JOIN reserves AS o ON o.market = h.market AND o.block_number = h.block_number AND o.asset_id = by_source.price_source
    LEFT JOIN members AS listed
        ON listed.market = h.market AND listed.asset_id = h.asset_id AND listed.category = h.emode AND listed.block_number = h.block_number
    WHERE h.collateral_scaled <> 0 OR h.debt_scaled <> 0 OR h.stable_principal <> 0 OR h.collateral_enabled
), native AS (
    -- Scaled units are whole, so only the interest on them (and the fraction that a share may leave) is rounded.
    SELECT *,
        collateral_scaled::HUGEINT // share_unit + CASE WHEN directional THEN floor(collateral_left + collateral_scaled::DOUBLE / share_unit * supply_excess)
            ELSE floor(collateral_scaled::DOUBLE * supply_excess + 0.5) END::HUGEINT AS collateral,
        debt_scaled::HUGEINT // share_unit + CASE WHEN directional THEN ceil(debt_left + debt_scaled::DOUBLE / share_unit * borrow_excess)
            ELSE floor(debt_scaled::DOUBLE * borrow_excess + 0.5) END::HUGEINT
            + CASE WHEN stable_principal = 0 THEN 0::HUGEINT
                ELSE stable_principal::HUGEINT + floor(0.5 + stable_principal::DOUBLE * (stable_yearly * stable_seconds / 31536000
                    + stable_seconds * greatest(stable_seconds - 1, 0) * stable_squared / 2
                    + stable_seconds * greatest(stable_seconds - 1, 0) * greatest(stable_seconds - 2, 0)
                        * floor(stable_squared * stable_yearly / 1e27 / 31536000) / 6) / 1e27)::HUGEINT
            END AS debt
    FROM placed
), valued AS (
    -- The exact product where it fits 127 bits; beyond, DOUBLE is as good as makes no difference.
    SELECT *,
        CASE WHEN collateral::DOUBLE * price::DOUBLE < 1e38 THEN collateral * price::HUGEINT // unit
            ELSE floor(collateral::DOUBLE * price::DOUBLE / unit::DOUBLE)::HUGEINT END AS supplied_value,
        CASE WHEN debt::DOUBLE * price::DOUBLE < 1e38 THEN (debt * price::HUGEINT + CASE WHEN directional THEN unit - 1 ELSE 0::HUGEINT END) // unit
            ELSE floor(debt::DOUBLE * price::DOUBLE / unit::DOUBLE)::HUGEINT END AS debt_value
    FROM native
)
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, collateral_enabled, emode, collateral, debt,
    CASE WHEN collateral_enabled AND (base_threshold <> 0 OR NOT threshold_gates) THEN supplied_value ELSE 0::HUGEINT END AS collateral_value,
    debt_value, CASE WHEN in_emode THEN emode_threshold ELSE base_threshold END AS threshold, averaged, revision,
    price IS NOT NULL AND category_priced AS price_known, coalesce(price_exact, false) AS price_exact
FROM valued
