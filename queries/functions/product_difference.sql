-- Purpose: a * b - c * d, exact, where the products need more than the 127 bits of HUGEINT and their difference does not.
-- Parameters:
--   a: HUGEINT from 0 to 2^110
--   b: HUGEINT from 0 to 2^110
--   c: HUGEINT from 0 to 2^110
--   d: HUGEINT from 0 to 2^110
-- Result: HUGEINT; within 2^125.
(((a >> 55) * (b >> 55) - (c >> 55) * (d >> 55)) * 36028797018963968 + (a >> 55) * (b & 36028797018963967) + (a & 36028797018963967) * (b >> 55)
    - (c >> 55) * (d & 36028797018963967) - (c & 36028797018963967) * (d >> 55)) * 36028797018963968 + (a & 36028797018963967) * (b & 36028797018963967) - (c & 36028797018963967) * (d & 36028797018963967)
