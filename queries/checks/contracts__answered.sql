-- Purpose: every token told its symbol and every implementation its revision: a call that gave nothing is one that the contract does not have, or a node that did not tell.
-- Grain: (market, contract): what was asked and gave nothing.
-- Columns:
--   market: name of the market
--   contract: address that was asked, lower-case 0x
--   asked: symbol or revision
SELECT market, '0x' || lower(hex(address)) AS contract, 'symbol' AS asked
FROM raw.chain_Token
WHERE symbol = '0x' || lower(hex(address))
UNION
SELECT market, '0x' || lower(hex(implementation)), 'revision'
FROM raw.chain_Revision
WHERE revision < 0
