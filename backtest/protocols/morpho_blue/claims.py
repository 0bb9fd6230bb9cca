"""What the contract is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.morpho_blue.events import ID
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN

_POSITION: tuple[tuple[str, AssetId, str], ...] = (
    ("supply shares", LOAN, "collateral"),
    ("borrow shares", LOAN, "debt"),
    ("collateral", COLLATERAL, "collateral"),
)


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Total shares (morpho-blue ``src/interfaces/IMorpho.sol``: ``market(id)``, words 1 and 3), and each account's
    three balances (``position(id, user)``). Collateral has no total there.
    """
    address, market, rows = config.contracts["morpho"], int(config.parameters[ID], 16), changes(tables)
    own = of_accounts(rows, list(accounts))
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        for what, side, place in (("supply", "collateral", 1), ("borrow", "debt", 3)):
            total = whole.get((LOAN, side), 0)
            yield Claim(
                f"total {what} shares of the market", block, address, "market(bytes32)", total, (market,), place
            )
        for account, name in accounts.items():
            for place, (what, asset, side) in enumerate(_POSITION):
                value, words = each.get((account, asset, side), 0), (market, int(name, 16))
                yield Claim(f"{what} of {name}", block, address, "position(bytes32,address)", value, words, place)
