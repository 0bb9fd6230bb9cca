-- Purpose: a * b / d, rounded down, exact, for factors and divisors that are longer than mul_div_down takes.
-- Parameters:
--   a: HUGEINT from 0 to 2^110
--   b: HUGEINT from 0 to 2^120
--   d: HUGEINT from 2^70 to 2^120
-- Result: HUGEINT; null where it would be 2^119 or more, or an argument is null or out of range.
-- A quotient in DOUBLE, twice one of what it leaves, and which neighbour it is.
[end_of.q - (end_of.rest.high < 0)::HUGEINT + (end_of.rest.high > 0 OR end_of.rest.high = 0 AND end_of.rest.low >= end_of.d)::HUGEINT FOR end_of IN
    [{'q': third.q, 'd': third.d, 'rest': wide_rest(third.a, third.b, third.q, third.d)} FOR third IN
        [{'a': second.a, 'b': second.b, 'd': second.d, 'q': CASE WHEN second.q IS NOT NULL THEN greatest(0, second.q + floor((second.rest.high::DOUBLE * 1329227995784915872903807060280344576.0
            + second.rest.low::DOUBLE) / second.d::DOUBLE)::HUGEINT)::HUGEINT END} FOR second IN
            [{'a': given.a, 'b': given.b, 'd': given.d, 'q': given.q, 'rest': wide_rest(given.a, given.b, given.q, given.d)} FOR given IN
                [{'a': first.a, 'b': first.b, 'd': first.d, 'q': CASE WHEN first.q IS NOT NULL THEN greatest(0, first.q + floor((first.rest.high::DOUBLE * 1329227995784915872903807060280344576.0
                    + first.rest.low::DOUBLE) / first.d::DOUBLE)::HUGEINT)::HUGEINT END} FOR first IN
                    [{'a': y.a, 'b': y.b, 'd': y.d, 'q': y.q, 'rest': wide_rest(y.a, y.b, y.q, y.d)} FOR y IN
                        [{'a': v.a, 'b': v.b, 'd': v.d, 'q': CASE WHEN v.a < 1298074214633706907132624082305024 AND v.b < 1329227995784915872903807060280344576
                            AND v.d BETWEEN 1180591620717411303424 AND 1329227995784915872903807060280344575 AND v.a::DOUBLE * (v.b::DOUBLE / v.d::DOUBLE) < 6e35
                            THEN floor(v.a::DOUBLE * (v.b::DOUBLE / v.d::DOUBLE))::HUGEINT END} FOR v IN [{'a': a::HUGEINT, 'b': b::HUGEINT, 'd': d::HUGEINT}]]
                    ]
                ]
            ]
        ]
    ]
][1]
