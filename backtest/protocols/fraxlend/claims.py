"""What the contract is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.fraxlend.events import PAIR_ROLE
from backtest.protocols.fraxlend.state import COLLATERAL, LENT

_WHOLE: tuple[tuple[str, AssetId, str, str, int], ...] = (
    ("fTokens", LENT, "collateral", "totalAsset()", 1),
    ("borrow shares", LENT, "debt", "totalBorrow()", 1),
    ("collateral", COLLATERAL, "collateral", "totalCollateral()", 0),
)
_EACH: tuple[tuple[str, AssetId, str, str], ...] = (
    ("fTokens", LENT, "collateral", "balanceOf(address)"),
    ("borrow shares", LENT, "debt", "userBorrowShares(address)"),
    ("collateral", COLLATERAL, "collateral", "userCollateralBalance(address)"),
)


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """All shares and all collateral of the pair, and each account's (fraxlend ``FraxlendPairCore.sol``: ``totalAsset``,
    ``totalBorrow``, ``totalCollateral``, ``userBorrowShares``, ``userCollateralBalance``).
    """
    pair, rows = config.contracts[PAIR_ROLE], changes(tables)
    own = of_accounts(rows, list(accounts))
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        for what, asset, side, call, place in _WHOLE:
            value = whole.get((asset, side), 0)
            yield Claim(f"all {what} of the pair", block, pair, call, value, (), place)
        for account, name in accounts.items():
            for what, asset, side, call in _EACH:
                value = each.get((account, asset, side), 0)
                yield Claim(f"{what} of {name}", block, pair, call, value, (int(name, 16),))
