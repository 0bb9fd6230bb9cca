-- Purpose: growth of debt of Aave V2 (MathUtils calculateCompoundedInterest): three terms of the binomial series, of the rate per second rounded down.
-- Parameters:
--   per_second: rate a second, rounded down, ray
--   seconds: since the last update
--   power_two: per_second times itself, to nearest
--   power_three: power_two times per_second, to nearest
-- Result: HUGEINT, ray.
1000000000000000000000000000 + per_second * seconds + seconds * greatest(seconds - 1, 0) * power_two // 2
    + seconds * greatest(seconds - 1, 0) * greatest(seconds - 2, 0) * power_three // 6
