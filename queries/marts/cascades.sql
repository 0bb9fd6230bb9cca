-- Purpose: liquidations of stored replays that belong together (no 600 seconds without a sale, or as long as the oracle's rule looks back), what they set off, and how far prices fell with and without.
-- Grain: (run_id, cascade, asset): an asset whose price answers to sales.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   cascade: numbers a run's cascades in order
--   asset: address of the asset
--   from_block: block of the first sale
--   to_block: block of the last one
--   from_timestamp: seconds since 1970
--   to_timestamp: seconds since 1970
--   liquidations: liquidations that sold, of all assets
--   endogenous_liquidations: those that history's oracle prices would not have made
--   repaid_base: debt they repaid, base-currency units
--   endogenous_repaid_base: of the endogenous ones
--   endogenous_share: part of the debt repaid that is endogenous, DOUBLE
--   sold: what was sold of the asset, native units
--   rounds: rounds of the asset's oracle that history did not have
--   history_before: the oracle's price in history at the end of the block before, base units a whole token in the market's price decimals
--   oracle_before: the oracle's price in this replay then
--   history_low: the lowest price of the oracle in history
--   oracle_low: the lowest price of the oracle in this replay
--   market_low: the lowest market price in this replay
--   fall: how far the oracle's price fell in this replay, DOUBLE
--   exogenous_fall: how far it fell in history, DOUBLE
--   amplification: logarithm of the fall in this replay over that of history's; null where history's did not fall, DOUBLE
SELECT run_id, market, cascade, asset, from_block, to_block, from_timestamp, to_timestamp, liquidations, endogenous_liquidations, repaid_base,
    endogenous_repaid_base, endogenous_repaid_base::DOUBLE / nullif(repaid_base, 0)::DOUBLE AS endogenous_share, sold, rounds, history_before, oracle_before,
    history_low, oracle_low, market_low, 1 - oracle_low::DOUBLE / oracle_before::DOUBLE AS fall,
    1 - history_low::DOUBLE / history_before::DOUBLE AS exogenous_fall,
    ln(oracle_low::DOUBLE / oracle_before::DOUBLE) / nullif(ln(history_low::DOUBLE / history_before::DOUBLE), 0) AS amplification
FROM results.run_cascades
