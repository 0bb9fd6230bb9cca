-- Purpose: what each path of a stress came to.
-- Grain: (stress_id, ordinal, path).
-- Columns:
--   stress_id: the stress
--   market: name of the market
--   ordinal: the case
--   path: number of the path in its case, from 0
--   liquidations: number of liquidations
--   deficits: number of debts written off
--   repaid_base: debt liquidated, at oracle prices, base-currency units
--   seized_base: collateral that liquidators got, base-currency units
--   protocol_fee_base: what the protocol took of it, base-currency units
--   bad_debt_base: debt written off, and debt beyond collateral at the end, base-currency units
--   added_bad_debt_base: the same, beyond what comes to pass where no price moves, base-currency units
--   realised_bad_debt_base: debt written off, base-currency units
--   open_bad_debt_base: debt beyond collateral at the end, base-currency units
--   peak_bad_debt_base: the most that both were on the way, base-currency units
--   liquidatable_debt_base: debt of accounts that may still be liquidated at the end, base-currency units
--   debt_base: all debt at the end, base-currency units
--   borrowing_power_base: of all accounts at the end, base-currency units
--   lowest_asset: the asset that fell most
--   lowest_price: how low, basis points of its beginning
--   gas_most: the highest that gas was, basis points of the moment's
--   depth_least: the least depth, basis points of the moment's
--   error: why the path failed; then all amounts are null
SELECT p.stress_id, p.market, p.ordinal, p.path, p.liquidations, p.deficits, p.repaid_base, p.seized_base, p.protocol_fee_base, p.bad_debt_base,
    p.bad_debt_base - s.still_bad_debt_base AS added_bad_debt_base, p.realised_bad_debt_base, p.open_bad_debt_base, p.peak_bad_debt_base,
    p.liquidatable_debt_base, p.debt_base, p.borrowing_power_base, p.lowest_asset, p.lowest_price, p.gas_most, p.depth_least, p.error
FROM results.stress_paths AS p JOIN results.stresses AS s USING (stress_id)
