-- Purpose: how often a rest that is off by at most one divisor contains it: what near_quotient lacks.
-- Parameters:
--   rest: HUGEINT, above -divisor and below 2 divisor
--   divisor: HUGEINT, positive
-- Result: HUGEINT: -1, 0 or 1.
(rest >= divisor)::HUGEINT - (rest < 0)::HUGEINT
