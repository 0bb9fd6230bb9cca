-- Purpose: the liquidations of stored replays; one that goes through an auction is one row, with what the auction brought.
-- Grain: (run_id, ordinal).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: number of the liquidation within the replay, in order
--   seq: event after which it happened
--   block_number: block
--   log_index: index of the log within the block
--   timestamp: seconds since 1970, of the block
--   account: address of the borrower
--   liquidator: address of the liquidator
--   debt_asset: address of the asset repaid
--   collateral_asset: address of the asset seized
--   repaid: native units of the debt asset, exact
--   seized: native units of the collateral asset that the liquidator, or the buyers in the auction, got, exact
--   protocol_fee: native units of the collateral asset that the treasury got, exact
--   receive_collateral_token: whether the liquidator took the protocol's collateral token
--   repaid_base: base-currency units at the oracle price
--   seized_base: base-currency units at the oracle price
--   protocol_fee_base: base-currency units at the oracle price
--   profit_base: base-currency units at the oracle price
--   health_before: health factor in wad, exact: 10^18 is the threshold
--   health_after: the same afterwards; null without debt
--   health_factor_before: health factor, DOUBLE: 1 is the threshold
--   health_factor_after: the same afterwards; null without debt
--   rules_tested: whether these rules are tested against bytecode
--   matches_history: whether history has the same amounts; null where it has no counterpart
--   made_by_override: whether an override, not a price, made the account liquidatable
--   auction: number of the auction within the replay (run_auctions); null where the liquidation settled at once
--   taken: native units of the collateral asset that left the account, the treasury's part included: more than seized where an auction gives some back, or is not over
WITH sold AS (
    SELECT run_id, lot, sum(seized) AS seized, sum(seized_base) AS seized_base, sum(profit_base) AS profit_base
    FROM results.run_liquidations WHERE stage = 'auction' GROUP BY run_id, lot
)
SELECT run_id, market, ordinal, seq, block_number, log_index, timestamp, account, liquidator, debt_asset, collateral_asset, repaid,
    CASE WHEN stage = 'opened' THEN coalesce(s.seized, 0) ELSE r.seized END::DECIMAL(38, 0) AS seized, protocol_fee, receive_collateral_token, repaid_base,
    CASE WHEN stage = 'opened' THEN coalesce(s.seized_base, 0) ELSE r.seized_base END::DECIMAL(38, 0) AS seized_base, protocol_fee_base,
    (r.profit_base + CASE WHEN stage = 'opened' THEN coalesce(s.profit_base, 0) ELSE 0 END)::DECIMAL(38, 0) AS profit_base, health_before, health_after,
    health_before::DOUBLE / 1e18 AS health_factor_before, health_after::DOUBLE / 1e18 AS health_factor_after,
    rules_tested, matches_history, made_by_override, lot AS auction, r.seized + protocol_fee AS taken
FROM results.run_liquidations AS r LEFT JOIN sold AS s USING (run_id, lot) WHERE stage IS DISTINCT FROM 'auction'
