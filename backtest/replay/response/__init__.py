"""Prices that answer to what liquidators sell: the market's, the oracle's and history's. Pure."""

from backtest.replay.response.prices import CollateralSale, PricePoint, PriceResponse, Seat
from backtest.replay.response.selling import Sold, Token

__all__ = ["CollateralSale", "PricePoint", "PriceResponse", "Seat", "Sold", "Token"]
