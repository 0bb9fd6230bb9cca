-- Purpose: how much of each total of a stored replay the largest one and five accounts make up.
-- Grain: (run_id, measure).
-- Columns:
--   run_id: the replay
--   measure: repaid, seized, protocol_fee, borrower_loss, profit or bad_debt (realised plus open at the end)
--   accounts: number of accounts that have some of it
--   total_base: base-currency units
--   largest_base: that of the account with most, base-currency units
--   largest_five_base: that of the five accounts with most, base-currency units
--   share_largest: its share of the total, or where some accounts lose, of all that others gain: 0 to 1, DOUBLE; null where nothing is above zero
--   share_largest_five: the same of the five accounts; losses among them count as nothing
WITH each AS (
    UNPIVOT (
        SELECT run_id, account, repaid_base AS repaid, seized_base AS seized, protocol_fee_base AS protocol_fee, borrower_loss_base AS borrower_loss,
            profit_base AS profit, (realised_bad_debt_base + coalesce(open_bad_debt_base, 0))::DECIMAL(38, 0) AS bad_debt
        FROM run_accounts
    ) ON repaid, seized, protocol_fee, borrower_loss, profit, bad_debt INTO NAME measure VALUE amount
), ranked AS (
    SELECT run_id, measure, amount, row_number() OVER (PARTITION BY run_id, measure ORDER BY amount DESC, account) AS place FROM each
), summed AS (
    SELECT run_id, measure, count(*) FILTER (amount <> 0) AS accounts, sum(amount)::DECIMAL(38, 0) AS total,
        sum(amount) FILTER (place = 1)::DECIMAL(38, 0) AS largest, sum(amount) FILTER (place <= 5)::DECIMAL(38, 0) AS largest_five,
        sum(greatest(amount, 0))::DOUBLE AS gained, sum(greatest(amount, 0)) FILTER (place <= 5)::DOUBLE AS gained_five
    FROM ranked GROUP BY run_id, measure
)
SELECT run_id, measure, accounts, total AS total_base, largest AS largest_base, largest_five AS largest_five_base,
    CASE WHEN gained > 0 THEN greatest(largest, 0)::DOUBLE / gained END AS share_largest,
    CASE WHEN gained > 0 THEN gained_five / gained END AS share_largest_five
FROM summed
