-- Purpose: replays that were stored.
-- Grain: run_id.
-- Columns:
--   run_id: hash of scenario, lake content and version of the rules
--   name: name of the scenario
--   market: name of the market
--   protocol: name of the protocol
--   scenario: canonical JSON
--   seed: seed of random draws
--   rules_version: version of the rules
--   lake_digest: digest of the lake's content
--   from_block: first block in which the model acts
--   to_block: last block replayed
--   from_timestamp: seconds since 1970, of from_block
--   to_timestamp: seconds since 1970, of to_block
--   liquidator_model: observed or competitive
--   liquidations: number of liquidations
--   accounts_liquidated: number of distinct accounts liquidated
--   actions_clamped: historical actions that no longer fitted and were cut down
--   notes: assumptions and warnings, JSON list
SELECT run_id, name, market, protocol, scenario, seed, rules_version, lake_digest, from_block, to_block, from_timestamp, to_timestamp,
    liquidator_model, liquidations, accounts_liquidated, actions_clamped, notes
FROM results.runs
