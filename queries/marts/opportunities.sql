-- Purpose: every opportunity of stored replays: when it was first seen, how it ended, after how long, and who took it at what bid.
-- Grain: (run_id, opportunity).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   opportunity: number of the opportunity within the replay
--   account: address of the borrower
--   debt_asset: address of the asset that the best offer repays, in the end
--   collateral_asset: address of the asset that it seizes, in the end
--   first_block: block in which it was first seen
--   first_timestamp: seconds since 1970, of the same
--   ended_block: block in which it was taken or expired; null where it was still open at the end of the window
--   ended_timestamp: seconds since 1970, of the same
--   blocks: from first seen until it ended, or until the end of the window
--   seconds: from first seen until it ended, or until the end of the window
--   looks: how often somebody looked
--   first_repaid_base: debt that the best offer repays, at the first look, base-currency units at the oracle price
--   repaid_base: the same in the end, base-currency units at the oracle price
--   first_profit_base: what that offer leaves after costs and before bids, at the first look, base-currency units
--   profit_base: the same in the end, base-currency units
--   ending: taken, expired, or missed: still open at the end of the window
--   reason: expired: owner acted, price back, or withheld by a mitigation; missed: why nobody had taken it by then; taken: empty
--   missed: why it was not taken at the last look before it ended; null where it was taken at the first
--   ordinal: the liquidation that took it (run_liquidations); null where none did
--   taken_by: name of the searcher, or address of the liquidator where nobody bid; null where it was not taken
--   rivals: number of others who bid; null where nobody bid
--   bid_base: the winner's bid, base-currency units; null where nobody bid
--   rent_base: what the liquidation left its liquidator after costs and bid, base-currency units; null where it was not taken
WITH each AS (
    SELECT run_id, market, opportunity, arg_min(account, spell) AS account, arg_max(debt_asset, spell) AS debt_asset,
        arg_max(collateral_asset, spell) AS collateral_asset, arg_min(from_block, spell) AS first_block, arg_min(from_timestamp, spell) AS first_timestamp,
        arg_max(to_block, spell) AS last_block, arg_max(to_timestamp, spell) AS last_timestamp, sum(looks)::BIGINT AS looks,
        arg_min(repaid_base, spell) AS first_repaid_base, arg_max(repaid_base, spell) AS repaid_base, arg_min(profit_base, spell) AS first_profit_base,
        arg_max(profit_base, spell) AS profit_base, arg_max(ending, spell) AS ending, arg_max(reason, spell) AS reason,
        arg_max(reason, spell) FILTER (ending = 'missed') AS missed, max(ordinal) AS ordinal
    FROM run_opportunities GROUP BY run_id, market, opportunity
)
SELECT e.run_id, e.market, e.opportunity, e.account, e.debt_asset, e.collateral_asset, e.first_block, e.first_timestamp,
    CASE WHEN e.ending <> 'missed' THEN e.last_block END AS ended_block, CASE WHEN e.ending <> 'missed' THEN e.last_timestamp END AS ended_timestamp,
    CASE WHEN e.ending <> 'missed' THEN e.last_block ELSE r.to_block END - e.first_block AS blocks,
    CASE WHEN e.ending <> 'missed' THEN e.last_timestamp ELSE r.to_timestamp END - e.first_timestamp AS seconds, e.looks, e.first_repaid_base,
    e.repaid_base, e.first_profit_base, e.profit_base, e.ending, e.reason, e.missed, e.ordinal, coalesce(c.winner, l.liquidator) AS taken_by, c.rivals,
    c.bid_base, w.rent_base
FROM each AS e JOIN runs AS r ON r.run_id = e.run_id LEFT JOIN run_contests AS c ON c.run_id = e.run_id AND c.ordinal = e.ordinal
LEFT JOIN results.run_liquidations AS l ON l.run_id = e.run_id AND l.ordinal = e.ordinal
LEFT JOIN run_waterfalls AS w ON w.run_id = e.run_id AND w.ordinal = e.ordinal
