"""A book of the rules (``AaveState``) read from a deployed market by calls alone, without any event: for comparing
rules with bytecode.
"""

from __future__ import annotations

from collections.abc import Sequence

from backtest.model import AccountId, Asset, AssetId, Market
from backtest.protocols.aave_v3.rules import rules_for
from backtest.protocols.aave_v3.state import AaveState, Account, Category, open_state
from tests.chain.deployment import Deployment, ReadAt


def read_book(market: Deployment, accounts: Sequence[str], block: ReadAt = "latest") -> AaveState:
    """Reserves, e-modes and these accounts (ids in this order; the treasury must be one of them) at the end of
    ``block``.
    """
    symbols = list(market.reserves)
    assets = tuple(
        Asset(AssetId(i), market.reserves[s].asset.address.lower(), s, market.reserves[s].decimals)
        for i, s in enumerate(symbols)
    )
    names = tuple(account.lower() for account in accounts)
    state = open_state(
        Market(name="chain", protocol="aave-v3", chain_id=market.node.chain_id, assets=assets, accounts=names)
    )
    state.revision = rules_for(market.pool.call("POOL_REVISION", block=block), market.node.block_number)
    treasury = names.index(market.treasury.lower())
    for i, symbol in enumerate(symbols):
        chain, reserve = market.reserves[symbol], state.reserves[i]
        (config,), *numbers = market.pool.call("getReserveData", chain.asset.address, block=block)
        (
            reserve.supply_index,
            reserve.supply_rate,
            reserve.borrow_index,
            reserve.borrow_rate,
            _,
            reserve.updated,
            reserve.reserve_id,
        ) = numbers[:7]
        for name, low, width in (
            ("ltv", 0, 16),
            ("liquidation_threshold", 16, 16),
            ("liquidation_bonus", 32, 16),
            ("active", 56, 1),
            ("paused", 60, 1),
            ("liquidation_protocol_fee", 152, 16),
            ("emode_category", 168, 8 if market.version == "3.0" else 0),
            ("debt_ceiling", 212, 40),
        ):
            setattr(reserve, name, config >> low & (1 << width) - 1)
        reserve.treasury = treasury
        reserve.scaled_supply = chain.a_token.call("scaledTotalSupply", block=block)
        reserve.scaled_debt = chain.debt_token.call("scaledTotalSupply", block=block)
        reserve.liquidity = chain.asset.call("balanceOf", chain.a_token.address, block=block)
        if market.version != "3.0":
            reserve.deficit = market.pool.call("getReserveDeficit", chain.asset.address, block=block)
            reserve.grace_until = market.pool.call("getLiquidationGracePeriod", chain.asset.address, block=block)
    for category in (1, 2, 3):
        state.categories[category] = _category(market, category, block)
    rows = zip(
        market.scaled_balances(accounts, block),
        market.user_configuration(accounts, block),
        market.user_emode(accounts, block),
        strict=True,
    )
    for id, (balances, flags, emode) in enumerate(rows):
        state.accounts[AccountId(id)] = Account(
            collateral={AssetId(i): balance for i, balance in enumerate(balances[: len(symbols)]) if balance},
            debt={AssetId(i): balance for i, balance in enumerate(balances[len(symbols) :]) if balance},
            enabled={AssetId(i) for i in range(len(symbols)) if flags >> 2 * i + 1 & 1},
            emode=emode,
        )
    return state


def _category(market: Deployment, category: int, block: ReadAt) -> Category:
    if market.version == "3.0":
        return Category(*market.pool.call("getEModeCategoryData", category, block=block)[0:3])
    ltv, threshold, bonus = market.pool.call("getEModeCategoryCollateralConfig", category, block=block)
    members = [
        market.pool.call(f"getEModeCategory{name}Bitmap", category, block=block) for name in ("Collateral", "Ltvzero")
    ]
    collateral, ltvzero = ({AssetId(i) for i in range(128) if bits >> i & 1} for bits in members)
    return Category(ltv, threshold, bonus, collateral=collateral, ltvzero=ltvzero)
