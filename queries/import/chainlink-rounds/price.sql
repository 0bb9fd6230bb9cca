-- The files have no blocks: each round is placed by its time.
SELECT source_row, $asset AS asset, 'oracle' AS kind, answer || 'e-8' AS price, updated_at AS timestamp, $asset || ':round:' || round AS identity
FROM rounds
