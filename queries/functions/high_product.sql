-- Purpose: a * b / 2^128, rounded down: the upper half of a product of 256 bits, in limbs of 64.
-- Parameters:
--   a: UHUGEINT
--   b: UHUGEINT
-- Result: UHUGEINT.
((a) >> 64) * ((b) >> 64) + (((a) >> 64) * ((b) & 18446744073709551615::UHUGEINT) >> 64) + (((a) & 18446744073709551615::UHUGEINT) * ((b) >> 64) >> 64)
    + (((((a) & 18446744073709551615::UHUGEINT) * ((b) & 18446744073709551615::UHUGEINT)) >> 64) + ((((a) >> 64) * ((b) & 18446744073709551615::UHUGEINT)) & 18446744073709551615::UHUGEINT)
        + ((((a) & 18446744073709551615::UHUGEINT) * ((b) >> 64)) & 18446744073709551615::UHUGEINT) >> 64)
