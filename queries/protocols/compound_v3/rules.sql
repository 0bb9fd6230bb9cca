-- Purpose: the versions of Compound V3 that its SQL covers: its implementations have one set of rules.
-- Grain: revision.
-- Columns:
--   protocol: compound-v3
--   revision_parameter: comet_revision
--   revision: 1
SELECT 'compound-v3' AS protocol, 'comet_revision' AS revision_parameter, 1 AS revision
