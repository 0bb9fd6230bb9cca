-- Purpose: stresses that were stored, complete or not: a suite of cases on the book of one moment.
-- Grain: stress_id.
-- Columns:
--   stress_id: hash of the suite, the block, the seed, the lake's content and versions of rules and engine
--   name: name of the suite
--   suite_version: its version
--   market: name of the market
--   suite: the suite, canonical JSON
--   block_number: at whose end the book stands
--   timestamp: of that block, seconds since 1970
--   seed: of the draws
--   steps: of each path
--   step_seconds: from one step to the next
--   paths: number of paths planned
--   done: number of them that have an outcome
--   failed: number of them that failed
--   collateral_base: of all accounts before anything happened, base-currency units
--   debt_base: the same, of debt
--   bad_debt_base: debt beyond the collateral of its account then, base-currency units
--   still_bad_debt_base: bad debt at the end where no price moves, base-currency units: what a path adds is beyond it
--   still_repaid_base: debt liquidated where no price moves, base-currency units
--   notes: what it assumes, a JSON list of sentences
--   lake_digest: digest of the lake's content
--   rules_version: version of the rules
--   engine_version: version of the engine
WITH planned AS (
    SELECT stress_id, sum(paths)::BIGINT AS paths FROM results.stress_cases GROUP BY stress_id
), there AS (
    SELECT stress_id, count(*) FILTER (error IS NULL) AS done, count(*) FILTER (error IS NOT NULL) AS failed FROM results.stress_paths GROUP BY stress_id
)
SELECT s.stress_id, s.name, s.suite_version, s.market, s.suite, s.block_number, s."timestamp", s.seed, s.steps, s.step_seconds, p.paths,
    coalesce(t.done, 0) AS done, coalesce(t.failed, 0) AS failed, s.collateral_base, s.debt_base, s.bad_debt_base, s.still_bad_debt_base,
    s.still_repaid_base, s.notes, s.lake_digest, s.rules_version, s.engine_version
FROM results.stresses AS s LEFT JOIN planned AS p USING (stress_id) LEFT JOIN there AS t USING (stress_id)
