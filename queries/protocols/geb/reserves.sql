-- Purpose: collateral and coin of GEB collateral types at the end of some blocks: price, ratio, penalty and accumulator, which time alone does not move.
-- Grain: (market, block_number, asset_id): 0 is the collateral, 1 the coin owed.
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
--   revision: liquidation_system in force (protocol_rules)
--   price: base-currency units per whole token, rounded down to the unit; null where the oracle would revert or nothing is known
--   price_exact: false where the price is not known at this position
--   liquidation_threshold_wad: share of its value as collateral that debt may reach, wad (1e18 = one), HUGEINT, outside categories
--   liquidation_bonus_wad: what a liquidation gives for one unit of debt, wad (1.05e18 = 5 % bonus), HUGEINT, outside categories
--   supply_index: native units that share_unit scaled units of collateral stand for, ray (1e27), with interest to the block's time, HUGEINT
--   borrow_index: the same of debt
--   supply_excess: supply_index less one, DOUBLE (so that indexes near one keep their digits)
--   borrow_excess: borrow_index less one, DOUBLE
--   ray: the price with all its digits, ray, HUGEINT
--   par: the redemption price that the collateral's price was last divided by, ray, HUGEINT
--   rate: coins owed per unit of normalised debt, ray (SAFEEngine accumulatedRate), HUGEINT
--   spot: coins that one unit of collateral may carry, ray (SAFEEngine liquidationPrice), HUGEINT; null where a price or the ratio is not known
WITH settled AS (
    SELECT p.market, c.block_number, coalesce(arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_system'), 31) AS revision,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_ratio')::HUGEINT AS ratio,
        arg_max(p.value, p.seq) FILTER (p.name = 'liquidation_penalty')::HUGEINT AS penalty
    FROM params AS p JOIN (SELECT DISTINCT unnest(blocks::BIGINT[]) AS block_number) AS c ON p.block_number <= c.block_number
    WHERE p.name IN ('liquidation_system', 'liquidation_ratio', 'liquidation_penalty') GROUP BY p.market, c.block_number
), listed AS (
    -- Prices are rays: base units and nine digits below them.
    SELECT r.*, p.revision, p.ratio, p.penalty, coalesce(i.borrow_index::HUGEINT, 1000000000000000000000000000) AS rate, r.price::HUGEINT * 1000000000 + r.price_rest AS ray,
        max(ray) FILTER (r.asset_id = 0) OVER (PARTITION BY r.market, r.block_number) AS value,
        max(ray) FILTER (r.asset_id = 1) OVER (PARTITION BY r.market, r.block_number) AS par
    FROM assets_at('geb', blocks) AS r
    LEFT JOIN settled AS p ON p.market = r.market AND p.block_number = r.block_number
    ASOF LEFT JOIN (SELECT * FROM index_steps WHERE asset_id = 1) AS i ON i.market = r.market AND r.block_number >= i.block_number
), fed AS (
    -- rdiv(rdiv(value, par), ratio): each division by whole parts and the rest.
    SELECT *, value // par * 1000000000000000000000000000 + mul_div_down(value % par, 1000000000000000000000000000, par) AS feed FROM listed
)
SELECT market, block_number, timestamp, asset_id, symbol, unit, 1::HUGEINT AS share_unit, revision, price, price_exact,
    CASE WHEN asset_id = 0 THEN mul_div_down(1000000000000000000, 1000000000000000000000000000, ratio) ELSE 0::HUGEINT END AS liquidation_threshold_wad,
    CASE WHEN asset_id = 0 THEN penalty ELSE 0::HUGEINT END AS liquidation_bonus_wad, 1000000000000000000000000000::HUGEINT AS supply_index,
    CASE WHEN asset_id = 1 THEN rate ELSE 1000000000000000000000000000::HUGEINT END AS borrow_index, 0::DOUBLE AS supply_excess,
    (borrow_index - 1000000000000000000000000000)::DOUBLE / 1e27 AS borrow_excess, ray, par, rate,
    feed // ratio * 1000000000000000000000000000 + mul_div_down(feed % ratio, 1000000000000000000000000000, ratio) AS spot
FROM fed
