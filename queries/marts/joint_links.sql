-- Purpose: owners with accounts in several markets of a joint replay, also those who come within it: what they owe and lose in each, together and alone.
-- Grain: (joint_id, owner, of_market).
-- Columns:
--   joint_id: the joint replay
--   owner: whose the accounts are: see joint_accounts
--   of_market: the market that the figures are of
--   currency: what amounts are counted in, base units: the first market's base currency
--   decimals: its decimals
--   accounts: the owner's there
--   since: when the first of them came, in history, seconds
--   linked_at: when the owner had accounts in a second market, seconds
--   later: whether that was within the window: the start knows nothing of the link
--   start_debt_base: debt there right before the window's first block; null where the window begins with the history
--   most_debt_base: the most at one of the moments
--   end_debt_base: at the window's end
--   liquidations: in the joint replay
--   alone_liquidations: in the market's replay alone
--   repaid_base: debt repaid in liquidations, together, rounded up
--   alone_repaid_base: the same, alone
--   borrowers_loss_base: seized plus protocol fee minus repaid, together
--   alone_borrowers_loss_base: the same, alone
--   bad_debt_base: debt written off, and beyond the account's collateral at the window's end, together, rounded up
--   alone_bad_debt_base: the same, alone
WITH here AS (
    SELECT joint_id, owner, of_market, count(*) AS accounts, min(since) AS since FROM joint_accounts GROUP BY ALL
), linked AS (
    SELECT joint_id, owner, list_sort(list(since))[2] AS linked_at FROM here GROUP BY ALL
), moments AS (
    SELECT joint_id, min(step) AS first_step, max(step) AS last_step FROM joint_network GROUP BY ALL
), owed AS (
    SELECT d.joint_id, d.owner, d.of_market, max(d.debt_base) AS most, max(d.debt_base) FILTER (d.step = 0) AS at_start, max(d.debt_base) FILTER (d.step = m.last_step) AS at_end
    FROM joint_debts AS d JOIN moments AS m USING (joint_id) GROUP BY ALL
), runs_of AS (
    SELECT j.joint_id, j.market AS of_market, j.run_id, true AS joint FROM joints AS j
    UNION ALL SELECT joint_id, market, alone_id, false FROM joints WHERE alone_id IS NOT NULL
), parts AS (
    SELECT r.joint_id, r.of_market, r.joint, h.account, 1 AS hits, h.repaid_base AS repaid, h.seized_base + h.protocol_fee_base AS taken, 0 AS bad
    FROM runs_of AS r JOIN runs AS u USING (run_id) JOIN run_liquidations AS h ON h.run_id = r.run_id AND h.block_number >= u.from_block
    UNION ALL SELECT r.joint_id, r.of_market, r.joint, d.account, 0, 0, 0, d.amount_base
    FROM runs_of AS r JOIN runs AS u USING (run_id) JOIN run_deficits AS d ON d.run_id = r.run_id AND d.block_number >= u.from_block
    UNION ALL SELECT r.joint_id, r.of_market, r.joint, e.account, 0, 0, 0, -e.equity_base
    FROM runs_of AS r JOIN run_equity AS e ON e.run_id = r.run_id AND e.label = 'end' AND e.equity_base < 0
), sums AS (
    SELECT a.joint_id, a.owner, a.of_market, p.joint, sum(p.hits)::BIGINT AS hits, sum(p.repaid)::HUGEINT AS repaid, sum(p.taken)::HUGEINT AS taken, sum(p.bad)::HUGEINT AS bad
    FROM joint_accounts AS a JOIN parts AS p ON p.joint_id = a.joint_id AND p.of_market = a.of_market AND p.account = a.account GROUP BY ALL
), both_of AS (
    SELECT h.*, l.linked_at, j.currency, j.decimals, u.from_timestamp, m.first_step, j.worth_numerator::HUGEINT AS up, j.worth_denominator::HUGEINT AS down,
        j.alone_id IS NOT NULL AND EXISTS (FROM runs AS x WHERE x.run_id = j.alone_id) AS has_alone,
        coalesce(t.hits, 0) AS hits, coalesce(t.repaid, 0) AS repaid, coalesce(t.taken, 0) AS taken, coalesce(t.bad, 0) AS bad,
        coalesce(o.hits, 0) AS alone_hits, coalesce(o.repaid, 0) AS alone_repaid, coalesce(o.taken, 0) AS alone_taken, coalesce(o.bad, 0) AS alone_bad
    FROM here AS h JOIN linked AS l USING (joint_id, owner) JOIN moments AS m USING (joint_id)
    JOIN joints AS j ON j.joint_id = h.joint_id AND j.market = h.of_market JOIN runs AS u ON u.run_id = j.run_id
    LEFT JOIN sums AS t ON t.joint_id = h.joint_id AND t.owner = h.owner AND t.of_market = h.of_market AND t.joint
    LEFT JOIN sums AS o ON o.joint_id = h.joint_id AND o.owner = h.owner AND o.of_market = h.of_market AND NOT o.joint
)
SELECT b.joint_id, b.owner, b.of_market, b.currency, b.decimals, b.accounts, b.since, b.linked_at, b.linked_at >= b.from_timestamp AS later,
    CASE WHEN b.first_step = 0 THEN coalesce(d.at_start, 0) END::DECIMAL(38, 0) AS start_debt_base, coalesce(d.most, 0)::DECIMAL(38, 0) AS most_debt_base,
    coalesce(d.at_end, 0)::DECIMAL(38, 0) AS end_debt_base, b.hits AS liquidations, CASE WHEN b.has_alone THEN b.alone_hits END AS alone_liquidations,
    mul_div_up(b.repaid, b.up, b.down)::DECIMAL(38, 0) AS repaid_base, CASE WHEN b.has_alone THEN mul_div_up(b.alone_repaid, b.up, b.down) END::DECIMAL(38, 0) AS alone_repaid_base,
    (mul_div_up(b.taken, b.up, b.down) - mul_div_up(b.repaid, b.up, b.down))::DECIMAL(38, 0) AS borrowers_loss_base,
    CASE WHEN b.has_alone THEN mul_div_up(b.alone_taken, b.up, b.down) - mul_div_up(b.alone_repaid, b.up, b.down) END::DECIMAL(38, 0) AS alone_borrowers_loss_base,
    mul_div_up(b.bad, b.up, b.down)::DECIMAL(38, 0) AS bad_debt_base, CASE WHEN b.has_alone THEN mul_div_up(b.alone_bad, b.up, b.down) END::DECIMAL(38, 0) AS alone_bad_debt_base
FROM both_of AS b LEFT JOIN owed AS d ON d.joint_id = b.joint_id AND d.owner = b.owner AND d.of_market = b.of_market
