-- Purpose: the versions of Liquity V2 that its SQL covers: its contracts have one set of rules.
-- Grain: revision.
-- Columns:
--   protocol: liquity-v2
--   revision_parameter: liquity_revision
--   revision: 1
SELECT 'liquity-v2' AS protocol, 'liquity_revision' AS revision_parameter, 1 AS revision
