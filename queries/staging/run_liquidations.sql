-- Purpose: the liquidations of stored replays.
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
--   seized: native units of the collateral asset that the liquidator got, exact
--   protocol_fee: native units of the collateral asset that the treasury got, exact
--   receive_collateral_token: whether the liquidator took the protocol's collateral token
--   repaid_base: base-currency units at the oracle price
--   seized_base: base-currency units at the oracle price
--   protocol_fee_base: base-currency units at the oracle price
--   profit_base: base-currency units at the oracle price
--   health_before: health factor, wad (1e18)
--   health_after: health factor, wad (1e18); null without debt
--   rules_tested: whether these rules are tested against bytecode
--   matches_history: whether history has the same amounts; null where it has no counterpart
--   made_by_override: whether an override, not a price, made the account liquidatable
SELECT run_id, market, ordinal, seq, block_number, log_index, timestamp, account, liquidator, debt_asset, collateral_asset, repaid, seized,
    protocol_fee, receive_collateral_token, repaid_base, seized_base, protocol_fee_base, profit_base, health_before, health_after, rules_tested,
    matches_history, made_by_override
FROM results.run_liquidations
