-- Purpose: every deficit that was created belongs to a liquidation of the same account.
-- Grain: (market, seq).
-- Columns:
--   market: name of the market
--   seq: the event
--   account_id: account
--   liquidation_seq: the liquidation that it names
SELECT d.market, d.seq, d.account_id, d.liquidation_seq
FROM deficits AS d
LEFT JOIN canonical.liquidations AS l ON l.market = d.market AND l.seq = d.liquidation_seq AND l.account_id = d.account_id
WHERE d.kind = 'created' AND l.seq IS NULL
