-- Purpose: the auction houses of GEB and Open Dollar; health is the same with all of them.
-- Grain: revision.
-- Columns:
--   protocol: geb
--   revision_parameter: liquidation_system
--   revision: 29 English, 30 fixed discount, 31 increasing discount, 32 Open Dollar's
SELECT 'geb' AS protocol, 'liquidation_system' AS revision_parameter, unnest([29, 30, 31, 32]) AS revision
