-- Purpose: replays that were stored.
-- Grain: run_id.
-- Columns:
--   run_id: hash of scenario, lake content and versions of rules and engine
--   name: name of the scenario
--   market: name of the market
--   protocol: name of the protocol
--   scenario: canonical JSON
--   terms: the scenario without its overrides, canonical JSON; null in runs of older versions
--   question: the scenario with frozen users, canonical JSON; null in runs of older versions
--   seed: seed of random draws
--   rules_version: version of the rules
--   engine_version: version of the engine
--   lake_digest: digest of the lake's content
--   synthetic: whether the market is a test's or a demo's, on a local node
--   proxy_prices: whether some prices are a venue's in place of the oracle's
--   from_block: first block in which the model acts
--   to_block: last block replayed
--   from_timestamp: seconds since 1970, of from_block
--   to_timestamp: seconds since 1970, of to_block
--   liquidator_model: observed, competitive, sealed-bid, ...: the kind of liquidators
--   overridden: whether the scenario changes parameters
--   response: what users do: frozen, same-ltv, same-health
--   refused: what becomes of an action that would revert: skip, shrink
--   rates: interest: historical or recomputed
--   liquidations: number of liquidations
--   accounts_liquidated: number of distinct accounts liquidated
--   actions: users' actions that came up
--   actions_altered: those that were not made as in history
--   rate_updates: rate updates compared with history's before the model acts; null where interest was not recomputed
--   rate_updates_differing: those that differ
--   rate_difference: the largest difference, ray (1e27)
--   missing_windows: labels of later windows for which the data end too early, JSON list
--   notes: assumptions and warnings, JSON list
--   superseded: blocks that were fetched again since and came out otherwise; null where none were
SELECT run_id, name, market, protocol, scenario, terms, question, seed, rules_version, engine_version, lake_digest, synthetic, proxy_prices,
    from_block, to_block, from_timestamp, to_timestamp, liquidator_model, overridden, response, refused, rates, liquidations, accounts_liquidated,
    actions, actions_altered, rate_updates, rate_updates_differing, rate_difference, missing_windows, notes, superseded
FROM results.runs LEFT JOIN lake.superseded USING (market, lake_digest)
