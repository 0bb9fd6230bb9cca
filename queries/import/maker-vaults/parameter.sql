-- Changes of parameters under their names in the export (lower case), and values as there: fees and penalties as shares (0.06 a year, 0.13),
-- ratios as factors, Dai as Dai, all times 1e18; times in seconds.
-- Several changes of a parameter in one block come in the order in which the old value of one is the new value of the one before.
WITH RECURSIVE changes AS (SELECT * FROM parameter_changes),
chain AS (
    SELECT c.source_row, c.BLOCK, c.PARAMETER, c.ILK, c.TO_VALUE, 0 AS place
    FROM changes AS c
    WHERE NOT EXISTS (
        SELECT 1 FROM changes AS b
        WHERE b.BLOCK = c.BLOCK AND b.PARAMETER = c.PARAMETER AND b.ILK = c.ILK AND b.TO_VALUE = c.FROM_VALUE AND b.source_row <> c.source_row
    )
    UNION ALL
    SELECT c.source_row, c.BLOCK, c.PARAMETER, c.ILK, c.TO_VALUE, p.place + 1
    FROM chain AS p
    JOIN changes AS c ON c.BLOCK = p.BLOCK AND c.PARAMETER = p.PARAMETER AND c.ILK = p.ILK AND c.FROM_VALUE = p.TO_VALUE AND c.source_row <> p.source_row
    WHERE p.place < 100
),
places AS (SELECT source_row, max(place) AS place FROM chain GROUP BY source_row)
SELECT c.source_row, lower(c.PARAMETER) AS name, c.TO_VALUE AS value,
    CASE WHEN regexp_matches(lower(c.PARAMETER), '[.](ttl|tau|tail|step)$') THEN '0' ELSE '18' END AS decimals,
    c.BLOCK AS block, regexp_replace(c.TIMESTAMP, '^(\S+) (\d):', '\1 0\2:') || 'Z' AS timestamp, c.TX_HASH AS transaction_hash,
    concat_ws(':', c.TX_HASH, c.PARAMETER, c.ILK, c.FROM_VALUE, c.TO_VALUE) AS identity, coalesce(p.place, 0) AS rank,
    CASE WHEN c.ILK <> $ilk THEN 'collateral type ' || c.ILK || ', not ' || $ilk END AS problem
FROM changes AS c
LEFT JOIN places AS p ON p.source_row = c.source_row
