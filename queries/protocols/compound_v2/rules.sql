-- Purpose: the revisions of the Comptroller that the SQL of Compound V2 covers.
-- Grain: revision.
-- Columns:
--   protocol: compound-v2
--   revision_parameter: comptroller_revision
--   revision: 1: products to nearest; 2: products cut; 3: cut, and deprecated markets are liquidated
SELECT 'compound-v2' AS protocol, 'comptroller_revision' AS revision_parameter, unnest([1, 2, 3]) AS revision
