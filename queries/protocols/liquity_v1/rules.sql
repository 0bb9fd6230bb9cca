-- Purpose: the versions of Liquity V1 that its SQL covers: its contracts have one set of rules.
-- Grain: revision.
-- Columns:
--   protocol: liquity-v1
--   revision_parameter: liquity_revision
--   revision: 1
SELECT 'liquity-v1' AS protocol, 'liquity_revision' AS revision_parameter, 1 AS revision
