-- Purpose: what each stored replay is: history, baseline or alternative, and what an alternative is compared with.
-- Grain: run_id; runs of older versions, which cannot be compared, are left out.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   kind: history (observed liquidators), baseline (a model under history's parameters) or alternative (with overrides, mitigations, another mechanism or oracle delay)
--   baseline_id: of an alternative: the run of the same data, versions and scenario but for these; null where none is stored
--   history_id: of a baseline or an alternative: the observed run of the same data, versions and blocks; null where none is stored
-- An observed replay depends on nothing but data and blocks: of several the plainest scenario is taken.
WITH known AS (
    SELECT *, CASE WHEN liquidator_model = 'observed' THEN 'history' WHEN overridden THEN 'alternative' ELSE 'baseline' END AS kind
    FROM runs WHERE terms IS NOT NULL
), baselines AS (
    SELECT market, lake_digest, rules_version, engine_version, terms, min(run_id) AS baseline_id
    FROM known WHERE kind = 'baseline' GROUP BY ALL
), histories AS (
    SELECT market, lake_digest, rules_version, engine_version, from_block, to_block, first(run_id ORDER BY length(scenario), run_id) AS history_id
    FROM known WHERE kind = 'history' GROUP BY market, lake_digest, rules_version, engine_version, from_block, to_block
)
SELECT k.run_id, k.market, k.kind, CASE WHEN k.kind = 'alternative' THEN b.baseline_id END AS baseline_id,
    CASE WHEN k.kind <> 'history' THEN h.history_id END AS history_id
FROM known AS k LEFT JOIN baselines AS b USING (market, lake_digest, rules_version, engine_version, terms)
LEFT JOIN histories AS h USING (market, lake_digest, rules_version, engine_version, from_block, to_block)
