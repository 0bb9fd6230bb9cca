"""How an account that may be liquidated becomes a settled liquidation, where that is not the protocol's own way."""

from __future__ import annotations

from backtest.scenario.base import Strict


class ProtocolsOwn(Strict, frozen=True, tag_field="kind", tag="protocol"):
    """The protocol's own way."""


Mechanism = ProtocolsOwn
