-- Purpose: the versions of each protocol's contracts that its SQL and its exact rules cover.
-- Grain: (protocol, revision).
-- Columns:
--   protocol: name of the protocol
--   revision_parameter: the parameter that says which version is in force
--   revision: value of that parameter
FROM protocols.rules
