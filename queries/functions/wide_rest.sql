-- Purpose: a * b - q * d, exact: what a quotient leaves of a product, in limbs of 60 bits.
-- Parameters:
--   a: HUGEINT from 0 to 2^110
--   b: HUGEINT from 0 to 2^120
--   q: HUGEINT from 0 to 2^121
--   d: HUGEINT from 0 to 2^120
-- Result: STRUCT(high HUGEINT, low HUGEINT): high * 2^120 + low, low from 0 to 2^120; below zero exactly where high is.
-- What may be negative is shifted by a power of two first, which is taken off again.
[{'high': mid.c2 + ((mid.c1 + 42535295865117307932921825928971026432) >> 60) - 36893488147419103232,
    'low': (((mid.c1 + 42535295865117307932921825928971026432) & 1152921504606846975) << 60) + mid.c0} FOR mid IN
    [{'c2': raw.c2, 'c1': raw.c1 + ((raw.c0 + 2658455991569831745807614120560689152) >> 60) - 2305843009213693952,
        'c0': (raw.c0 + 2658455991569831745807614120560689152) & 1152921504606846975} FOR raw IN
        [{'c2': x.a1 * x.b1 - x.q1 * x.d1, 'c1': x.a1 * x.b0 + x.a0 * x.b1 - x.q1 * x.d0 - x.q0 * x.d1, 'c0': x.a0 * x.b0 - x.q0 * x.d0} FOR x IN
            [{'a1': w.a >> 60, 'a0': w.a & 1152921504606846975, 'b1': w.b >> 60, 'b0': w.b & 1152921504606846975, 'q1': w.q >> 60, 'q0': w.q & 1152921504606846975,
                'd1': w.d >> 60, 'd0': w.d & 1152921504606846975} FOR w IN [{'a': a::HUGEINT, 'b': b::HUGEINT, 'q': q::HUGEINT, 'd': d::HUGEINT}]]
        ]
    ]
][1]
