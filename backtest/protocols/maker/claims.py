"""What the Vat is asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables, balances, changes, of_accounts, totals
from backtest.protocols.maker.events import ilks_of
from backtest.protocols.vaults.ledger import BEHIND
from backtest.protocols.vaults.logs import word
from backtest.protocols.vaults.state import coin_of, collateral_of


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """The ilk's normalised debt (dss ``src/vat.sol`` ``ilks``: ``Art`` is the first word), and each urn's ``ink`` and
    ``art`` (``urns``).
    """
    vat, rows, named = config.contracts["vat"], changes(tables), ilks_of(config.parameters)
    own, places = of_accounts(rows, list(accounts)), {ilk: place for place, ilk in enumerate(named)}
    for block in blocks:
        whole, each = totals(rows, block), balances(own, block)
        for ilk, place in places.items():
            number = int.from_bytes(ilk, "big")
            owed = whole.get((coin_of(place), "debt"), 0)
            yield Claim("normalised debt of the ilk", block, vat, "ilks(bytes32)", owed, (number,))
        for account, text in accounts.items():
            urn, _, ilk_name = text.partition(BEHIND)
            of = word(ilk_name) if ilk_name else named[0] if len(named) == 1 else b""
            if of not in places:  # in a market of all ilks, whose places no description says
                continue
            place, words = places[of], (int.from_bytes(of, "big"), int(urn, 16))
            sides = ("ink", collateral_of(place), "collateral"), ("art", coin_of(place), "debt")
            for at, (what, asset, side) in enumerate(sides):
                value = each.get((account, asset, side), 0)
                yield Claim(f"{what} of {text}", block, vat, "urns(bytes32,address)", value, words, at)
