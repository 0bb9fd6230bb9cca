"""What the Vat is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.maker.events import ilk_of
from backtest.protocols.maker.state import COLLATERAL, DAI


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """The ilk's normalised debt (dss ``src/vat.sol`` ``ilks``: ``Art`` is the first word), and each urn's ``ink`` and
    ``art`` (``urns``).
    """
    vat, ilk, rows = config.contracts["vat"], int.from_bytes(ilk_of(config.parameters), "big"), changes(tables)
    own = of_accounts(rows, list(accounts))
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        yield Claim("normalised debt of the ilk", block, vat, "ilks(bytes32)", whole.get((DAI, "debt"), 0), (ilk,))
        for account, urn in accounts.items():
            for place, (what, asset, side) in enumerate((("ink", COLLATERAL, "collateral"), ("art", DAI, "debt"))):
                value, words = each.get((account, asset, side), 0), (ilk, int(urn, 16))
                yield Claim(f"{what} of {urn}", block, vat, "urns(bytes32,address)", value, words, place)
