-- Purpose: the versions of Euler V2 that its SQL covers: its vaults have one set of rules.
-- Grain: revision.
-- Columns:
--   protocol: euler-v2
--   revision_parameter: euler_revision
--   revision: 1
SELECT 'euler-v2' AS protocol, 'euler_revision' AS revision_parameter, 1 AS revision
