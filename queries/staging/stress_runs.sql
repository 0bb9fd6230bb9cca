-- Purpose: what suppliers who leave on a path of a stress ask back and get, and how much of what is supplied is lent out, step by step.
-- Grain: (stress_id, ordinal, path, of_market, asset, step); assets that a suppliers-exit of the case names, at most twelve of its steps and the last of the path.
-- Columns:
--   stress_id: the stress
--   market: name of the market; of several the first, under which the stress is stored
--   ordinal: the case
--   path: number of the path in its case, from 0
--   of_market: the market that the asset is of
--   asset: label of the asset
--   step: step of the path, from 1; figures are those of its end, from the path's beginning on, without interest of the path
--   asked: native units that suppliers asked back
--   paid: native units of it that were paid
--   supplied: native units that are still supplied
--   lent: native units that are still owed
--   withheld: part of what was asked that was not paid, DOUBLE; null: nothing was asked yet
--   utilisation: lent over supplied, DOUBLE; null: nothing is supplied
SELECT stress_id, market, ordinal, path, of_market, asset, step, asked, paid, supplied, lent, CASE WHEN asked > 0 THEN 1 - paid::DOUBLE / asked::DOUBLE END AS withheld,
    CASE WHEN supplied > 0 THEN lent::DOUBLE / supplied::DOUBLE END AS utilisation
FROM results.stress_runs
