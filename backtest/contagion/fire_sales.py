"""A shock that goes through several markets at once, by the protocols' own rules: what is liquidated is sold, what is
sold lowers prices for all, and what one market loses its depositors lose, wherever they use their deposits.

Static: the oracle is the market, nobody buys, frictionless liquidators take what pays at the prices of the round, and
what was sold stays sold, so that prices only fall and the rounds come to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.contagion.books import MarketBook, Token
from backtest.model import AccountId, AssetId, MarketPrice, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.changes import unplaced
from backtest.replay.claims import deposits_of, left_down
from backtest.replay.response.curves import PriceCurve
from backtest.replay.response.selling import LEAST
from backtest.replay.what_if.frictionless import liquidated_at_once
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import standings
from backtest.units import BPS, RAY


@dataclass(frozen=True, slots=True)
class DepthOf:
    """What a token's market pays for more of it; ``into``: the token that sales of it end in (``AssetImpact.into``)."""

    curve: PriceCurve
    into: Token | None = None


@dataclass(frozen=True, slots=True)
class NetworkShock:
    """What happens at first.

    ``falls``: of prices, basis points by token. ``losses``: part of a market's deposits that is gone, basis points by
    market. ``paused``: markets in which nothing happens and from which nobody can withdraw: claims on them sell for
    nothing, and count as before where they are collateral.
    """

    falls: Mapping[Token, int]
    losses: Mapping[str, int]
    paused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FireSale:
    """Where it ends. ``left``: of each price, of RAY; ``sold``: native units by token; by market, in common units:
    ``repaid``, and ``lost``: debt written off, or beyond the collateral of its account.
    """

    rounds: int
    left: Mapping[Token, int]
    sold: Mapping[Token, int]
    accounts: Mapping[str, int]
    repaid: Mapping[str, int]
    lost: Mapping[str, int]

    @property
    def loss(self) -> int:
        """Of all markets."""
        return sum(self.lost.values())


def fire_sale(
    markets: Sequence[MarketBook],
    shock: NetworkShock,
    depths: Mapping[Token, DepthOf],
    *,
    without: Collection[str] = (),
    most: int = 10_000,
) -> FireSale:
    """A shock through markets together; their books stay as they are.

    Args:
        without: owners whose accounts are left out: neither liquidated nor counted.
        most: rounds; RuntimeError after them.
    """
    rounds = _Rounds(markets, shock, depths, frozenset(without))
    for number in range(1, most + 1):
        if not rounds.next():
            return FireSale(
                number - 1,
                dict(rounds.left),
                {token: amount for token, amount in sorted(rounds.sold.items()) if amount},
                {name: len(accounts) for name, accounts in rounds.accounts.items()},
                dict(rounds.repaid),
                rounds.losses(),
            )
    raise RuntimeError(f"no end after {most} rounds")


@dataclass(frozen=True, slots=True)
class Contagion:
    """A shock through markets together and through each alone. What it costs more together is ``contagion``."""

    together: FireSale
    alone: Mapping[str, FireSale]

    @property
    def contagion(self) -> int:
        """Common units: what they lose together, less the sum of what each loses alone."""
        return self.together.loss - sum(one.loss for one in self.alone.values())


