-- Purpose: where the bonus of each liquidation of stored replays goes: bonus + basis + reward is exactly the sum of all other amounts.
-- Grain: (run_id, ordinal): liquidations, and the steps of their auctions.
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: number of the liquidation (run_liquidations), or of the step of its auction (run_auctions)
--   bonus_base: what leaves the account beyond the debt repaid, base-currency units at the oracle price
--   basis_base: what that is worth more at market prices (negative: less), base-currency units
--   reward_base: what the protocol pays for the call, base-currency units
--   protocol_fee_base: the protocol's part of what was seized, base-currency units
--   slippage_base: lost in selling the collateral, base-currency units
--   sandwich_base: taken by who sandwiches that sale, base-currency units
--   gas_base: base fee and priority fee, base-currency units
--   funding_base: fee of the flash loan, base-currency units
--   private_base: costs of that searcher alone, base-currency units
--   bid_base: what block builders, the express lane or the auctioneer get, base-currency units
--   protocol_share_base: the protocol's share of an oracle auction's bid, base-currency units
--   oracle_share_base: the oracle's share of it, base-currency units
--   rent_base: what stays with the searcher (negative: it lost), base-currency units
SELECT run_id, market, ordinal, bonus_base, basis_base, reward_base, protocol_fee_base, slippage_base, sandwich_base, gas_base, funding_base,
    private_base, bid_base, protocol_share_base, oracle_share_base, rent_base
FROM results.run_waterfalls
