-- Purpose: what accounts of Compound V2 markets hold and owe at the end of some blocks, and how it counts towards their health.
-- Grain: (market, block_number, account_id, asset_id); only rows with a balance or with debt.
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
--   collateral_scaled: scaled units (of a share token: shares), exact
--   debt_scaled: principal as of the account's last call in the cToken, exact
--   collateral_enabled: whether it counts as the account's collateral
--   emode: the account's category with parameters of its own, 0 for none
--   collateral: native units at the stored exchange rate, HUGEINT, rounded as the contract does
--   debt: native units at the stored borrow index, HUGEINT, rounded as the contract does
--   collateral_value: base-currency units that count as collateral (HUGEINT), 0 where it does not count; null where time, price or rules are not known
--   debt_value: base-currency units (HUGEINT); null where time, price or rules are not known
--   threshold_wad: liquidation threshold that applies, wad (1e18 = one), HUGEINT
--   price_known: whether the oracle has a price
--   price_exact: false where the price is not known at this position
--   amounts_exact: false where a number is beyond what SQL's integers hold (10^33): DOUBLE then, good to 1e-14
SELECT market, block_number, timestamp, account_id, asset_id, symbol, collateral_scaled, debt_scaled, collateral_enabled, 0 AS emode, collateral, debt,
    CASE WHEN collateral_enabled THEN worth ELSE 0::HUGEINT END AS collateral_value, owed_value AS debt_value, threshold_wad, price_known, price_exact, amounts_exact
FROM compound_v2_standing(accounts, blocks)
WHERE collateral_scaled <> 0 OR debt_scaled <> 0
