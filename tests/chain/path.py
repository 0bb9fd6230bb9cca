"""Prices of the scenario: what the market does, and when an oracle reports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chain.deployment import Feed
from tests.chain.node import Transaction

# ETH/USD on 2020-03-12 and 13, UTC: the open, then the close of each hour. Public hourly candles of ETH/USDT on
# Binance.
ETH_HOURLY = [194.61]
ETH_HOURLY += [193.31, 185.03, 184.10, 183.08, 181.71, 181.75, 173.80, 171.61, 169.54, 167.97, 132.91, 136.59]
ETH_HOURLY += [136.99, 135.03, 139.66, 141.10, 139.35, 141.96, 137.23, 138.37, 128.84, 130.99, 127.26, 107.82]
ETH_HOURLY += [106.89, 96.62, 111.12, 124.24, 109.70, 116.63, 126.13, 127.28, 125.33, 129.46, 131.13, 127.60]
ETH_HOURLY += [129.26, 131.93, 126.89, 123.70, 123.46, 123.56, 118.88, 128.32, 126.88, 128.83, 133.04, 134.06]
Prices = dict[str, int]
Path = Callable[[float], Prices]


def _fixed(price: float) -> int:
    return round(price * 1e8)


def _around(level: float, move: float, dai: float, usdc: float) -> Prices:
    """The other assets in terms of ETH's ``move`` (0.5: half the price of the start): a simple co-movement, not
    history.
    """
    prices = {
        "WETH": level * move,
        "WBTC": 7934 * (1 + 0.85 * (move - 1)),
        "USDC": usdc,
        "DAI": dai,
        "LINK": 3.85 * (1 + 1.05 * (move - 1)),
    }
    return {symbol: _fixed(price) for symbol, price in prices.items()}


def crash(hours: float) -> Prices:
    """2020-03-12 00:00 + ``hours``; flat before and after. DAI trades above par in the crash, USDC once above the cap
    of its adapter.
    """
    position = min(max(hours, 0.0), len(ETH_HOURLY) - 1)
    i = min(int(position), len(ETH_HOURLY) - 2)
    price = ETH_HOURLY[i] + (ETH_HOURLY[i + 1] - ETH_HOURLY[i]) * (position - i)
    move = price / ETH_HOURLY[0]
    return _around(
        ETH_HOURLY[0], move, dai=1.005 + 0.1 * (1 - move), usdc=1.045 if 26 <= hours < 27 else 1.0 + 0.01 * (1 - move)
    )


def calm(hours: float) -> Prices:
    """A triangle wave of 1 % around the start, with a period of 12 hours."""
    phase = (hours / 12) % 1
    return _around(ETH_HOURLY[0], 1 + 0.01 * (4 * abs(phase - 0.5) - 1), dai=1.005, usdc=1.0)


@dataclass(slots=True)
class Keeper:
    """Reports a price when it is half a per cent off the last report, or an hour after it."""

    reported: dict[str, tuple[int, int]] = field(default_factory=dict)

    def due(self, feeds: dict[str, Feed], prices: Prices, now: int) -> list[Transaction]:
        reports = []
        for symbol, price in prices.items():
            last, at = self.reported.get(symbol, (0, 0))
            if abs(price - last) * 200 >= last or now - at >= 3600:
                reports.append(feeds[symbol].transmit(price))
                self.reported[symbol] = price, now
        return reports
