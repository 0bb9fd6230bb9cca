-- Purpose: the steps of the auctions of stored replays, after the liquidation that opened each.
-- Grain: (run_id, ordinal).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: number of the step among all liquidations and steps of the replay, in order
--   auction: number of the auction within the replay (run_liquidations)
--   step: what happened: take, redo (Dutch); tend, dent, tick, deal (English); buy (at a discount)
--   block_number: block
--   timestamp: seconds since 1970
--   account: address of the borrower
--   paid: native units of the debt asset that the buyer paid, exact
--   bought: native units of the collateral asset that the buyer got, exact
--   paid_base: base-currency units at the oracle price
--   bought_base: base-currency units at the oracle price
--   profit_base: of the buyer after stated costs, base-currency units at the oracle price
SELECT run_id, market, ordinal, lot AS auction, step, block_number, timestamp, account, repaid AS paid, seized AS bought, repaid_base AS paid_base,
    seized_base AS bought_base, profit_base
FROM results.run_liquidations WHERE stage = 'auction'
