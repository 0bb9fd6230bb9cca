-- Purpose: every hit, miss and false alarm of a model held against history, with its cause.
-- Grain: (run_id, mode, number).
-- Columns:
--   run_id: the validation
--   market: name of the market
--   mode: one-step or free
--   number: place within the mode, by time
--   account: address of the borrower
--   outcome: hit, miss (nothing predicted) or false alarm (nothing happened)
--   cause: why, where it can be told
--   detail: what tells it
--   throughout: the alarm stands at every price within the range that is stated for the oracle's
--   whole: history took the whole account
--   largest: one of the accounts from which most collateral was seized
--   predicted_from: first alarm, seconds since 1970
--   predicted_to: last alarm, seconds since 1970
--   predicted_rows: alarms, or liquidations of the replay
--   predicted_debt_base: one-step: all that the account owed; free: what was repaid; base-currency units
--   actual_from: first liquidation, seconds since 1970
--   actual_to: last liquidation, seconds since 1970
--   actual_rows: liquidations
--   actual_debt_base: debt repaid, base-currency units
--   actual_repaid: native units of the debt asset, exact
--   actual_seized: native units of the collateral asset, the protocol fee included, exact
--   held_collateral: native units right before, as rebuilt
--   held_debt: native units right before, as rebuilt
--   health: health factor, wad (1e18), at the first alarm, or right before a missed liquidation
--   time_error: seconds from the first alarm to the first liquidation
--   amount_error: predicted debt over repaid, less one
SELECT run_id, market, mode, number, account, outcome, cause, detail, throughout, whole, largest, predicted_from, predicted_to, predicted_rows,
    predicted_debt_base, actual_from, actual_to, actual_rows, actual_debt_base, actual_repaid, actual_seized, held_collateral, held_debt, health,
    time_error, amount_error
FROM results.validation_episodes
