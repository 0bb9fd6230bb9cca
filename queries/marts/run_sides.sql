-- Purpose: both sides of the mitigations of stored replays, each against the run of the same scenario without them: bad debt avoided and brought about by delay, borrowers spared and hurt, borrowing power given up.
-- Grain: run_id; runs with mitigations, at the end of their window.
-- Columns:
--   run_id: the replay
--   name: name of the scenario
--   market: name of the market
--   without_id: the run of the same data, versions and scenario without its mitigations; null where none is stored: then nothing below is known
--   mitigations: their kinds, in the scenario's order
--   bad_debt_avoided_base: bad debt (written off and open) of accounts that have less of it here, base-currency units
--   bad_debt_from_delay_base: the same of accounts that have more of it here
--   spared_accounts: accounts that were liquidated without the mitigations and are not here
--   hurt_accounts: accounts that are liquidated here and were not without them
--   spared_base: what accounts liquidated in either are worth more here, in the market and by what they took out of it, base-currency units; null where an account has no price
--   hurt_base: what others of them are worth less
--   borrowing_power_given_up_base: what all accounts may owe at the end of the window, less than without them (negative: more), base-currency units
--   actions_refused: users' actions that mitigations refused
--   liquidators_profit_base: what liquidators made after stated costs, more than without them (negative: less)
--   paid_base: written-off debt that funds paid
--   shared_base: written-off debt that suppliers shared
-- An account that isolated margin parted is one account again here: what follows a # in its parts' names is left out.
WITH mitigated AS (
    SELECT *, json_merge_patch(scenario::JSON, '{"mitigation": null}'::JSON)::VARCHAR AS plain FROM runs
    WHERE terms IS NOT NULL AND json_array_length(scenario::JSON, '$.mitigation') > 0
), plain AS (
    SELECT market, lake_digest, rules_version, engine_version, json_merge_patch(scenario::JSON, '{"mitigation": null}'::JSON)::VARCHAR AS plain, min(run_id) AS without_id
    FROM runs WHERE terms IS NOT NULL AND coalesce(json_array_length(scenario::JSON, '$.mitigation'), 0) = 0 GROUP BY ALL
), pairs AS (
    SELECT m.run_id, m.name, m.market, m.scenario, p.without_id
    FROM mitigated AS m LEFT JOIN plain AS p USING (market, lake_digest, rules_version, engine_version, plain)
), each_account AS (
    SELECT run_id, split_part(account, '#', 1) AS account, sum(realised_bad_debt_base + coalesce(open_bad_debt_base, 0)) AS bad, sum(liquidations) AS liquidations, sum(profit_base) AS profit
    FROM run_accounts GROUP BY ALL
), worth AS (
    SELECT run_id, split_part(account, '#', 1) AS account, sum(equity_base + coalesce(outside_base, 0)) AS worth FROM run_equity WHERE label = 'end' GROUP BY ALL
), concerned AS (
    SELECT DISTINCT p.run_id, p.without_id, a.account FROM pairs AS p JOIN each_account AS a ON a.run_id IN (p.run_id, p.without_id) WHERE p.without_id IS NOT NULL
), compared AS (
    SELECT c.run_id, coalesce(here.bad, 0) - coalesce(there.bad, 0) AS bad, coalesce(here.liquidations, 0) AS now, coalesce(there.liquidations, 0) AS before,
        coalesce(here.profit, 0) - coalesce(there.profit, 0) AS profit, coalesce(w.worth, 0) - coalesce(v.worth, 0) AS worth
    FROM concerned AS c LEFT JOIN each_account AS here ON here.run_id = c.run_id AND here.account = c.account
    LEFT JOIN each_account AS there ON there.run_id = c.without_id AND there.account = c.account
    LEFT JOIN worth AS w ON w.run_id = c.run_id AND w.account = c.account LEFT JOIN worth AS v ON v.run_id = c.without_id AND v.account = c.account
), sides AS (
    SELECT run_id, sum(greatest(-bad, 0)) AS avoided, sum(greatest(bad, 0)) AS delayed, count(*) FILTER (before > 0 AND now = 0) AS spared, count(*) FILTER (now > 0 AND before = 0) AS hurt,
        sum(greatest(worth, 0)) FILTER (now > 0 OR before > 0) AS spared_base, sum(greatest(-worth, 0)) FILTER (now > 0 OR before > 0) AS hurt_base, sum(profit) AS profit
    FROM compared GROUP BY run_id
), did AS (
    SELECT run_id, sum(value_base) FILTER (effect = 'paid') AS paid, sum(value_base) FILTER (effect = 'shared') AS shared FROM run_mitigations GROUP BY run_id
), refused AS (
    SELECT run_id, sum(actions) AS actions FROM run_actions WHERE reason LIKE 'withheld by a mitigation%' OR reason = 'beyond what its owner risks' GROUP BY run_id
)
SELECT p.run_id, p.name, p.market, p.without_id, array_to_string(json_extract_string(p.scenario::JSON, '$.mitigation[*].kind'), ', ') AS mitigations,
    CASE WHEN v.run_id IS NOT NULL THEN coalesce(s.avoided, 0) END::DECIMAL(38, 0) AS bad_debt_avoided_base,
    CASE WHEN v.run_id IS NOT NULL THEN coalesce(s.delayed, 0) END::DECIMAL(38, 0) AS bad_debt_from_delay_base,
    CASE WHEN v.run_id IS NOT NULL THEN coalesce(s.spared, 0) END AS spared_accounts, CASE WHEN v.run_id IS NOT NULL THEN coalesce(s.hurt, 0) END AS hurt_accounts,
    CASE WHEN w.accounts_unpriced = 0 AND v.accounts_unpriced = 0 THEN coalesce(s.spared_base, 0) END::DECIMAL(38, 0) AS spared_base,
    CASE WHEN w.accounts_unpriced = 0 AND v.accounts_unpriced = 0 THEN coalesce(s.hurt_base, 0) END::DECIMAL(38, 0) AS hurt_base,
    (v.borrowing_power_base - w.borrowing_power_base)::DECIMAL(38, 0) AS borrowing_power_given_up_base, coalesce(r.actions, 0)::BIGINT AS actions_refused,
    CASE WHEN v.run_id IS NOT NULL THEN coalesce(s.profit, 0) END::DECIMAL(38, 0) AS liquidators_profit_base, coalesce(d.paid, 0)::DECIMAL(38, 0) AS paid_base, coalesce(d.shared, 0)::DECIMAL(38, 0) AS shared_base
FROM pairs AS p JOIN run_windows AS w ON w.run_id = p.run_id AND w.label = 'end' LEFT JOIN run_windows AS v ON v.run_id = p.without_id AND v.label = 'end'
LEFT JOIN sides AS s ON s.run_id = p.run_id LEFT JOIN did AS d ON d.run_id = p.run_id LEFT JOIN refused AS r ON r.run_id = p.run_id
