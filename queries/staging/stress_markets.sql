-- Purpose: what each market of a stress of several came to on a path, together with the others and alone.
-- Grain: (stress_id, ordinal, path, of_market).
-- Columns:
--   stress_id: the stress
--   market: the first of the markets, under which the stress is stored
--   ordinal: the case
--   path: number of the path in its case, from 0
--   place: place among the markets, from 0
--   of_market: the market that the row is of
--   liquidations: number of liquidations, together
--   alone_liquidations: the same, alone
--   repaid_base: debt liquidated, base units of the first market, together
--   alone_repaid_base: the same, alone
--   added_bad_debt_base: bad debt beyond what comes to pass where no price moves, together
--   alone_added_bad_debt_base: the same, alone
--   contagion_base: what the others do to it: the bad debt that it adds together less that which it adds alone
SELECT p.stress_id, p.market, p.ordinal, p.path, p.place, p.of_market, p.liquidations, p.alone_liquidations, p.repaid_base, p.alone_repaid_base,
    (p.bad_debt_base - m.still_bad_debt_base)::DECIMAL(38, 0) AS added_bad_debt_base,
    (p.alone_bad_debt_base - m.alone_still_bad_debt_base)::DECIMAL(38, 0) AS alone_added_bad_debt_base,
    (added_bad_debt_base - alone_added_bad_debt_base)::DECIMAL(38, 0) AS contagion_base
FROM results.stress_markets AS p JOIN results.stress_members AS m USING (stress_id, of_market)
