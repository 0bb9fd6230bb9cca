-- Purpose: whether a rate at full use is still too low after it decayed: what its dividend has left (VariableInterestRate getFullUtilizationInterest).
-- The dividend past * life and the divisor life + short^2 * seconds, with life = half_life * 1e36, need 256 bits; this is their rest for one quotient.
-- Parameters:
--   quotient: a rate at full use that may be the quotient, HUGEINT from 0 to 2^49
--   past: the rate at full use before, HUGEINT from 0 to 2^48
--   half_life: seconds, HUGEINT from 1 to 2^60
--   short: how far utilisation is below its target, wad, HUGEINT
--   seconds: since then, HUGEINT from 0 to 2^33
-- Result: HUGEINT: (past * life - quotient * (life + short^2 * seconds)) / 1e18, rounded down: below zero exactly where the quotient is too high.
[product_difference(cut.kept, 1000000000000000000, cut.whole, cut.short) - (product_difference(cut.grown, cut.short, cut.whole, 1000000000000000000) * cut.short
    + 999999999999999999) // 1000000000000000000 FOR cut IN
    [{'kept': given.kept, 'grown': given.grown, 'short': given.short, 'whole': mul_div_down(given.grown, given.short, 1000000000000000000)} FOR given IN
        [{'kept': greatest(past - quotient, 0)::HUGEINT * half_life, 'grown': quotient::HUGEINT * seconds, 'short': short::HUGEINT}]
    ]
][1]
