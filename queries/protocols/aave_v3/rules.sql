-- Purpose: what a health factor depends on in each pool revision of Aave V3; the exact rules are in backtest/protocols/aave_v3/rules.py.
-- Grain: revision.
-- Columns:
--   protocol: aave-v3
--   revision_parameter: pool_revision
--   revision: POOL_REVISION
--   directional: 3.5+: collateral is rounded down and debt up; before, both to nearest
--   averaged: to 3.4: the average threshold is cut to whole basis points
--   taylor_v34: 3.4+: compound interest by the newer polynomial
--   emode_by_bitmap: 3.2+: the category lists its collateral; before, the asset names its category
--   threshold_gates: to 3.5: an asset without a base threshold is no collateral
SELECT 'aave-v3' AS protocol, 'pool_revision' AS revision_parameter, revision, revision >= 9 AS directional, revision <= 8 AS averaged, revision >= 8 AS taylor_v34, revision >= 5 AS emode_by_bitmap,
    revision <= 9 AS threshold_gates
FROM (SELECT unnest([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]) AS revision)
