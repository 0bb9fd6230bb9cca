-- Purpose: losses of stored replays at the end of their window and later: bad debt, and what liquidations took from borrowers.
-- Grain: (run_id, label).
-- Columns:
--   run_id: the replay
--   name: name of the scenario
--   market: name of the market
--   kind: history, baseline or alternative; null in runs of older versions
--   label: end, +1h, +1d or +7d
--   timestamp: seconds since 1970, of the moment
--   realised_bad_debt_base: debt written off, base-currency units at the oracle price then
--   open_bad_debt_base: debt beyond the collateral of its account at the moment, base-currency units
--   bad_debt_base: both together, base-currency units
--   peak_bad_debt_base: the most that both were together, base-currency units
--   borrower_loss_base: seized plus protocol fee minus repaid at the oracle price of each liquidation (bonus plus fee), base-currency units
--   equity_difference_base: what the accounts liquidated by the end of the window in the run or in its baseline are worth, in the market and by what they took out of it, less the same in the baseline, base-currency units; null without a baseline, or without a price
-- An account without a row in run_equity holds nothing, unless it has no price: then the difference is not known.
WITH pairs AS (
    SELECT run_id, kind, baseline_id FROM run_pairs
), concerned AS (
    SELECT DISTINCT p.run_id, p.baseline_id, h.account
    FROM pairs AS p JOIN run_liquidations AS h ON h.run_id = p.run_id OR h.run_id = p.baseline_id WHERE p.baseline_id IS NOT NULL
), compared AS (
    SELECT c.run_id, w.label, sum(coalesce(here.equity_base + coalesce(here.outside_base, 0), 0) - coalesce(there.equity_base + coalesce(there.outside_base, 0), 0)) AS difference
    FROM concerned AS c JOIN run_windows AS w ON w.run_id = c.run_id JOIN run_windows AS v ON v.run_id = c.baseline_id AND v.label = w.label
    LEFT JOIN run_equity AS here ON here.run_id = c.run_id AND here.label = w.label AND here.account = c.account
    LEFT JOIN run_equity AS there ON there.run_id = c.baseline_id AND there.label = w.label AND there.account = c.account
    WHERE w.accounts_unpriced = 0 AND v.accounts_unpriced = 0 GROUP BY c.run_id, w.label
), known AS (
    SELECT w.run_id, w.label FROM run_windows AS w JOIN pairs AS p ON p.run_id = w.run_id JOIN run_windows AS v ON v.run_id = p.baseline_id AND v.label = w.label
    WHERE w.accounts_unpriced = 0 AND v.accounts_unpriced = 0
)
SELECT r.run_id, r.name, r.market, p.kind, w.label, w.timestamp, w.realised_bad_debt_base, w.open_bad_debt_base,
    (w.realised_bad_debt_base + w.open_bad_debt_base)::DECIMAL(38, 0) AS bad_debt_base, w.peak_bad_debt_base,
    (w.seized_base + w.protocol_fee_base - w.repaid_base)::DECIMAL(38, 0) AS borrower_loss_base,
    CASE WHEN k.run_id IS NOT NULL THEN coalesce(c.difference, 0) END::DECIMAL(38, 0) AS equity_difference_base
FROM run_windows AS w JOIN runs AS r ON r.run_id = w.run_id LEFT JOIN pairs AS p ON p.run_id = w.run_id
LEFT JOIN known AS k ON k.run_id = w.run_id AND k.label = w.label LEFT JOIN compared AS c ON c.run_id = w.run_id AND c.label = w.label
