"""A node's logs to canonical tables: SAFEs, accumulator, both prices and parameters, exact throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa

from backtest.abi import event_schema
from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.protocols.folding import Running, refuse_quarantined
from backtest.protocols.geb.events import EVENTS, collateral_type
from backtest.protocols.geb.params import DEFAULTS, ENGLISH, FIXED, INCREASING, OPEN_DOLLAR
from backtest.protocols.geb.state import BASE_DECIMALS, PRICE_DECIMALS
from backtest.protocols.interface import RawEvents
from backtest.protocols.vaults.ledger import VaultRows, closing
from backtest.protocols.vaults.logs import address_text, integer, name
from backtest.units import RAY, WAD

Row = Mapping[str, Any]
UNKNOWN = "unknown"
"""Who called a liquidation: no log says it."""
_MOST = 10**38 - 1
_SAFE = "ModifySAFECollateralization"
_TRANSFER = "TransferSAFECollateralAndDebt"
_CONFISCATE = "ConfiscateSAFECollateralAndDebt"

# Contract to what its settings mean here: parameter, and by what its number is divided (rad to wad).
_FILED: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "Engine": {"debtFloor": ("dust", RAY), "debtCeiling": ("line", RAY)},
    "Tax": {"stabilityFee": ("duty", 1), "globalStabilityFee": ("base", 1)},
    "Relayer": {"safetyCRatio": ("safety_ratio", 1), "liquidationCRatio": ("liquidation_ratio", 1)},
    "Liquidation": {
        "liquidationPenalty": ("liquidation_penalty", 1),
        "liquidationQuantity": ("dunk", RAY),
        "onAuctionSystemCoinLimit": ("box", RAY),
    },
}
_HOUSE: Mapping[str, str] = {
    "minDiscount": "min_discount",
    "maxDiscount": "max_discount",
    "perSecondDiscountUpdateRate": "discount_rate",
    "maxDiscountUpdateRateTimeline": "discount_seconds",
    "minimumBid": "minimum_bid",
    "lowerCollateralMedianDeviation": "lower_collateral_deviation",
    "upperCollateralMedianDeviation": "upper_collateral_deviation",
    "lowerSystemCoinMedianDeviation": "lower_coin_deviation",
    "upperSystemCoinMedianDeviation": "upper_coin_deviation",
    "minSystemCoinMedianDeviation": "min_coin_deviation",
}
_OWN = (*_HOUSE.values(), "coin_oracle")
"""What each auction house has of its own."""
_INCREASING = frozenset({"min_discount", "max_discount", "discount_rate", "discount_seconds"})
_COLUMNS = {spec.name: event_schema(spec).names for spec in EVENTS}
SEGMENT_ROWS = 1 << 18


class SafeRows(VaultRows):
    """Rows of one collateral type; the coin's price is its redemption price."""

    DIGITS: ClassVar[int] = PRICE_DECIMALS - BASE_DECIMALS


