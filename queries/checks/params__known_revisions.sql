-- Purpose: every version of contracts that a market's history names is one that the rules of its protocol cover.
-- Grain: (market, seq).
-- Columns:
--   market: name of the market
--   seq: the event
--   block_number: block from which it is in force
--   revision: version, value of the protocol's revision_parameter (protocol_rules)
SELECT p.market, p.seq, p.block_number, p.value AS revision
FROM params AS p JOIN markets AS m ON m.market = p.market
SEMI JOIN protocol_rules AS named ON named.protocol = m.protocol AND named.revision_parameter = p.name
ANTI JOIN protocol_rules AS known ON known.protocol = m.protocol AND known.revision_parameter = p.name AND known.revision = p.value
