-- Purpose: users' actions that stored replays did not make as in history, counted.
-- Grain: (run_id, action, outcome, reason, unfunded).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   action: borrow, withdraw, repay, supply, transfer, ...
--   outcome: skipped or shrunk (refused by the rules), cut (to what was there), changed (users respond, or the action empties a balance that differs)
--   reason: the contract's error in words; empty where nothing was refused
--   unfunded: whether these are accounts that history's liquidations paid, which the replay leaves out
--   actions: number of actions
--   value_base: what was not made or, where changed, by how much it differs; base-currency units at oracle prices
SELECT run_id, market, action, outcome, reason, unfunded, actions, value_base
FROM results.run_actions
