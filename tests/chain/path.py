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

# ETH/USD on 2021-05-19, UTC: the open, then the close of each ten minutes. Public candles of Coinbase.
ETH_MAY = [3375.69]
ETH_MAY += [3423.99, 3410.00, 3422.48, 3392.76, 3373.29, 3356.02, 3330.00, 3273.89, 3256.96, 3237.18, 3182.04, 3190.37]
ETH_MAY += [3193.40, 3159.60, 3173.73, 3179.07, 3174.53, 3107.28, 3119.01, 3100.62, 3149.46, 3138.46, 3107.81, 3096.08]
ETH_MAY += [3080.59, 3011.83, 2937.49, 2949.55, 2915.40, 2921.71, 2980.23, 2982.03, 3023.73, 2950.35, 2918.86, 2928.74]
ETH_MAY += [2995.49, 2999.09, 3011.99, 2960.77, 2957.41, 2944.76, 2917.49, 2937.02, 2948.05, 2954.64, 2979.01, 2990.92]
ETH_MAY += [2958.31, 2937.22, 2951.03, 2967.33, 2987.91, 2978.91, 3002.17, 2966.62, 2955.28, 2949.50, 2937.54, 2976.91]
ETH_MAY += [2934.32, 2924.53, 2910.00, 2853.52, 2824.02, 2852.91, 2801.07, 2713.87, 2615.68, 2700.28, 2635.30, 2722.79]
ETH_MAY += [2746.23, 2685.62, 2638.91, 2552.67, 2376.08, 2319.21, 1944.91, 2264.84, 2359.86, 2571.09, 2433.96, 2535.71]
ETH_MAY += [2455.00, 2486.26, 2520.51, 2463.40, 2507.91, 2605.66, 2635.45, 2730.27, 2632.42, 2723.82, 2762.58, 2752.21]
ETH_MAY += [2710.67, 2684.95, 2694.14, 2821.20, 2924.66, 2868.00, 2861.62, 2923.36, 2902.91, 2824.04, 2780.91, 2785.00]
ETH_MAY += [2680.28, 2629.74, 2685.50, 2618.88, 2612.64, 2613.99, 2623.25, 2615.60, 2626.48, 2592.78, 2627.45, 2611.15]
ETH_MAY += [2681.84, 2678.59, 2642.67, 2604.66, 2589.61, 2529.68, 2529.94, 2478.71, 2473.98, 2536.87, 2585.97, 2593.03]
ETH_MAY += [2644.09, 2666.66, 2641.48, 2659.89, 2714.70, 2668.81, 2628.72, 2590.44, 2571.31, 2582.66, 2517.38, 2445.07]

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


def may(hours: float) -> Prices:
    """2021-05-19 00:00 + ``hours``; flat before and after. The other assets start where they then stood (Binance) and
    move with ETH as in ``crash``; both stablecoins go above par.
    """
    position = min(max(hours * 6, 0.0), len(ETH_MAY) - 1)
    i = min(int(position), len(ETH_MAY) - 2)
    fall = (ETH_MAY[i] + (ETH_MAY[i + 1] - ETH_MAY[i]) * (position - i)) / ETH_MAY[0] - 1
    levels = {
        "WETH": ETH_MAY[0] * (1 + fall),
        "WBTC": 42_849.78 * (1 + 0.85 * fall),
        "USDC": 1.0 - 0.01 * fall,
        "DAI": 1.005 - 0.1 * fall,
        "LINK": 42.56 * (1 + 1.05 * fall),
    }
    return {symbol: _fixed(price) for symbol, price in levels.items()}


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


@dataclass(frozen=True, slots=True)
class Fall:
    """Two days of prices from ``midnight`` (seconds) on."""

    prices: Path
    midnight: int


MARCH = Fall(crash, 1_583_971_200)
MAY = Fall(may, 1_621_382_400)
