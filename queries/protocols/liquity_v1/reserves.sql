-- Purpose: ether and LUSD of Liquity V1 systems at the end of some blocks, with what all troves share.
-- Grain: (market, block_number, asset_id): 0 is ether, 1 is LUSD.
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
--   revision: version of the contract
--   price: base-currency units per whole token, exact to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, one over the least ratio, wad (1e18 = one), HUGEINT
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad: null, the caller gets a fixed reward
--   supply_index: one in ray (1e27), HUGEINT: a trove bears no interest
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE
--   borrow_excess: borrow_index less one, DOUBLE
--   least_ratio_wad: the least collateral ratio of a trove (MCR), wad, HUGEINT
--   critical_ratio_wad: the ratio of the whole system below which it is in recovery mode (CCR), wad, HUGEINT
--   gas_share_wad: the caller's part of a liquidated collateral, wad, HUGEINT
--   coll_sum: ether that a unit staked was given by redistributions since the start (L_ETH), wad, HUGEINT
--   debt_sum: the same of debt (L_LUSDDebt)
--   product: what liquidations left of a unit deposited, within its scale and epoch (P), wad, HUGEINT
--   scale: how often the product was scaled up (currentScale), HUGEINT
--   epoch: how often the stability pool was emptied (currentEpoch), HUGEINT
WITH settled AS (
    SELECT p.market, c.block_number, arg_max(p.value, p.seq) FILTER (p.name = 'liquity_revision') AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_ratio')::HUGEINT AS least,
        arg_max(p.value, p.seq) FILTER (p.name = 'critical_ratio')::HUGEINT AS critical,
        arg_max(p.value, p.seq) FILTER (p.name = 'gas_share')::HUGEINT AS gas_share,
        arg_max(p.value, p.seq) FILTER (p.name = 'coll_sum')::HUGEINT AS coll_sum,
        arg_max(p.value, p.seq) FILTER (p.name = 'debt_sum')::HUGEINT AS debt_sum,
        arg_max(p.value, p.seq) FILTER (p.name = 'product')::HUGEINT AS product,
        arg_max(p.value, p.seq) FILTER (p.name = 'scale')::HUGEINT AS scale,
        arg_max(p.value, p.seq) FILTER (p.name = 'epoch')::HUGEINT AS epoch
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.asset_id IS NULL AND p.name IN ('liquity_revision', 'liquidation_ratio', 'critical_ratio', 'gas_share', 'coll_sum', 'debt_sum', 'product', 'scale', 'epoch')
    GROUP BY p.market, c.block_number
)
SELECT r.market, r.block_number, r.timestamp, r.asset_id, r.symbol, r.unit, 1::HUGEINT AS share_unit, s.revision, r.price, r.price_exact,
    CASE WHEN r.asset_id = 0 THEN mul_div_down(1000000000000000000::HUGEINT, 1000000000000000000, s.least) ELSE 0::HUGEINT END AS liquidation_threshold_wad,
    NULL::HUGEINT AS liquidation_bonus_wad, 1000000000000000000000000000::HUGEINT AS supply_index, 1000000000000000000000000000::HUGEINT AS borrow_index,
    0::DOUBLE AS supply_excess, 0::DOUBLE AS borrow_excess, s.least AS least_ratio_wad, s.critical AS critical_ratio_wad, s.gas_share AS gas_share_wad,
    coalesce(s.coll_sum, 0)::HUGEINT AS coll_sum, coalesce(s.debt_sum, 0)::HUGEINT AS debt_sum, coalesce(s.product, 1000000000000000000)::HUGEINT AS product,
    coalesce(s.scale, 0)::HUGEINT AS scale, coalesce(s.epoch, 0)::HUGEINT AS epoch
FROM assets_at('liquity-v1', blocks) AS r LEFT JOIN settled AS s ON s.market = r.market AND s.block_number = r.block_number
