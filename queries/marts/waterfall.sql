-- Purpose: where the bonus of all liquidations of each stored replay goes; sources and uses have the same sum, exactly.
-- Grain: (run_id, part).
-- Columns:
--   run_id: the replay
--   place: 1 to 13, from the bonus to the rent
--   part: bonus, basis, reward; protocol_fee, slippage, sandwich, gas, funding, private, bid, protocol_share, oracle_share, rent (see run_waterfalls)
--   side: source (the first three) or use
--   amount_base: sum over liquidations, base-currency units
--   percent_of_bonus: percent of the sum of bonuses, DOUBLE; null where that is not above zero
WITH summed AS (
    UNPIVOT (
        SELECT run_id, sum(bonus_base)::DECIMAL(38, 0) AS bonus, sum(basis_base)::DECIMAL(38, 0) AS basis, sum(reward_base)::DECIMAL(38, 0) AS reward,
            sum(protocol_fee_base)::DECIMAL(38, 0) AS protocol_fee, sum(slippage_base)::DECIMAL(38, 0) AS slippage,
            sum(sandwich_base)::DECIMAL(38, 0) AS sandwich, sum(gas_base)::DECIMAL(38, 0) AS gas, sum(funding_base)::DECIMAL(38, 0) AS funding,
            sum(private_base)::DECIMAL(38, 0) AS private, sum(bid_base)::DECIMAL(38, 0) AS bid, sum(protocol_share_base)::DECIMAL(38, 0) AS protocol_share,
            sum(oracle_share_base)::DECIMAL(38, 0) AS oracle_share, sum(rent_base)::DECIMAL(38, 0) AS rent
        FROM run_waterfalls GROUP BY run_id
    ) ON bonus, basis, reward, protocol_fee, slippage, sandwich, gas, funding, private, bid, protocol_share, oracle_share, rent
    INTO NAME part VALUE amount
), placed AS (
    SELECT *, list_position(['bonus', 'basis', 'reward', 'protocol_fee', 'slippage', 'sandwich', 'gas', 'funding', 'private', 'bid', 'protocol_share',
        'oracle_share', 'rent'], part) AS place, max(amount) FILTER (part = 'bonus') OVER (PARTITION BY run_id) AS bonus
    FROM summed
)
SELECT run_id, place, part, CASE WHEN place <= 3 THEN 'source' ELSE 'use' END AS side, amount AS amount_base,
    CASE WHEN bonus > 0 THEN 100 * amount::DOUBLE / bonus::DOUBLE END AS percent_of_bonus
FROM placed
