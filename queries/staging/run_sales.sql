-- Purpose: where prices answer to sales: what each liquidation of stored replays gave its liquidator to sell (or made it buy), and what that did to the price.
-- Grain: (run_id, ordinal, asset).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: number of the liquidation (run_liquidations)
--   block_number: block
--   timestamp: seconds since 1970
--   account: address of the account that was liquidated
--   asset: address of the asset sold
--   amount: native units; below zero: bought
--   proceeds_asset: address of the asset on the other side
--   market_before: the market price before, base units a whole token in the market's price decimals
--   market_after: after the sale, where it was sold at once
--   brought: of every 10^27 of its worth at the price before, what the sale brings (or the purchase costs)
--   round: rounds of oracles since history's last one that history did not have
--   endogenous: at history's oracle prices the account could not have been liquidated
SELECT run_id, market, ordinal, block_number, timestamp, account, asset, amount, proceeds_asset, market_before, market_after, brought, round, endogenous
FROM results.run_sales
