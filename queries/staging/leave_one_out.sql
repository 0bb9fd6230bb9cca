-- Purpose: a joint replay without one of its markets, owners or assets' impacts: what that comes to in each market that is there.
-- Grain: (joint_id, kind, left_out, of_market).
-- Columns:
--   joint_id: the joint replay
--   market: the first of its markets, under which this is stored
--   kind: what is left out: market and owner: nobody liquidates its accounts, and they are not counted; asset: its sales do not move its price
--   left_out: the market's name, the owner's address or the asset
--   place: its place among those of its kind, from 0: markets and assets as they were named, owners by debt
--   debt_base: of an owner, the most debt at one of some moments of the window, base units of the first market; null for other kinds
--   of_market: the market that the figures are of, in its own base units, at the end of the window
--   liquidations: without it
--   repaid_base: debt repaid
--   seized_base: collateral to liquidators
--   protocol_fee_base: collateral to the protocol
--   realised_bad_debt_base: debt written off
--   open_bad_debt_base: debt beyond the collateral of its account
--   joint_liquidations: the same of the same accounts in the joint replay
--   joint_repaid_base: debt repaid there
--   joint_seized_base: collateral to liquidators there
--   joint_protocol_fee_base: collateral to the protocol there
--   joint_realised_bad_debt_base: debt written off there
--   joint_open_bad_debt_base: debt beyond the collateral of its account there
--   drawn: whether chance decides anything, so that another seed may come to another difference
SELECT joint_id, market, kind, left_out, place, debt_base, of_market, liquidations, repaid_base, seized_base, protocol_fee_base, realised_bad_debt_base, open_bad_debt_base,
    joint_liquidations, joint_repaid_base, joint_seized_base, joint_protocol_fee_base, joint_realised_bad_debt_base, joint_open_bad_debt_base, drawn
FROM results.leave_one_out
