-- A proxy's round id is its phase, times 2^64, plus the aggregator's (smartcontractkit/chainlink, AggregatorProxy.sol, addPhase). Only the aggregator
-- of the phase in force speaks for the proxy: a new one reports before the change, its last answer of then holds from the change on, and the old one may
-- report afterwards. Files have no blocks: each round is placed by its time.
WITH numbered AS (
    SELECT *, TRY_CAST(round AS HUGEINT) AS number,
        coalesce(TRY_CAST(updated_at AS BIGINT), CAST(epoch(TRY_CAST(updated_at AS TIMESTAMPTZ)) AS BIGINT)) AS time FROM rounds
),
phased AS (
    SELECT *, CASE WHEN $phase <> '' THEN TRY_CAST($phase AS HUGEINT) ELSE number // 18446744073709551616::HUGEINT END AS phase FROM numbered
),
begun AS (
    SELECT TRY_CAST(phase AS HUGEINT) AS phase, started_at,
        coalesce(TRY_CAST(started_at AS BIGINT), CAST(epoch(TRY_CAST(started_at AS TIMESTAMPTZ)) AS BIGINT)) AS start FROM phases
),
spans AS (
    SELECT *, lead(start) OVER (ORDER BY phase) AS stop FROM begun
),
others AS (
    SELECT phase, (SELECT min(l.time) FROM phased AS l WHERE l.phase > p.phase) AS later, (SELECT max(e.time) FROM phased AS e WHERE e.phase < p.phase) AS earlier
    FROM (SELECT DISTINCT phase FROM phased) AS p
),
placed AS (
    SELECT p.*, o.later, o.earlier, s.start, s.started_at, coalesce(s.stop, (SELECT min(b.start) FROM begun AS b WHERE b.phase > p.phase)) AS stop,
        row_number() OVER (PARTITION BY p.phase, p.time < s.start ORDER BY p.time DESC, p.number DESC) AS place
    FROM phased AS p
    LEFT JOIN spans AS s ON s.phase = p.phase
    LEFT JOIN others AS o ON o.phase = p.phase
)
SELECT source_row, $asset AS asset, 'oracle' AS kind, answer || 'e-' || $decimals AS price,
    CASE WHEN time < start THEN started_at ELSE updated_at END AS timestamp,
    $asset || ':round:' || CASE WHEN $phase <> '' THEN CAST(phase * 18446744073709551616::HUGEINT + number AS VARCHAR) ELSE round END AS identity,
    CASE
        WHEN number IS NULL OR phase IS NULL OR number < 0 THEN 'round ' || coalesce(round, '') || ' is no round id'
        WHEN $phase <> '' AND number >= 18446744073709551616::HUGEINT THEN 'round ' || round || ' names its phase itself: leave out --set phase'
        WHEN start IS NULL AND stop IS NULL AND (time >= later OR time <= earlier)
            THEN 'rounds of several phases at one time: say in a file of phases (phase, started_at) when each began'
    END AS problem,
    CASE
        WHEN time >= stop THEN 'of phase ' || phase || ', after it ended'
        WHEN time < start AND place > 1 THEN 'of phase ' || phase || ', before it began'
    END AS aside
FROM placed
