"""Canonical rows of a Maker ilk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from backtest.protocols.maker.params import CAT_1_0, CAT_1_1, DOG_2_0
from backtest.protocols.vaults.ledger import VaultRows
from backtest.units import WAD


class Ledger(VaultRows):
    """Rows of one ilk; DAI is one unit of the base currency."""

    SHOWS: ClassVar[Mapping[str, int]] = {"lump": CAT_1_0, "dunk": CAT_1_1, "hole": DOG_2_0}
    FIXED: ClassVar[int | None] = WAD
