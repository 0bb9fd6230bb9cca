-- Purpose: second and third term of the growth of debt to 3.3, and of stable debt (MathUtils calculateCompoundedInterest).
-- Parameters:
--   seconds: since the last update
--   power_two: the rate times itself, to nearest, over the seconds of a year twice, rounded down
--   power_three: power_two times the rate, to nearest, over the seconds of a year, rounded down
-- Result: HUGEINT, ray.
seconds::HUGEINT * greatest(seconds - 1, 0) * power_two // 2 + seconds::HUGEINT * greatest(seconds - 1, 0) * greatest(seconds - 2, 0) * power_three // 6
