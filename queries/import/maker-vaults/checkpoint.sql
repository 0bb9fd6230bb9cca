-- The automatic debt ceiling (DssAutoLine) sets line to the debt plus gap, wherever that is below its own maximum: line minus gap is the debt.
WITH settings AS (SELECT lower(PARAMETER) AS name, TRY_CAST(BLOCK AS BIGINT) AS block, TO_VALUE AS value FROM parameter_changes WHERE ILK = $ilk),
lines AS (
    SELECT source_row, TRY_CAST(BLOCK AS BIGINT) AS block, TIMESTAMP AS time, TX_HASH, TRY_CAST(TO_VALUE AS DECIMAL(38, 18)) AS line
    FROM parameter_changes
    WHERE lower(PARAMETER) = 'vat.ilks.line' AND SOURCE_TYPE = 'DssAutoLine' AND ILK = $ilk
)
SELECT l.source_row, 'dai' AS asset, 'debt' AS side, CAST(l.line - TRY_CAST(g.value AS DECIMAL(38, 18)) AS VARCHAR) AS amount, l.block,
    regexp_replace(l.time, '^(\S+) (\d):', '\1 0\2:') || 'Z' AS timestamp, l.TX_HASH AS transaction_hash, 'debt:' || l.TX_HASH AS identity
FROM lines AS l
JOIN settings AS g ON g.name = 'dc-iam.ilks.gap'
    AND g.block = (SELECT max(s.block) FROM settings AS s WHERE s.name = 'dc-iam.ilks.gap' AND s.block <= l.block)
JOIN settings AS m ON m.name = 'dc-iam.ilks.line'
    AND m.block = (SELECT max(s.block) FROM settings AS s WHERE s.name = 'dc-iam.ilks.line' AND s.block <= l.block)
WHERE l.line < TRY_CAST(m.value AS DECIMAL(38, 18))
