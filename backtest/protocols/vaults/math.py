"""Fixed-point arithmetic of the Maker contracts (makerdao/dss): unsigned, multiplications and divisions rounded down.

Units: wad 1e18, ray 1e27, rad 1e45 (a wad times a ray).
"""

from __future__ import annotations

from decimal import Decimal, localcontext

from backtest.units import RAY, SECONDS_PER_YEAR, WAD
from backtest.words import rule

RAD = WAD * RAY


@rule
def rmul_down(a: int, b: int) -> int:
    """floor(a * b / ray): ``rmul`` (dss ``src/clip.sol``, ``src/jug.sol``, ``src/cat.sol`` 1.0)."""
    return a * b // RAY


@rule
def rdiv_down(a: int, b: int) -> int:
    """floor(a * ray / b): ``rdiv`` (dss ``src/spot.sol``, ``src/clip.sol``)."""
    return a * RAY // b


@rule
def wmul_down(a: int, b: int) -> int:
    """floor(a * b / wad): ``wmul`` (dss ``src/clip.sol``)."""
    return a * b // WAD


def per_second(yearly: int) -> int:
    """The ray that compounds to ``1 + yearly`` (a ray) over a year of 31,536,000 seconds, rounded down.

    What governance files as ``duty`` for a yearly stability fee. Values on chain were computed with fewer digits and
    can be one unit apart in the 27th place, which is less than 1e-19 a year.
    """
    with localcontext() as context:
        context.prec = 80
        root = ((1 + Decimal(yearly) / RAY).ln() / SECONDS_PER_YEAR).exp()
        return int(root * RAY)
