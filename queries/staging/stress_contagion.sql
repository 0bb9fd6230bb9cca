-- Purpose: who loses by whose fall, of a stress of several markets: one asset falls alone in the exact books of the moment (docs/several-markets.md).
-- Grain: (stress_id, fallen, fall, of_market).
-- Columns:
--   stress_id: the stress
--   market: the first of the markets, under which the stress is stored
--   fallen: label of the asset that falls
--   fall: of its price, basis points
--   place: place among the markets, from 0
--   of_market: the market that loses
--   loss_base: bad debt that the fall adds there, all markets together, base units of the first
--   alone_loss_base: the same, alone
--   contagion_base: what the other markets do to it
SELECT stress_id, market, fallen, fall, place, of_market, loss_base, alone_loss_base, (loss_base - alone_loss_base)::DECIMAL(38, 0) AS contagion_base
FROM results.stress_contagion
