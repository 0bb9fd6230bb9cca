-- Purpose: balances at the end of stored replays; only rows with a balance.
-- Grain: (run_id, account, asset).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   account: address
--   asset: address of the underlying token
--   collateral_scaled: scaled units, exact
--   debt_scaled: scaled units, exact
--   collateral: native units, exact
--   debt: native units, exact
--   collateral_enabled: whether it counts as collateral
SELECT run_id, market, account, asset, collateral_scaled, debt_scaled, collateral, debt, collateral_enabled
FROM results.run_balances