def fold_logs(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """Canonical tables from raw logs, with ``running`` of those behind what it has seen.

    Raises:
        UserError: the market's description has other decimals than these prices need.
        RulesError: a log could not be decoded, or a SAFE would fall below zero: then logs are missing.
    """
    if (config.base_decimals, config.price_decimals) != (BASE_DECIMALS, PRICE_DECIMALS):
        raise UserError(
            f"market '{config.name}': base_decimals = {config.base_decimals}, price_decimals = {config.price_decimals}",
            f"write base_decimals = {BASE_DECIMALS} and price_decimals = {PRICE_DECIMALS} in its description: the"
            " redemption price has 27 decimals",
        )
    refuse_quarantined(raw, "look at it in raw/geb/Quarantine; correct the market's contracts, or report it")
    folding = (running or Running()).begin(lambda: _Fold(config))
    for segment in raw.segments(SEGMENT_ROWS, _COLUMNS):
        folding.take(segment)
    yield from folding.rows.tables()


class _Fold:
    """One fold in progress."""

    def __init__(self, config: MarketConfig) -> None:
        self._type = collateral_type(config.parameters)
        symbol, coin = config.parameters["collateral_type"].partition("-")[0], config.parameters.get("coin", "COIN")
        self.rows = SafeRows(
            config,
            (config.contracts.get("collateral", symbol.lower()), symbol),
            (config.contracts.get("coin", coin.lower()), coin),
        )
        self._price, self._rate = RAY, RAY
        """The redemption price when it was last updated, and its rate a second."""
        self._bounds = (1, RAY * WAD)
        self._told: int | None = None
        """The coin's price in the rows."""
        self._houses: dict[str, dict[str, int]] = {}
        """Of each auction house, its own parameters as far as they were set, and ``liquidation_system``."""
        self._house: str | None = None
        """The one that the LiquidationEngine uses."""

    def take(self, segment: Mapping[str, pa.Table]) -> None:
        """Folds the logs of some blocks."""
        rows = []
        for event, table in segment.items():
            typed = "collateral_type" in table.column_names
            rows += [
                (event, row) for row in table.to_pylist() if not typed or row["collateral_type"] in (self._type, _ALL)
            ]
        rows.sort(key=lambda found: found[1]["seq"])
        self._closing = {
            **closing(rows, _CONFISCATE, ("Liquidate",), "collateral_type", "safe"),
            **closing(rows, f"{_CONFISCATE}OD", ("Liquidate",), "collateral_type", "safe"),
        }
        handlers = self._handlers()
        for event, row in rows:
            handlers[event](row)

    def _handlers(self) -> Mapping[str, Callable[[Row], None]]:
        found: dict[str, Callable[[Row], None]] = {
            "InitializeCollateralType": self.rows.open,
            "UpdateRedemptionPrice": self._redemption_price,
            "UpdateRedemptionRateOD": lambda row: self._redemption_rate(row, int(row["redemption_rate"])),
            "RelayerDisabled": lambda row: self._redemption_rate(row, RAY),
            "UpdateCollateralPrice": self._collateral_price,
            "LiquidationFileHouse": lambda row: self._use(row, row["parameter"], address_text(row["data"])),
            "LiquidationFileOD": self._liquidation_od,
            "Liquidate": self._liquidate,
            "HouseFile": lambda row: self._house_file(row, integer(row["data"]), None),
            "HouseFileOD": lambda row: self._house_file(row, _number(row), OPEN_DOLLAR),
            "HouseFileAddress": self._house_oracle,
            "StartFixed": lambda row: self._shows(row, FIXED),
            "IncreaseBidSize": lambda row: self._shows(row, ENGLISH),
            "StartIncreasing": lambda row: self._shows(row, INCREASING),
            "StartOD": lambda row: self._shows(row, OPEN_DOLLAR),
        }
        for suffix in ("", "OD"):
            found[f"{_SAFE}{suffix}"] = self._modify
            found[f"{_TRANSFER}{suffix}"] = self._transfer
            found[f"{_CONFISCATE}{suffix}"] = self._confiscate
            found[f"UpdateAccumulatedRate{suffix}"] = self._accumulate
        for contract in _FILED:
            for event in (f"{contract}File", f"{contract}FileGlobal"):
                found[event] = partial(self._plain_file, contract)
            found.setdefault(f"{contract}FileOD", partial(self._encoded_file, contract))
        return found

    # -- configuration -------------------------------------------------------------------------------------------------

    def _param(self, row: Row, parameter: str, value: int) -> None:
        value = min(value, _MOST)
        if self.rows.params.get(parameter) != value:
            self.rows.param(row, parameter, value)

    def _plain_file(self, contract: str, row: Row) -> None:
        self._file(contract, row, integer(row["data"]))

    def _encoded_file(self, contract: str, row: Row) -> None:
        self._file(contract, row, _number(row))

    def _file(self, contract: str, row: Row, value: int) -> None:
        what = name(row["parameter"])
        if (known := _FILED[contract].get(what)) is not None:
            self._param(row, known[0], value // known[1])
        elif what == "redemptionRate":  # kept within the bounds, though the log says what was asked for
            self._redemption_rate(row, min(max(value, self._bounds[0]), self._bounds[1]))
        elif what == "redemptionPrice":
            self._price = value
            self._param(row, "redemption_price", value)
        elif what == "redemptionRateLowerBound":
            self._bounds = value, self._bounds[1]
        elif what == "redemptionRateUpperBound":
            self._bounds = self._bounds[0], value

    def _liquidation_od(self, row: Row) -> None:
        if name(row["parameter"]) == "collateralAuctionHouse":
            self._use(row, row["parameter"], address_text(row["data"][12:32]))
        else:
            self._file("Liquidation", row, _number(row))

    # -- auction houses ------------------------------------------------------------------------------------------------

    def _own(self, house: str) -> dict[str, int]:
        return self._houses.setdefault(house, {})

    def _house_file(self, row: Row, value: int, system: int | None) -> None:
        house, what = address_text(row["address"]), name(row["parameter"])
        own = self._own(house)
        names = ("min_discount", "max_discount") if what == "discount" else (_HOUSE[what],) if what in _HOUSE else ()
        for each in names:
            own[each] = value
        if system is None and what == "discount":
            system = FIXED
        elif system is None and _INCREASING.intersection(names):
            system = INCREASING
        if system is not None:
            own["liquidation_system"] = system
        self._tell(row, house)

    def _house_oracle(self, row: Row) -> None:
        if name(row["parameter"]) == "systemCoinOracle":
            house = address_text(row["address"])
            self._own(house)["coin_oracle"] = int(any(row["data"]))
            self._tell(row, house)

    def _shows(self, row: Row, system: int) -> None:
        """Which house it is shows by its logs."""
        house = address_text(row["address"])
        if (system, self._own(house).get("liquidation_system")) != (FIXED, ENGLISH):
            self._own(house)["liquidation_system"] = system
        self._tell(row, house)

    def _use(self, row: Row, what: bytes, house: str) -> None:
        """The LiquidationEngine starts auctions in another house from here on."""
        if name(what) == "collateralAuctionHouse":
            self._house = house
            self._tell(row, house)

    def _tell(self, row: Row, house: str) -> None:
        """The parameters of the house in use, where they changed."""
        if house != self._house:
            return
        own = self._own(house)
        if "liquidation_system" in own:
            self._param(row, "liquidation_system", own["liquidation_system"])
        for parameter in _OWN:
            value = own.get(parameter, DEFAULTS[parameter])
            if parameter in own or self.rows.params.get(parameter, value) != value:
                self._param(row, parameter, value)

    # -- prices and interest -------------------------------------------------------------------------------------------

    def _redemption_price(self, row: Row) -> None:
        self._price = int(row["redemption_price"])
        self._param(row, "redemption_price", self._price)
        self._param(row, "redemption_time", row["timestamp"])

    def _redemption_rate(self, row: Row, rate: int) -> None:
        self._rate = rate
        self._param(row, "redemption_rate", rate)

    def _collateral_price(self, row: Row) -> None:
        """The feed's value in rays, and the redemption price that it was divided by; a liquidation price of zero: the
        feed has no price.
        """
        rows = self.rows
        if self._price != self._told:
            self._told = self._price
            rows.price(row, rows.coin, self._price, source=None, method="feed", exact=True)
        price = int(row["price_feed_value"]) * 10**9 if integer(row["liquidation_price"]) else None
        rows.price(row, rows.collateral, price or None, source=None, method="feed", exact=True)

    def _accumulate(self, row: Row) -> None:
        """SAFEEngine ``updateAccumulatedRate``, once for each receiver of the fee."""
        self.rows.set_rate(row, self.rows.rate + int(row["rate_multiplier"]))

    # -- SAFEs ---------------------------------------------------------------------------------------------------------

    def _modify(self, row: Row) -> None:
        dink, dart = int(row["delta_collateral"]), int(row["delta_debt"])
        action = "borrow" if dart > 0 else "withdraw" if dink < 0 else "repay" if dart < 0 else "supply"
        self.rows.moved(row, address_text(row["safe"]), dink, dart, action)

    def _transfer(self, row: Row) -> None:
        dink, dart = int(row["delta_collateral"]), int(row["delta_debt"])
        self.rows.moved(row, address_text(row["src"]), -dink, -dart, "transfer")
        self.rows.moved(row, address_text(row["dst"]), dink, dart, "transfer")

    def _confiscate(self, row: Row) -> None:
        """A liquidation if one names the SAFE later in the transaction, else the settlement's (GlobalSettlement)."""
        seq = self._closing.get(row["seq"])
        action = "shutdown" if seq is None else "liquidation"
        dink, dart = int(row["delta_collateral"]), int(row["delta_debt"])
        self.rows.moved(row, address_text(row["safe"]), dink, dart, action, action_seq=seq)

    def _liquidate(self, row: Row) -> None:
        """The debt is the log's at the rate in force: its ``amountToRaise`` is that of GEB, and the one with penalty of
        Open Dollar.
        """
        if self._house is None:  # set when the contracts were deployed, which Open Dollar does not log
            self._use(row, b"collateralAuctionHouse", address_text(row["collateral_auctioneer"]))
        rows, art = self.rows, int(row["debt_amount"])
        repaid = art * rows.rate // RAY
        account, caller = rows.vault(address_text(row["safe"])), rows.account(UNKNOWN)
        rows.liquidation(row, account, caller, repaid, int(row["collateral_amount"]), art)


_ALL = bytes(32)
"""In place of a collateral type: a setting of the whole contract."""


def _number(row: Row) -> int:
    """The value of a setting that is encoded bytes."""
    return int.from_bytes(row["data"][:32], "big")
