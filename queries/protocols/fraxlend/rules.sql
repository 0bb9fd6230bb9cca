-- Purpose: the versions of Fraxlend that its SQL covers: pairs of version 3.
-- Grain: revision.
-- Columns:
--   protocol: fraxlend
--   revision_parameter: pair_version
--   revision: 3
SELECT 'fraxlend' AS protocol, 'pair_version' AS revision_parameter, 3 AS revision
