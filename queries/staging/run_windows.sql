-- Purpose: the outcome of stored replays as it stands at the end of their window, and 1 hour, 1 day and 7 days later where the data allow.
-- Grain: (run_id, label).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   label: end, +1h, +1d or +7d
--   block_number: last block of the window
--   timestamp: seconds since 1970, of the moment
--   liquidations: number of liquidations since the first block
--   deficits: number of debts written off since the first block
--   repaid_base: base-currency units at the oracle price of each liquidation
--   seized_base: base-currency units at the oracle price of each liquidation, what liquidators got
--   protocol_fee_base: base-currency units at the oracle price of each liquidation
--   realised_bad_debt_base: debt written off, base-currency units at the oracle price then
--   open_bad_debt_base: debt beyond the collateral of its account at the moment, base-currency units
--   peak_bad_debt_base: the most that both were together, base-currency units
--   peak_block: block of the peak
--   peak_timestamp: seconds since 1970, of the peak
--   collateral_base: collateral of all accounts, base-currency units
--   debt_base: debt of all accounts, base-currency units
--   borrowing_power_base: the most that all accounts together may owe (collateral times loan-to-value), base-currency units; null in runs of older versions
--   liquidatable_debt_base: debt of accounts with a health below one, base-currency units
--   accounts_liquidatable: number of accounts with a health below one
--   accounts_unpriced: accounts left out of the totals and of run_equity, because they use an asset without a price
SELECT run_id, market, label, block_number, timestamp, liquidations, deficits, repaid_base, seized_base, protocol_fee_base, realised_bad_debt_base,
    open_bad_debt_base, peak_bad_debt_base, peak_block, peak_timestamp, collateral_base, debt_base, borrowing_power_base, liquidatable_debt_base, accounts_liquidatable,
    accounts_unpriced
FROM results.run_windows
