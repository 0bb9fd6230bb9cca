"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.silo_v2.state import PROTECTED, SILOS

_KINDS = (("protected", "protected", "collateral"), ("lent", "silo", "collateral"), ("debt", "debt", "debt"))
"""What, whose role the token of its shares has, side; in the order of ``ISilo.AssetType``."""


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """All shares of each kind in both silos, and each account's (``totalSupply``, ``balanceOf`` of their tokens); and
    what each kind comes to, with the interest up to the last call (``ISilo.getTotalAssetsStorage``).
    """
    rows = changes(tables)
    own = of_accounts(rows, list(accounts))
    amounts = _amounts(tables)
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        for n in SILOS:
            for place, (kind, role, side) in enumerate(_KINDS):
                asset, token = AssetId(n + PROTECTED * (kind == "protected")), config.contracts[f"{role}{n}"]
                said = f"{kind} shares of silo {n}"
                yield Claim(f"all {said}", block, token, "totalSupply()", whole.get((asset, side), 0))
                worth = sum(amount for at, amount in amounts[asset, side] if at <= block)
                call = "getTotalAssetsStorage(uint8)"
                yield Claim(f"{kind} assets of silo {n}", block, config.contracts[f"silo{n}"], call, worth, (place,))
                for account, name in accounts.items():
                    value = each.get((account, asset, side), 0)
                    yield Claim(f"{said} of {name}", block, token, "balanceOf(address)", value, (int(name, 16),))


def _amounts(tables: Tables) -> dict[tuple[AssetId, str], list[tuple[int, int]]]:
    """By asset and side: in which block a total changed by how much."""
    found: dict[tuple[AssetId, str], list[tuple[int, int]]] = defaultdict(list)
    row: Mapping[str, Any]
    for row in tables("position_events", ["block_number", "asset_id", "side", "delta", "amount"]).to_pylist():
        signed = int(row["amount"] or 0) if row["delta"] > 0 else -int(row["amount"] or 0)
        found[AssetId(row["asset_id"]), row["side"]].append((row["block_number"], signed))
    for row in tables("params", ["block_number", "asset_id", "name", "value"]).to_pylist():
        if row["name"] in ("interest", "interest_lent"):
            side = "debt" if row["name"] == "interest" else "collateral"
            found[AssetId(row["asset_id"]), side].append((row["block_number"], int(row["value"])))
    return found
