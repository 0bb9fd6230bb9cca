-- Purpose: a model held against the liquidations that happened: episodes matched, rates with 95 % intervals, errors.
-- Grain: (run_id, mode, alarms, accounts).
-- Columns:
--   run_id: the validation
--   market: name of the market
--   name: name of the scenario
--   scenario: canonical JSON, defaults omitted
--   seed: of the bootstrap
--   rules_version: of the canonical tables
--   engine_version: of the replay
--   lake_digest: content of the raw data
--   from_block: first block that counts
--   to_block: last block that counts
--   mode: one-step (asked at every price update in history's own book) or free (a replay from the first block on)
--   alarms: all, or throughout: those that stand at every price within the range that is stated for the oracle's; what only others predicted is missed
--   accounts: all, or without the largest
--   left_out: the accounts left out, JSON list
--   questions: one-step: price updates at which the model was asked; free: events replayed
--   accepted: borrows, withdrawals and liquidations that the chain accepted and that the stated range of prices was held against; null where oracle prices are known
--   accepted_beyond: of accepted: refused by the rules at every price within the range, so that they refute it
--   actual: episodes that happened
--   predicted: episodes that the model predicted
--   hits: of both, matched one to one
--   explained: misses and false alarms with a cause
--   actual_debt_base: debt repaid in what happened, base-currency units
--   predicted_debt_base: debt of what was predicted (one-step: all that the account owed), base-currency units
--   hit_actual_debt_base: of actual_debt_base: matched
--   hit_predicted_debt_base: of predicted_debt_base: matched
--   recall: hits over actual
--   recall_low: lower end of its interval
--   recall_high: upper end of its interval
--   precision: hits over predicted
--   precision_low: lower end of its interval
--   precision_high: upper end of its interval
--   recall_by_debt: matched debt over debt that happened
--   recall_by_debt_low: lower end of its interval
--   recall_by_debt_high: upper end of its interval
--   precision_by_debt: matched debt over predicted debt
--   precision_by_debt_low: lower end of its interval
--   precision_by_debt_high: upper end of its interval
--   whole_episodes: episodes that took the whole account, of which the rebuilt balances are compared
--   collateral_error_least: rebuilt collateral over seized, less one, absolute: least
--   collateral_error_median: rebuilt collateral over seized, less one, absolute: median
--   collateral_error_p95: rebuilt collateral over seized, less one, absolute: 95th percentile
--   collateral_error_largest: rebuilt collateral over seized, less one, absolute: largest
--   debt_error_least: rebuilt debt over repaid, less one, absolute: least
--   debt_error_median: rebuilt debt over repaid, less one, absolute: median
--   debt_error_p95: rebuilt debt over repaid, less one, absolute: 95th percentile
--   debt_error_largest: rebuilt debt over repaid, less one, absolute: largest
--   time_error_least: seconds from the first alarm to the first liquidation; negative: late: least
--   time_error_median: seconds from the first alarm to the first liquidation; negative: late: median
--   time_error_p95: seconds from the first alarm to the first liquidation; negative: late: 95th percentile
--   time_error_largest: seconds from the first alarm to the first liquidation; negative: late: largest
--   amount_error_least: predicted debt over repaid, less one, absolute: least
--   amount_error_median: predicted debt over repaid, less one, absolute: median
--   amount_error_p95: predicted debt over repaid, less one, absolute: 95th percentile
--   amount_error_largest: predicted debt over repaid, less one, absolute: largest
--   notes: what the figures rest on, JSON list
SELECT run_id, market, name, scenario, seed, rules_version, engine_version, lake_digest, from_block, to_block, mode, alarms, accounts, left_out,
    questions, accepted, accepted_beyond, actual, predicted, hits, explained, actual_debt_base, predicted_debt_base, hit_actual_debt_base, hit_predicted_debt_base, recall,
    recall_low, recall_high, precision, precision_low, precision_high, recall_by_debt, recall_by_debt_low, recall_by_debt_high, precision_by_debt,
    precision_by_debt_low, precision_by_debt_high, whole_episodes, collateral_error_least, collateral_error_median, collateral_error_p95,
    collateral_error_largest, debt_error_least, debt_error_median, debt_error_p95, debt_error_largest, time_error_least, time_error_median,
    time_error_p95, time_error_largest, amount_error_least, amount_error_median, amount_error_p95, amount_error_largest, notes
FROM results.validations
