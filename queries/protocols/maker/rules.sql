-- Purpose: the versions of Maker's liquidation contracts; health is the same in all of them.
-- Grain: revision.
-- Columns:
--   protocol: maker
--   revision_parameter: liquidation_system
--   revision: 10 Cat 1.0, 11 Cat 1.1 and 1.2, 20 Dog 2.0
SELECT 'maker' AS protocol, 'liquidation_system' AS revision_parameter, unnest([10, 11, 20]) AS revision
