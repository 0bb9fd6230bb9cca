-- Purpose: half the width of a 95 % interval of a mean, in standard errors: Student's t at 97.5 %.
-- Grain: degrees: degrees of freedom, from 1 to 1000; the last serves for more (0.1 % too wide).
-- Columns:
--   degrees: number of values less one
--   t: the quantile, DOUBLE, within 0.000001
-- From 21 on by the expansion of Abramowitz and Stegun, 26.7.5.
WITH few AS (
    SELECT [12.70620474, 4.30265273, 3.18244631, 2.77644511, 2.57058184, 2.44691185, 2.36462425, 2.30600414, 2.26215716, 2.22813885, 2.20098516,
        2.17881283, 2.16036866, 2.14478669, 2.13144955, 2.11990530, 2.10981558, 2.10092204, 2.09302405, 2.08596345] AS t
), each AS (
    SELECT unnest(range(1, 1001)) AS n, 1.9599639845 AS z
)
SELECT n AS degrees, CASE WHEN n <= 20 THEN few.t[n] ELSE z + (z ** 3 + z) / (4 * n) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * n ** 2)
    + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * n ** 3)
    + (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / (92160 * n ** 4) END::DOUBLE AS t
FROM each, few
