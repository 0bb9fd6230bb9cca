-- Purpose: a rate at target after some time, within its bounds (AdaptiveCurveIrm _newRateAtTarget, ExpLib wExp).
-- Parameters:
--   start: the rate at target before, wad a second, HUGEINT
--   x: speed times error times seconds, signed wad, HUGEINT, at most 20e18 (from where on the upper bound holds)
--   twos: how often x holds ln(2), to nearest, INTEGER
-- Result: HUGEINT, wad a second.
CASE WHEN x < -41446531673892822312 THEN 31709791::HUGEINT
    ELSE greatest(31709791, least(63419583967, start * (
        CASE WHEN twos >= 0 THEN (1000000000000000000 + (x - twos * 693147180559945309::HUGEINT)
                + (x - twos * 693147180559945309::HUGEINT) * (x - twos * 693147180559945309::HUGEINT) // 1000000000000000000 // 2) << twos
            ELSE (1000000000000000000 + (x - twos * 693147180559945309::HUGEINT)
                + (x - twos * 693147180559945309::HUGEINT) * (x - twos * 693147180559945309::HUGEINT) // 1000000000000000000 // 2) >> -twos END
    ) // 1000000000000000000)) END
