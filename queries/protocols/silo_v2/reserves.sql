-- Purpose: both tokens of Silo V2 markets, each lent and as protected collateral, at the end of some blocks, with interest to the block's time.
-- Grain: (market, block_number, asset_id): 0 and 1 are the silos' tokens, 2 and 3 the same as protected collateral.
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   asset_id: asset
--   symbol: symbol of the asset
--   unit: native units of one whole token, HUGEINT
--   share_unit: shares that stand for one native unit where the index is one, HUGEINT
--   revision: version of the rules; null where tables lack what rounding left of interest
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: lt of the token as collateral, wad (1e18 = one), HUGEINT
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad (1.05e18 = 5 % fee), HUGEINT
--   supply_index: native units that share_unit shares of what is lent, or protected, stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt, whose shares are a unit each at first: a thousand then
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   silo: 0 or 1
--   price_full: the price with the digits that it has below a base unit, HUGEINT
--   unit_full: native units times price_full are this many times their value in base units, HUGEINT
--   supplied: native units lent, or protected, with interest, HUGEINT
--   supplied_shares: shares of them, HUGEINT
--   borrowed: native units borrowed, with interest, HUGEINT
--   borrow_shares: shares of them, HUGEINT
--   totals_exact: false where what accrued since the last call is beyond what SQL's integers hold (10^33 units, gains of 10^15 and more): none of it counts then
WITH earned AS (
    -- SiloLendingLib accrueInterestForAsset.
    SELECT *, CASE WHEN rcomp = 0 THEN 0::HUGEINT ELSE mul_div_down(debt, rcomp, 1000000000000000000) END AS interest FROM silo_v2_charged(blocks)
), kept_of AS (
    SELECT *, mul_div_down(interest, fees, 1000000000000000000) AS of_fees, fractions AND rcomp > 0 AND debt > 0 AND debt < 10000000000000 AND lent + interest - of_fees > 0 AS cuts FROM earned
), cut AS (
    -- What rounding left comes to a unit now and then (applyFractions).
    SELECT *, CASE WHEN cuts THEN (interest_left + debt * rcomp % 1000000000000000000) // 1000000000000000000 ELSE 0::HUGEINT END AS one,
        CASE WHEN cuts AND interest + one > 0 THEN (revenue_left + (interest + one) * fees % 1000000000000000000) // 1000000000000000000 ELSE 0::HUGEINT END AS one_of_fees
    FROM kept_of
), accrued AS (
    SELECT * EXCLUDE (lent, debt), of_fees IS NOT NULL AS totals_exact,
        CASE WHEN seconds IS NOT NULL THEN lent + coalesce(interest - of_fees + one - one_of_fees, 0) END AS lent,
        CASE WHEN seconds IS NOT NULL THEN debt + CASE WHEN of_fees IS NOT NULL THEN interest + one ELSE 0 END END AS debt
    FROM cut
), settled AS (
    SELECT p.market, c.block_number, p.asset_id, arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_threshold')::HUGEINT AS lt,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_bonus')::HUGEINT AS bonus
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    SEMI JOIN (SELECT market FROM markets WHERE protocol = 'silo-v2') AS ours ON ours.market = p.market
    WHERE p.name IN ('liquidation_threshold', 'liquidation_bonus') GROUP BY p.market, c.block_number, p.asset_id
), listed AS (
    -- Protected collateral is worth what its token is.
    SELECT own.market, own.block_number, own.timestamp, own.asset_id, own.symbol, own.unit, own.asset_id % 2 AS silo, token.price, token.price_exact,
        token.price::HUGEINT * pow(10, token.price_digits)::HUGEINT + token.price_rest AS price_full, token.unit * pow(10, token.price_digits)::HUGEINT AS unit_full
    FROM assets_at('silo-v2', blocks) AS own JOIN assets_at('silo-v2', blocks) AS token
        ON token.market = own.market AND token.block_number = own.block_number AND token.asset_id = own.asset_id % 2
), whole AS (
    SELECT r.*, a.revision, a.totals_exact, a.debt AS borrowed, a.debt_shares AS borrow_shares, s.lt, s.bonus, CASE WHEN r.asset_id < 2 THEN a.lent ELSE a.kept END AS supplied,
        CASE WHEN r.asset_id < 2 THEN a.lent_shares ELSE a.kept_shares END AS supplied_shares
    FROM listed AS r LEFT JOIN accrued AS a ON a.market = r.market AND a.block_number = r.block_number AND a.silo = r.silo
    LEFT JOIN settled AS s ON s.market = r.market AND s.block_number = r.block_number AND s.asset_id = r.silo
), indexed AS (
    SELECT *, mul_div_down(1000000000000000000000000000000::HUGEINT, CASE WHEN supplied_shares = 0 THEN 0 ELSE supplied END + 1, supplied_shares + 1000) AS supply_index,
        CASE WHEN asset_id >= 2 OR borrowed = 0 OR borrow_shares = 0 THEN 1000000000000000000000000000000::HUGEINT
            ELSE mul_div_down(1000000000000000000000000000000::HUGEINT, borrowed, borrow_shares) END AS borrow_index
    FROM whole
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1000::HUGEINT AS share_unit, revision, price, price_exact, coalesce(lt, 0)::HUGEINT AS liquidation_threshold_wad,
    coalesce(bonus, 0)::HUGEINT AS liquidation_bonus_wad, supply_index, borrow_index, (supply_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS supply_excess,
    (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, silo, price_full, unit_full, supplied, supplied_shares, borrowed, borrow_shares, totals_exact
FROM indexed
