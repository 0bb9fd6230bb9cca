-- Purpose: what each mitigation of stored replays did: liquidations it withheld or made smaller, users it refused, who paid for what was written off.
-- Grain: (run_id, ordinal).
-- Columns:
--   run_id: the replay
--   market: name of the market
--   ordinal: place among the run's rows
--   place: which mitigation of the scenario it is, from 0
--   kind: its kind
--   effect: withheld, made smaller or bonus cut (liquidations), tripped or moved (prices, parameters), acted, refused or parted (accounts), paid, shared or unpaid (debt that was written off)
--   detail: the fund, the asset, or the reason of a refusal
--   number: how many accounts, times or debts
--   value_base: their debt, of each account the most at one look; what a smaller bonus left with borrowers; what was paid; base-currency units
SELECT run_id, market, ordinal, place, kind, effect, detail, number, value_base
FROM results.run_mitigations
