-- Purpose: collateral and BOLD of branches of Liquity V2 at the end of some blocks, with what all troves share.
-- Grain: (market, block_number, asset_id): 0 is the collateral, 1 is BOLD.
-- Parameters:
--   blocks: list of block numbers
-- Columns:
--   market: name of the market
--   block_number: block
--   timestamp: seconds since 1970, of the block; null where the lake does not have its header
--   asset_id: asset
--   symbol: symbol of the asset
--   unit: native units of one whole token, HUGEINT
--   share_unit: scaled units that stand for one native unit where the index is one, HUGEINT
--   revision: version of the contract; null where the sums of a liquidation are not in the lake, whose tables were made before they were kept
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, one over the least ratio, wad (1e18 = one), HUGEINT
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad: null, the caller gets a part of the collateral and a fixed reward
--   supply_index: one in ray (1e27), HUGEINT: every trove has its own rate
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE
--   borrow_excess: borrow_index less one, DOUBLE
--   least_ratio_wad: the least collateral ratio of a trove (MCR), wad, HUGEINT
--   coll_sum: collateral that a unit staked was given by redistributions since the start (L_coll), wad, HUGEINT
--   debt_sum: the same of debt (L_boldDebt)
--   product: what liquidations left of a unit deposited, within its scale (P), 10^36 is one, HUGEINT
--   scale: how often the product was scaled up (currentScale), HUGEINT
--   interest_until: seconds since 1970 up to which interest is due: the block's, or that of the shutdown (TroveManager _getInterestPeriod)
WITH ours AS (
    SELECT market FROM markets WHERE protocol = 'liquity-v2'
), settled AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'liquity_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_ratio')::HUGEINT AS least, arg_max(p.value, p.seq) FILTER (p.name = 'coll_sum')::HUGEINT AS coll_sum,
        arg_max(p.value, p.seq) FILTER (p.name = 'debt_sum')::HUGEINT AS debt_sum, arg_max(p.value, p.seq) FILTER (p.name = 'product')::HUGEINT AS product,
        arg_max(p.value, p.seq) FILTER (p.name = 'scale')::HUGEINT AS scale, max(p.block_number) FILTER (p.name = 'stakes_then') AS kept
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    SEMI JOIN ours ON ours.market = p.market
    WHERE p.name IN ('liquity_revision', 'liquidation_ratio', 'coll_sum', 'debt_sum', 'stakes_then', 'product', 'scale')
    GROUP BY p.market, c.block_number
), liquidated AS (
    SELECT DISTINCT market, block_number, block_number AS last FROM canonical.liquidations SEMI JOIN ours USING (market)
), ended AS (
    SELECT market, block_number, max(value)::BIGINT AS shutdown FROM setting_steps SEMI JOIN ours USING (market) WHERE setting = 'shutdown' GROUP BY market, block_number
)
SELECT r.market, r.block_number, r.timestamp, r.asset_id, r.symbol, r.unit, 1::HUGEINT AS share_unit, CASE WHEN l.last IS NULL OR s.kept >= l.last THEN s.revision END AS revision,
    r.price, r.price_exact,
    CASE WHEN r.asset_id = 0 THEN mul_div_down(1000000000000000000::HUGEINT, 1000000000000000000, s.least) ELSE 0::HUGEINT END AS liquidation_threshold_wad,
    NULL::HUGEINT AS liquidation_bonus_wad, 1000000000000000000000000000::HUGEINT AS supply_index, 1000000000000000000000000000::HUGEINT AS borrow_index,
    0::DOUBLE AS supply_excess, 0::DOUBLE AS borrow_excess, s.least AS least_ratio_wad, coalesce(s.coll_sum, 0)::HUGEINT AS coll_sum,
    coalesce(s.debt_sum, 0)::HUGEINT AS debt_sum, coalesce(s.product, 1000000000000000000000000000000000000)::HUGEINT AS product, coalesce(s.scale, 0)::HUGEINT AS scale,
    CASE WHEN r.timestamp IS NULL THEN NULL WHEN e.shutdown > 0 THEN least(r.timestamp, e.shutdown) ELSE r.timestamp END AS interest_until
FROM assets_at('liquity-v2', blocks) AS r LEFT JOIN settled AS s ON s.market = r.market AND s.block_number = r.block_number
ASOF LEFT JOIN liquidated AS l ON l.market = r.market AND r.block_number >= l.block_number
ASOF LEFT JOIN ended AS e ON e.market = r.market AND r.block_number >= e.block_number
