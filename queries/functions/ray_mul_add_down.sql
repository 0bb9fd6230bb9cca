-- Purpose: (a * b + added) / 1e27, rounded down, exact: rays, for a few rows (quicker to plan than mul_add_div_down, slower to run).
-- Parameters:
--   a: HUGEINT from 0 to 5e30
--   b: HUGEINT from 0 to 4.9e27
--   added: HUGEINT from 0 to 1e27
-- Result: HUGEINT; null where an argument is null or out of range.
-- Long division, 34 bits of a at a time.
CASE WHEN a < 5000000000000000000000000000000 AND b < 4900000000000000000000000000 THEN
    ((a >> 68) * b // 1000000000000000000000000000 << 68)
    + ((((a >> 68) * b % 1000000000000000000000000000 << 34) + (a >> 34 & 17179869183) * b) // 1000000000000000000000000000 << 34)
    + (((((a >> 68) * b % 1000000000000000000000000000 << 34) + (a >> 34 & 17179869183) * b) % 1000000000000000000000000000 << 34) + (a & 17179869183) * b + added)
        // 1000000000000000000000000000
END
