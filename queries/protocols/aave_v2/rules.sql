-- Purpose: the pool revisions of Aave V2 that its SQL covers; the exact rules are in backtest/protocols/aave_v2/rules.py.
-- Grain: revision.
-- Columns:
--   protocol: aave-v2
--   revision_parameter: pool_revision
--   revision: LENDINGPOOL_REVISION
SELECT 'aave-v2' AS protocol, 'pool_revision' AS revision_parameter, revision FROM (SELECT unnest([1, 2]) AS revision)
