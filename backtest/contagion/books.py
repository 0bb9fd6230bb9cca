"""What of exact books connects markets: who owes how much where, what stands behind it, who claims what of whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import standings

Token = str
"""A token's address, lower-case 0x text: the same in every market of a chain."""


@dataclass(frozen=True, slots=True)
class MarketBook:
    """One market at one moment. ``worth``: how many units that all markets are counted in one of its base units is.

    ``owners``: whose an account is, where that is not its own address. ``claims``: assets that are claims on deposits
    of another market (name), and on which token there.
    """

    name: str
    book: Book[Any]
    worth: Fraction = Fraction(1)
    owners: Mapping[AccountId, str] = field(default_factory=dict)
    claims: Mapping[AssetId, tuple[str, Token]] = field(default_factory=dict)

    def units_up(self, base: int) -> int:
        """Base units in the common ones, rounded up."""
        return -(-base * self.worth.numerator // self.worth.denominator)

    def token(self, asset: AssetId) -> Token:
        """An asset's address."""
        return self.book.market.assets[asset].asset

    def owner(self, account: AccountId) -> str:
        """Whose an account is."""
        protocol = self.book.protocol
        told = self.owners.get(account) or protocol.owner_in(self.book.state, account)
        return told or protocol.owner_of(self.book.address(account))

    def asset_of(self, token: Token) -> AssetId | None:
        """The asset that a token is here."""
        return next((asset.id for asset in self.book.market.assets if asset.asset == token), None)


@dataclass(frozen=True, slots=True)
class Connected:
    """What the measures are asked with; all amounts in common units.

    Attributes:
        tokens: those that stand behind debt anywhere, by address. held: markets x tokens, collateral of accounts with
            debt. debt, bad: by market, of all accounts, and beyond an account's collateral. unpriced: by market, how
            many accounts nothing counts, since a price of theirs is missing. owed: by owner and market.
        supplied, lent: by market and token, everything that is supplied and owed.
        claims: (whose, on whom) to the value of deposits of one market that are collateral for debt in another.
    """

    tokens: tuple[Token, ...]
    held: tuple[tuple[int, ...], ...]
    debt: tuple[int, ...]
    bad: tuple[int, ...]
    unpriced: tuple[int, ...]
    owed: Mapping[str, Mapping[str, int]]
    supplied: Mapping[tuple[str, Token], int]
    lent: Mapping[tuple[str, Token], int]
    claims: Mapping[tuple[str, str], int]

    def linked(self) -> list[tuple[str, Mapping[str, int]]]:
        """Owners with debt in several markets, the largest first."""
        several = [(owner, debts) for owner, debts in self.owed.items() if len(debts) > 1]
        return sorted(several, key=lambda each: (-sum(each[1].values()), each[0]))

    def largest(self, number: int) -> list[str]:
        """The owners with the most debt."""
        return sorted(self.owed, key=lambda owner: (-sum(self.owed[owner].values()), owner))[:number]

    def common(self, one: str, other: str) -> int:
        """Debt that the same owners have in two markets: of each owner the smaller (O in the sources' words)."""
        return sum(min(debts[one], debts[other]) for debts in self.owed.values() if one in debts and other in debts)


def connected(markets: Sequence[MarketBook]) -> Connected:
    """Everything of some books that connects them."""
    held: dict[str, defaultdict[Token, int]] = {}
    debt: dict[str, int] = {}
    bad: dict[str, int] = {}
    unpriced: list[int] = []
    owed: defaultdict[str, dict[str, int]] = defaultdict(dict)
    supplied: defaultdict[tuple[str, Token], int] = defaultdict(int)
    lent: defaultdict[tuple[str, Token], int] = defaultdict(int)
    claims: defaultdict[tuple[str, str], int] = defaultdict(int)
    for market in markets:
        book = market.book
        own = held[market.name] = defaultdict(int)
        views = views_of(book)
        unpriced.append(sum(view is None for view in views.rest.values()))
        stand = [one for one in standings(views) if one.debt_base]
        indebted = {one.account: one.debt_base for one in stand}
        debt[market.name] = market.units_up(sum(indebted.values()))
        bad[market.name] = market.units_up(sum(max(0, one.debt_base - one.collateral_base) for one in stand))
        for account, owes in indebted.items():
            debts = owed[market.owner(account)]
            debts[market.name] = debts.get(market.name, 0) + market.units_up(owes)
        for account in book.protocol.accounts(book.state):
            for holding in book.protocol.holdings(book.state, account, book.now):
                token = market.token(holding.asset)
                value = market.units_up(book.value_down(holding.asset, holding.collateral))
                supplied[market.name, token] += value
                lent[market.name, token] += market.units_up(book.value_up(holding.asset, holding.debt))
                if account in indebted and value and holding.collateral_enabled:
                    own[token] += value
                    if holding.asset in market.claims:
                        claims[market.name, market.claims[holding.asset][0]] += value
    tokens = tuple(sorted({token for own in held.values() for token in own}))
    rows = tuple(tuple(held[market.name][token] for token in tokens) for market in markets)
    debts_of, bad_of = (tuple(each[market.name] for market in markets) for each in (debt, bad))
    return Connected(
        tokens, rows, debts_of, bad_of, tuple(unpriced), dict(owed), dict(supplied), dict(lent), dict(claims)
    )


def merged(each: Sequence[Connected]) -> Connected:
    """Markets that were looked at one by one (each with one market), as if at once."""
    tokens = tuple(sorted({token for one in each for token in one.tokens}))
    owed: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for one in each:
        for owner, debts in one.owed.items():
            owed[owner] |= debts
    places = [{token: place for place, token in enumerate(one.tokens)} for one in each]
    return Connected(
        tokens,
        tuple(
            tuple(one.held[0][place[token]] if token in place else 0 for token in tokens)
            for one, place in zip(each, places, strict=True)
        ),
        tuple(one.debt[0] for one in each),
        tuple(one.bad[0] for one in each),
        tuple(one.unpriced[0] for one in each),
        dict(owed),
        {key: value for one in each for key, value in one.supplied.items()},
        {key: value for one in each for key, value in one.lent.items()},
        {key: value for one in each for key, value in one.claims.items()},
    )
