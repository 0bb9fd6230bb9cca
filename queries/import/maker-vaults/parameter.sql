-- Changes of parameters, in the protocol's names and units: fees and penalties of the export are shares (0.06 a year, 0.13).
-- Several changes of a parameter in one block come in the order in which the old value of one is the new value of the one before.
-- Where a parameter was set before the export begins, its old value in the first change holds from the first block of the vaults' files on
-- (whose time the rows of that block say).
-- The first limit of a system of liquidations also says that it is the one in force: 10 lots by lump, 11 by dunk, 20 the Dog.
WITH RECURSIVE changes AS (
    SELECT source_row, BLOCK AS block, regexp_replace(TIMESTAMP, '^(\S+) (\d):', '\1 0\2:') || 'Z' AS time, TX_HASH, lower(PARAMETER) AS parameter,
        ILK AS ilk, FROM_VALUE AS old, TO_VALUE AS new, concat_ws(':', BLOCK, lower(PARAMETER), ILK) AS site,
        concat_ws(':', TX_HASH, PARAMETER, ILK, FROM_VALUE, TO_VALUE) AS identity
    FROM parameter_changes
),
chain AS (
    SELECT c.source_row, c.site, c.new, 0 AS place
    FROM changes AS c
    WHERE NOT EXISTS (SELECT 1 FROM changes AS b WHERE b.site = c.site AND b.new = c.old AND b.source_row <> c.source_row)
    UNION ALL
    SELECT c.source_row, c.site, c.new, p.place + 1
    FROM chain AS p JOIN changes AS c ON c.site = p.site AND c.old = p.new AND c.source_row <> p.source_row
    WHERE p.place < 100
),
placed AS (
    SELECT c.*, coalesce(p.place, 0) AS rank, row_number() OVER (PARTITION BY c.parameter, c.ilk ORDER BY TRY_CAST(c.block AS BIGINT), p.place) AS number
    FROM changes AS c LEFT JOIN (SELECT source_row, max(place) AS place FROM chain GROUP BY source_row) AS p ON p.source_row = c.source_row
),
flows AS (
    SELECT BLOCK_NUMBER FROM deposits UNION ALL SELECT BLOCK_NUMBER FROM withdrawals UNION ALL SELECT BLOCK_NUMBER FROM borrows
    UNION ALL SELECT BLOCK_NUMBER FROM repayments UNION ALL SELECT BLOCK_NUMBER FROM liquidations
),
start AS (SELECT min(TRY_CAST(BLOCK_NUMBER AS BIGINT)) AS block FROM flows),
steps AS (
    SELECT source_row, block, time, TX_HASH, parameter, ilk, new AS value, identity, rank, number = 1 AND old = '0' AS is_first FROM placed
    UNION ALL
    SELECT p.source_row, CAST(s.block AS VARCHAR), NULL, NULL, p.parameter, p.ilk, p.old, p.identity || ':before', 0, true
    FROM placed AS p, start AS s
    WHERE p.number = 1 AND p.old <> '0' AND s.block < TRY_CAST(p.block AS BIGINT) AND NOT starts_with(p.parameter, 'dc-iam.')
),
known(parameter, name, decimals, added) AS (
    VALUES ('spotter.ilks.mat', 'liquidation_ratio', '27', 0), ('cat.ilks.chop', 'liquidation_penalty', '18', 1),
        ('dog.ilks.chop', 'liquidation_penalty', '18', 1), ('jug.ilks.duty', 'stability_fee', '27', 0), ('vat.ilks.dust', 'dust', '18', 0),
        ('vat.ilks.line', 'line', '18', 0), ('cat.ilks.lump', 'lump', '18', 0), ('cat.ilks.dunk', 'dunk', '18', 0),
        ('dog.ilks.hole', 'hole', '18', 0), ('flipper.beg', 'beg', '18', 1), ('flipper.ttl', 'ttl', '0', 0), ('flipper.tau', 'tau', '0', 0),
        ('clipper.buf', 'buf', '27', 0), ('clipper.tail', 'tail', '0', 0), ('clipper.cusp', 'cusp', '27', 0), ('clipper.chip', 'chip', '18', 0),
        ('clipper.tip', 'tip', '18', 0), ('clipper.stopped', 'stopped', '0', 0), ('calc.cut', 'cut', '27', 0), ('calc.step', 'step', '0', 0)
),
systems(parameter, version) AS (VALUES ('cat.ilks.lump', '10'), ('cat.ilks.dunk', '11'), ('dog.ilks.hole', '20')),
named AS (
    SELECT t.*, k.name, k.decimals, '' AS suffix, CASE WHEN k.added = 1 THEN CAST(TRY_CAST(t.value AS DECIMAL(38, 18)) + 1 AS VARCHAR) ELSE t.value END AS scaled
    FROM steps AS t LEFT JOIN known AS k ON k.parameter = t.parameter
    UNION ALL
    SELECT t.*, 'liquidation_system', '0', ':system', s.version FROM steps AS t JOIN systems AS s ON s.parameter = t.parameter WHERE t.is_first
)
SELECT source_row, coalesce(name, parameter) AS name, scaled AS value, decimals, block, time AS timestamp, TX_HASH AS transaction_hash,
    identity || suffix AS identity, rank,
    CASE
        WHEN ilk <> $ilk THEN 'collateral type ' || ilk || ', not ' || $ilk
        WHEN name IS NULL AND NOT starts_with(parameter, 'dc-iam.') THEN 'unknown parameter ' || parameter
    END AS problem,
    CASE WHEN starts_with(parameter, 'dc-iam.') THEN 'settings of the automatic debt ceiling' END AS aside
FROM named
