"""What SAFEEngine is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.geb.events import collateral_type
from backtest.protocols.vaults.state import COIN, COLLATERAL


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """The normalised debt of the collateral type (geb ``SAFEEngine.sol`` ``collateralTypes``, Open Dollar ``cData``:
    the first word), and each SAFE's collateral and debt (``safes``).
    """
    engine, rows = config.contracts["safe_engine"], changes(tables)
    own, number = of_accounts(rows, list(accounts)), int.from_bytes(collateral_type(config.parameters), "big")
    getter = "cData(bytes32)" if config.parameters.get("lineage") == "open-dollar" else "collateralTypes(bytes32)"
    for block in blocks:
        owed = totals(rows, block).get((COIN, "debt"), 0)
        yield Claim("normalised debt of the collateral type", block, engine, getter, owed, (number,))
        each = balances(own, block)
        for account, text in accounts.items():
            if not text.startswith("0x"):
                continue
            words = number, int(text, 16)
            sides = ("collateral", COLLATERAL), ("debt", COIN)
            for at, (side, asset) in enumerate(sides):
                value = each.get((account, asset, side), 0)
                yield Claim(f"{side} of {text}", block, engine, "safes(bytes32,address)", value, words, at)
