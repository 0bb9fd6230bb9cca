-- Purpose: a * b / 2^128, rounded down: the upper half of a product of 256 bits, in limbs of 64.
-- Parameters:
--   a: UHUGEINT
--   b: UHUGEINT
-- Result: UHUGEINT.
-- Written out, not by lists of one row as other functions of limbs are: those would be made anew in each step of a lambda.
((a)::UHUGEINT >> 64) * ((b)::UHUGEINT >> 64) + (((a)::UHUGEINT >> 64) * ((b)::UHUGEINT & 18446744073709551615::UHUGEINT) >> 64) + (((a)::UHUGEINT & 18446744073709551615::UHUGEINT) * ((b)::UHUGEINT >> 64) >> 64)
    + (((((a)::UHUGEINT & 18446744073709551615::UHUGEINT) * ((b)::UHUGEINT & 18446744073709551615::UHUGEINT) >> 64) + (((a)::UHUGEINT >> 64) * ((b)::UHUGEINT & 18446744073709551615::UHUGEINT) & 18446744073709551615::UHUGEINT)
        + (((a)::UHUGEINT & 18446744073709551615::UHUGEINT) * ((b)::UHUGEINT >> 64) & 18446744073709551615::UHUGEINT)) >> 64)
