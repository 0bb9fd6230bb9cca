-- Purpose: (a * b + added) / d, rounded down, exact whatever a * b needs.
-- Parameters:
--   a: HUGEINT from 0 to 2^110
--   b: HUGEINT from 0 to 2^110
--   added: HUGEINT from 0 to 2^110
--   d: HUGEINT from 1 to 2^113
-- Result: HUGEINT; null where it would be 2^109 or more, or an argument is null or out of range.
-- A quotient in DOUBLE, what it leaves in limbs of 55 bits, a quotient of that, and so on until a whole rest is left.
-- Each list holds one row of what the step before it made, so that nothing is written or computed twice
-- (a query that multiplies what it multiplied before stays short, too).
[rest.quotient + rest.more + whole_over(rest.left - rest.more * rest.d, rest.d) FOR rest IN
    [{'d': near.d, 'quotient': near.quotient, 'left': near.left, 'more': near_quotient(near.left, near.d)} FOR near IN
        [{'d': wide.d, 'quotient': wide.quotient + wide.more,
            'left': (wide.high - wide.more * (wide.d >> 55)) * 36028797018963968 + (wide.low - wide.more * (wide.d & 36028797018963967))} FOR wide IN
            [{'d': carried.d, 'quotient': carried.quotient, 'high': carried.high, 'low': carried.low,
                'more': floor((carried.high::DOUBLE * 36028797018963968.0 + carried.low::DOUBLE) / carried.d::DOUBLE)::HUGEINT} FOR carried IN
                [{'d': limbs.d, 'quotient': limbs.quotient, 'high': limbs.high + (limbs.low >> 55), 'low': limbs.low & 36028797018963967} FOR limbs IN
                    [{'d': x.d, 'quotient': x.q,
                        'high': ((x.a >> 55) * (x.b >> 55) - (x.q >> 55) * (x.d >> 55)) * 36028797018963968 + (x.a >> 55) * (x.b & 36028797018963967)
                            + (x.a & 36028797018963967) * (x.b >> 55) - (x.q >> 55) * (x.d & 36028797018963967) - (x.q & 36028797018963967) * (x.d >> 55) - 144115188075855872,
                        'low': (x.a & 36028797018963967) * (x.b & 36028797018963967) - (x.q & 36028797018963967) * (x.d & 36028797018963967) + x.added + 5192296858534827628530496329220096} FOR x IN
                        [{'a': CASE WHEN y.a < 1298074214633706907132624082305024 THEN y.a END, 'b': CASE WHEN y.b < 1298074214633706907132624082305024 THEN y.b END,
                            'd': CASE WHEN y.d BETWEEN 1 AND 10384593717069655257060992658440192 THEN y.d END, 'added': y.added,
                            'q': CASE WHEN y.d > 0 AND y.a::DOUBLE * y.b::DOUBLE < 6.4e32 * y.d::DOUBLE
                                THEN floor(y.a::DOUBLE * (y.b::DOUBLE / y.d::DOUBLE))::HUGEINT END} FOR y IN
                            [{'a': a::HUGEINT, 'b': b::HUGEINT, 'd': d::HUGEINT, 'added': added::HUGEINT}]
                        ]
                    ]
                ]
            ]
        ]
    ]
][1]