def contagion_of(markets: Sequence[MarketBook], shock: NetworkShock, depths: Mapping[Token, DepthOf]) -> Contagion:
    """The difference that being connected makes: to a market alone no other sells, and no claim on another loses."""
    return Contagion(
        fire_sale(markets, shock, depths), {market.name: fire_sale([market], shock, depths) for market in markets}
    )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is lost without one of them. ``kind``: market, asset or owner; ``spared``: how much less is lost then, its
    own loss included.
    """

    kind: str
    name: str
    loss: int
    spared: int


def leave_one_out(
    markets: Sequence[MarketBook],
    shock: NetworkShock,
    depths: Mapping[Token, DepthOf],
    *,
    owners: Sequence[str] = (),
    loss: int | None = None,
) -> list[LeftOut]:
    """Markets, assets and owners in order of what is spared without them: the market gone, the asset's price neither
    shocked nor moved by sales, the owner's accounts not there. ``loss``: of all together, where it is known.
    """
    whole = fire_sale(markets, shock, depths).loss if loss is None else loss
    found = []
    for market in markets:
        rest = [other for other in markets if other is not market]
        found.append(("market", market.name, fire_sale(rest, shock, depths).loss))
    for token in sorted({*shock.falls, *depths}):
        falls = {each: fall for each, fall in shock.falls.items() if each != token}
        calm = NetworkShock(falls, shock.losses, shock.paused)
        still = {each: depth for each, depth in depths.items() if each != token}
        found.append(("asset", token, fire_sale(markets, calm, still).loss))
    for owner in owners:
        found.append(("owner", owner, fire_sale(markets, shock, depths, without={owner}).loss))
    ranked = [LeftOut(kind, name, left, whole - left) for kind, name, left in found]
    return sorted(ranked, key=lambda each: (-each.spared, each.kind, each.name))


class _Rounds:
    """The books as they become."""

    def __init__(
        self,
        markets: Sequence[MarketBook],
        shock: NetworkShock,
        depths: Mapping[Token, DepthOf],
        without: frozenset[str],
    ) -> None:
        self._markets, self._shock, self._depths = markets, shock, depths
        self._books: dict[str, Book[Any]] = {market.name: market.book.copy() for market in markets}
        self._out = {
            market.name: frozenset(
                account
                for account in (market.book.protocol.accounts(market.book.state) if without else ())
                if market.owner(account) in without
            )
            for market in markets
        }
        self._claimed = any(market.claims for market in markets)
        self._supplied: dict[str, int] = {}
        self._written_off: Counter[str] = Counter()
        self.sold: Counter[Token] = Counter()
        self.left: dict[Token, int] = {}
        self.accounts: dict[str, set[AccountId]] = {market.name: set() for market in markets}
        self.repaid: Counter[str] = Counter({market.name: 0 for market in markets})

    def next(self) -> bool:
        """Prices as they are after what was sold and lost so far, and what is liquidated at them; whether anything
        changed.
        """
        moved = self._price()
        taken = [self._liquidate(market) for market in self._markets]
        return any(taken) or (moved and self._claimed)

    def losses(self) -> dict[str, int]:
        """By market, common units, rounded up."""
        return {market.name: market.units_up(self._lost(market)) for market in self._markets}

    def _liquidate(self, market: MarketBook) -> bool:
        if market.name in self._shock.paused:
            return False
        book, out = self._books[market.name], self._out[market.name]
        risky = [one.account for one in standings(views_of(book), unsafe=True) if one.account not in out]
        if not risky:
            return False
        taken = liquidated_at_once(book, risky)
        seized = {asset: amount for asset, amount in taken.seized.items() if amount}
        if not (seized or taken.repaid_base or taken.lost_base):
            return False
        self.accounts[market.name].update(risky)
        self.repaid[market.name] += market.units_up(taken.repaid_base)
        self._written_off[market.name] += taken.lost_base
        for asset, amount in seized.items():
            self._sell(market, asset, amount)
        return True

    def _sell(self, market: MarketBook, asset: AssetId, amount: int) -> None:
        """It is outstanding, and so is what it is worth of the token that it ends in."""
        token = market.token(asset)
        self.sold[token] += amount
        known: set[Token] = {token}
        while (depth := self._depths.get(token)) is not None and depth.into is not None and depth.into not in known:
            into, before = market.asset_of(depth.into), market.book.oracle
            if into is None or not before.get(into):
                return
            units = market.book.units
            amount = amount * before.get(asset, 0) * units[into] // (units[asset] * before[into])
            token, asset = depth.into, into
            known.add(token)
            self.sold[token] += amount

    def _lost(self, market: MarketBook) -> int:
        """Base units: written off, and beyond the collateral of its account."""
        out = self._out[market.name]
        short = sum(
            max(0, one.debt_base - one.collateral_base)
            for one in standings(views_of(self._books[market.name]))
            if one.account not in out
        )
        return self._written_off[market.name] + short

    def _price(self) -> bool:
        """Every book's prices; whether one of them is another than before."""
        moved = False
        for market in self._markets:
            book, before = self._books[market.name], market.book
            for asset in before.market.assets:
                left = self._left(market, asset.id)
                token = market.token(asset.id)
                moved |= self.left.get(token, RAY) != left
                if left != RAY:
                    self.left[token] = left
                claim = market.claims.get(asset.id)
                stuck = claim is not None and claim[0] in self._shock.paused
                at, price, traded = unplaced(book.now), before.oracle.get(asset.id), before.traded.get(asset.id)
                if price is not None:
                    # a price of zero is one that nobody knows, and its accounts would be left out
                    book.apply(PriceUpdate(**at, asset=asset.id, price=max(min(price, 1), price * left // RAY)))
                if stuck or traded is not None:
                    sells = 0 if stuck or traded is None else traded * left // RAY
                    book.apply(MarketPrice(**at, asset=asset.id, price=sells))
        return moved

    def _left(self, market: MarketBook, asset: AssetId) -> int:
        """Of RAY: what the shock, sales and losses of whoever it claims from leave of a price."""
        claim = market.claims.get(asset)
        if claim is None:
            return max(LEAST, self._left_of(market.token(asset)))
        issuer, underlying = claim
        return max(LEAST, self._left_of(underlying) * self._stands_behind(issuer) // RAY)

    def _left_of(self, token: Token) -> int:
        left = RAY * (BPS - self._shock.falls.get(token, 0)) // BPS
        depth = self._depths.get(token)
        if depth is None:
            return left
        left = left * depth.curve.factor(self.sold[token]) // RAY
        into = depth.into
        return left if into is None or into not in self._depths else left * self._left_of(into) // RAY

    def _stands_behind(self, issuer: str) -> int:
        """Of RAY: what is left of a market's deposits after what it lost, borne by all depositors alike."""
        left = RAY * (BPS - self._shock.losses.get(issuer, 0)) // BPS
        market = next((one for one in self._markets if one.name == issuer), None)
        if market is None:
            return left
        supplied = self._deposits(market)
        return left * left_down(supplied, self._lost(market)) // RAY

    def _deposits(self, market: MarketBook) -> int:
        """Base units at the prices before the shock."""
        if market.name not in self._supplied:
            self._supplied[market.name] = deposits_of(market.book)
        return self._supplied[market.name]
