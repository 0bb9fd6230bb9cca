-- Purpose: the versions of Morpho Blue that its SQL covers: the contract is immutable.
-- Grain: revision.
-- Columns:
--   protocol: morpho-blue
--   revision_parameter: pool_revision
--   revision: 1
SELECT 'morpho-blue' AS protocol, 'pool_revision' AS revision_parameter, 1 AS revision
