"""The protocols that a market description may name."""

from __future__ import annotations

from typing import Any

from backtest.errors import UserError, did_you_mean
from backtest.protocols.aave_v2 import AAVE_V2
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.compound_v2 import COMPOUND_V2
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.euler_v2 import EULER_V2
from backtest.protocols.fraxlend import FRAXLEND
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.protocols.geb import GEB
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.liquity_v2 import LIQUITY_V2
from backtest.protocols.llamma import LLAMMA
from backtest.protocols.maker import MAKER
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.silo_v2 import SILO_V2

PROTOCOLS: dict[str, LendingProtocol[Any]] = {
    protocol.name: protocol
    for protocol in (
        AAVE_V2,
        AAVE_V3,
        COMPOUND_V2,
        COMPOUND_V3,
        EULER_V2,
        FRAXLEND,
        GEARBOX_V3,
        GEB,
        LIQUITY_V1,
        LIQUITY_V2,
        LLAMMA,
        MAKER,
        MORPHO_BLUE,
        SILO_V2,
    )
}


def folding_imports() -> list[str]:
    """Names of the protocols whose markets can be folded from imports."""
    return sorted(name for name, protocol in PROTOCOLS.items() if protocol.imported_columns)


def protocol_named(name: str) -> LendingProtocol[Any]:
    """The protocol of this name; UserError with the closest known one."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UserError(f"unknown protocol '{name}'", did_you_mean(name, PROTOCOLS)) from None
