"""What the contract is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.compound_v3.events import COMET
from backtest.protocols.compound_v3.state import BASE


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Each account's principal (CometStorage ``userBasic(account)``, word 0) and collateral (CometExt
    ``collateralBalanceOf``), and all collateral of a kind (``totalsCollateral(asset)``, word 0). Totals of the base
    token the fold compares itself, in every block that was read.
    """
    address, rows = config.contracts[COMET], changes(tables)
    assets = {AssetId(row["asset_id"]): row["asset"] for row in tables("assets", ["asset_id", "asset"]).to_pylist()}
    own = of_accounts(rows, list(accounts))
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        for asset, token in assets.items():
            if asset != BASE and (asset, "collateral") in whole:
                value = whole[asset, "collateral"]
                what = f"all collateral of token {token}"
                yield Claim(what, block, address, "totalsCollateral(address)", value, (int(token, 16),))
        for account, name in accounts.items():
            principal = each.get((account, BASE, "collateral"), 0) - each.get((account, BASE, "debt"), 0)
            principal %= 1 << 256
            yield Claim(f"principal of {name}", block, address, "userBasic(address)", principal, (int(name, 16),))
            for asset, token in assets.items():
                if asset != BASE and (account, asset, "collateral") in each:
                    words = int(name, 16), int(token, 16)
                    held, function = each[account, asset, "collateral"], "collateralBalanceOf(address,address)"
                    yield Claim(f"collateral of {name} in {token}", block, address, function, held, words)
