-- Purpose: the versions of Silo V2 that its SQL covers: one set of rules, in tables that have what rounding left of interest.
-- Grain: revision.
-- Columns:
--   protocol: silo-v2
--   revision_parameter: silo_revision
--   revision: 1
SELECT 'silo-v2' AS protocol, 'silo_revision' AS revision_parameter, 1 AS revision
