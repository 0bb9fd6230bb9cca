-- Purpose: the books of stresses under their scenarios' parameters, before any path.
-- Grain: stress_id.
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   borrowing_power_base: what all accounts may owe where they borrow, base-currency units
--   changes: what the scenario changes, in words; empty: nothing
--   draws: the same for stresses whose paths have the same prices: same market, book, cases, seed, numbers of paths and versions
SELECT stress_id, market, borrowing_power_base, changes, draws FROM results.stress_books
