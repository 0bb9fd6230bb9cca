-- Purpose: a * b / 1e27 to nearest, halves up: see ray_mul_add_down.
-- Parameters:
--   a: HUGEINT, ray
--   b: HUGEINT, ray
-- Result: HUGEINT, ray.
ray_mul_add_down(a, b, 500000000000000000000000000)
