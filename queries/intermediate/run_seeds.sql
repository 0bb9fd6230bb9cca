-- Purpose: which stored replays differ by their seed alone.
-- Grain: run_id.
-- Columns:
--   run_id: the replay
--   repeats_id: the same for all runs of one market, data, versions and scenario but for the seed
--   seed: seed of random draws
--   place: 1 has the lowest seed of them
-- Canonical JSON sorts its keys, so that the top-level seed is followed by others; it is cut as text, which keeps every digit of the rest.
SELECT run_id, repeats_id, seed, row_number() OVER (PARTITION BY repeats_id ORDER BY seed, run_id) AS place
FROM (
    SELECT run_id, seed, md5(concat_ws(chr(10), market, lake_digest, rules_version, engine_version, regexp_replace(scenario, '"seed":[0-9]+,', '')))
        AS repeats_id
    FROM runs
)
