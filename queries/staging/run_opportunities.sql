-- Purpose: what came of the opportunities of stored replays, look by look: the raw rows; opportunities has one row for each.
-- Grain: (run_id, spell): a stretch of looks at which the same came of one opportunity.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   spell: number of the row within the replay, in order
--   opportunity: number of the opportunity within the replay; its last row says how it ended
--   account: address of the borrower
--   from_block: block of the first look
--   to_block: block of the last look
--   from_timestamp: seconds since 1970, of the first look
--   to_timestamp: seconds since 1970, of the last look
--   looks: number of looks
--   debt_asset: address of the asset that the best offer repays
--   collateral_asset: address of the asset that it seizes
--   repaid: what it repays, native units of the debt asset, exact
--   repaid_base: the same, base-currency units at the oracle price
--   seized_base: what the liquidator gets, base-currency units at the oracle price
--   profit_base: what it leaves after costs and before bids, base-currency units
--   ending: taken, expired, or missed (in the last row: still open at the end of the window)
--   reason: expired: owner acted, price back, or withheld by a mitigation; missed: why nobody took it; taken: empty
--   ordinal: the liquidation that took it (run_liquidations); null where none did
SELECT run_id, market, spell, opportunity, account, from_block, to_block, from_timestamp, to_timestamp, looks, debt_asset, collateral_asset, repaid,
    repaid_base, seized_base, profit_base, ending, reason, ordinal
FROM results.run_opportunities
