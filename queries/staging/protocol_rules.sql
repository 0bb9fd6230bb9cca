-- Purpose: what native amounts and health depend on in each protocol and revision; the exact rules are in backtest/protocols.
-- Grain: (protocol, revision).
-- Columns:
--   protocol: name of the protocol
--   revision: value of the market's parameter pool_revision
--   directional: collateral is rounded down and debt up; else both to nearest
--   averaged: the average threshold is cut to whole basis points
--   taylor_v34: compound interest by the polynomial x + x^2/2 + x^3/6
--   emode_by_bitmap: the category lists its collateral; else the asset names its category
--   threshold_gates: an asset without a base threshold is no collateral
--   supply_compounds: suppliers' interest is their share of what borrowers' compound interest adds; else it is linear in time
--   threshold_unit: stored units of a liquidation threshold of one
SELECT 'aave-v3' AS protocol, *, false AS supply_compounds, 10000::HUGEINT AS threshold_unit FROM aave_v3_rules
UNION ALL SELECT 'morpho-blue', 1, true, false, true, true, true, true, 1000000000000000000::HUGEINT
