-- Purpose: base units of native units of a token (ISiloOracle quote), cut once.
-- Parameters:
--   amount: HUGEINT from 0 to 2^110
--   price_full: the price with the digits that it has below a base unit, HUGEINT
--   unit_full: native units times price_full are this many times their value in base units, HUGEINT
-- Result: HUGEINT; null where it would be 2^109 or more, or an argument is null or out of range.
CASE WHEN amount = 0 THEN 0::HUGEINT WHEN unit_full < 10000000000000000000000000000000000 THEN mul_div_down(amount, price_full, unit_full)
    ELSE wide_mul_div_down(amount, price_full, unit_full) END
