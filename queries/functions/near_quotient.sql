-- Purpose: a / b, rounded down but for what DOUBLE gets wrong: within one for quotients below 2^50.
-- Parameters:
--   a: HUGEINT, may be negative
--   b: HUGEINT, positive
-- Result: HUGEINT.
floor(a::DOUBLE / b::DOUBLE)::HUGEINT
