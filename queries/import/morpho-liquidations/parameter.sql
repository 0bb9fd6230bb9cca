-- The liquidation incentive factor of each market, wad: min(1.15, 1 / (1 - 0.3 (1 - lltv))), both quotients cut
-- (morpho-org/morpho-blue v1.0.0, src/Morpho.sol, liquidate; backtest/protocols/morpho_blue/math.py, incentive_factor).
WITH read AS (
    SELECT *, CASE WHEN regexp_full_match(lltv, '[0-9]{1,18}') THEN CAST(lltv AS HUGEINT) END AS threshold FROM markets
)
SELECT source_row, 'liquidation_bonus' AS name, lower(id) || ':collateral' AS asset,
    CAST(least(1150000000000000000::HUGEINT, 1000000000000000000000000000000000000::HUGEINT
        // (1000000000000000000::HUGEINT - 300000000000000000::HUGEINT * (1000000000000000000::HUGEINT - threshold) // 1000000000000000000::HUGEINT)) AS VARCHAR) AS value,
    block_number AS block, block_timestamp AS timestamp, tx_hash AS transaction_hash, log_index,
    CASE
        WHEN event <> 'CreateMarket' THEN 'event ' || event || ', not CreateMarket'
        WHEN threshold IS NULL THEN 'lltv ' || coalesce(lltv, '') || ' is no threshold in wad'
    END AS problem
FROM read
