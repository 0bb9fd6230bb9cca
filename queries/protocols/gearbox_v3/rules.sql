-- Purpose: the versions of Gearbox that its SQL covers: V3.1, in tables that have the pool's index of every block in which it accrued.
-- Grain: revision.
-- Columns:
--   protocol: gearbox-v3
--   revision_parameter: gearbox_revision
--   revision: 2
SELECT 'gearbox-v3' AS protocol, 'gearbox_revision' AS revision_parameter, 2 AS revision
