-- Purpose: accounts of owners who have some in several markets of a joint replay, whenever in it they came.
-- Grain: (joint_id, of_market, account); owners without debt at any moment, of whom nothing was liquidated either, are left out.
-- Columns:
--   joint_id: the joint replay
--   market: the first of its markets, under which this is stored
--   of_market: the market that the account is in
--   account: address
--   owner: whose it is: its address, or what the protocol tells
--   since: when its balance first changed, in history, seconds
SELECT joint_id, market, of_market, account, owner, since FROM results.joint_accounts
