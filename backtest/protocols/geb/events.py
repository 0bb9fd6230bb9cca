"""Which logs of which contracts make the history of a collateral type, and which contracts those are.

The market names SAFEEngine, TaxCollector, OracleRelayer and the LiquidationEngines that there were; auction houses are
those that these are told to use, or that a liquidation names. Each lineage logs in its own way: names that end in
``OD`` are Open Dollar's, whose settings are encoded bytes.
Which number a SAFE has with the SAFE manager, no log that is read says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.model import EventSpec
from backtest.protocols.interface import RawEvents
from backtest.protocols.vaults.logs import address_text, word

_FILE = "ModifyParameters(bytes32 parameter, uint256 data)"
_FILE_TYPE = "ModifyParameters(bytes32 collateralType, bytes32 parameter, uint256 data)"
_FILE_OD = "ModifyParameters(bytes32 indexed parameter, bytes32 indexed collateralType, bytes data)"
_DATA = frozenset({"data"})
_START = "StartAuction(uint256 id, uint256 auctionsStarted, uint256 amountToSell, uint256 initialBid, uint256 indexed"

EVENTS: tuple[EventSpec, ...] = (
    # geb src/single/SAFEEngine.sol
    EventSpec("InitializeCollateralType", "InitializeCollateralType(bytes32 collateralType)", "safe_engine"),
    EventSpec("EngineFile", _FILE_TYPE, "safe_engine", _DATA),
    EventSpec(
        "ModifySAFECollateralization",
        "ModifySAFECollateralization(bytes32 indexed collateralType, address indexed safe, address collateralSource,"
        " address debtDestination, int256 deltaCollateral, int256 deltaDebt, uint256 lockedCollateral, uint256"
        " generatedDebt, uint256 globalDebt)",
        "safe_engine",
        frozenset({"globalDebt"}),
    ),
    EventSpec(
        "TransferSAFECollateralAndDebt",
        "TransferSAFECollateralAndDebt(bytes32 indexed collateralType, address indexed src, address indexed dst, int256"
        " deltaCollateral, int256 deltaDebt, uint256 srcLockedCollateral, uint256 srcGeneratedDebt, uint256"
        " dstLockedCollateral, uint256 dstGeneratedDebt)",
        "safe_engine",
    ),
    EventSpec(
        "ConfiscateSAFECollateralAndDebt",
        "ConfiscateSAFECollateralAndDebt(bytes32 indexed collateralType, address indexed safe, address"
        " collateralCounterparty, address debtCounterparty, int256 deltaCollateral, int256 deltaDebt, uint256"
        " globalUnbackedDebt)",
        "safe_engine",
        frozenset({"globalUnbackedDebt"}),
    ),
    EventSpec(
        "UpdateAccumulatedRate",
        "UpdateAccumulatedRate(bytes32 indexed collateralType, address surplusDst, int256 rateMultiplier, uint256"
        " dstCoinBalance, uint256 globalDebt)",
        "safe_engine",
        frozenset({"dstCoinBalance", "globalDebt"}),
    ),
    # Open Dollar src/contracts/SAFEEngine.sol
    EventSpec("EngineFileOD", _FILE_OD, "safe_engine"),
    EventSpec(
        "ModifySAFECollateralizationOD",
        "ModifySAFECollateralization(bytes32 indexed collateralType, address indexed safe, address collateralSource,"
        " address debtDestination, int256 deltaCollateral, int256 deltaDebt)",
        "safe_engine",
    ),
    EventSpec(
        "TransferSAFECollateralAndDebtOD",
        "TransferSAFECollateralAndDebt(bytes32 indexed collateralType, address indexed src, address indexed dst, int256"
        " deltaCollateral, int256 deltaDebt)",
        "safe_engine",
    ),
    EventSpec(
        "ConfiscateSAFECollateralAndDebtOD",
        "ConfiscateSAFECollateralAndDebt(bytes32 indexed collateralType, address indexed safe, address"
        " collateralCounterparty, address debtCounterparty, int256 deltaCollateral, int256 deltaDebt)",
        "safe_engine",
    ),
    EventSpec(
        "UpdateAccumulatedRateOD",
        "UpdateAccumulatedRate(bytes32 indexed collateralType, address surplusDst, int256 rateMultiplier)",
        "safe_engine",
    ),
    # TaxCollector.sol of both
    EventSpec("TaxFile", _FILE_TYPE, "tax_collector", _DATA),
    EventSpec("TaxFileGlobal", _FILE, "tax_collector", _DATA),
    EventSpec("TaxFileOD", _FILE_OD, "tax_collector"),
    # OracleRelayer.sol of both
    EventSpec("RelayerFile", _FILE_TYPE, "oracle_relayer", _DATA),
    EventSpec("RelayerFileGlobal", _FILE, "oracle_relayer", _DATA),
    EventSpec("RelayerFileOD", _FILE_OD, "oracle_relayer"),
    EventSpec("UpdateRedemptionPrice", "UpdateRedemptionPrice(uint256 redemptionPrice)", "oracle_relayer"),
    EventSpec("UpdateRedemptionRateOD", "UpdateRedemptionRate(uint256 redemptionRate)", "oracle_relayer"),
    EventSpec("RelayerDisabled", "DisableContract()", "oracle_relayer"),
    EventSpec(
        "UpdateCollateralPrice",
        "UpdateCollateralPrice(bytes32 indexed collateralType, uint256 priceFeedValue, uint256 safetyPrice, uint256"
        " liquidationPrice)",
        "oracle_relayer",
        frozenset({"safetyPrice", "liquidationPrice"}),
    ),
    # LiquidationEngine.sol of both
    EventSpec("LiquidationFile", _FILE_TYPE, "liquidation_engine", _DATA),
    EventSpec("LiquidationFileGlobal", _FILE, "liquidation_engine", _DATA),
    EventSpec(
        "LiquidationFileHouse",
        "ModifyParameters(bytes32 collateralType, bytes32 parameter, address data)",
        "liquidation_engine",
    ),
    EventSpec("LiquidationFileOD", _FILE_OD, "liquidation_engine"),
    EventSpec(
        "Liquidate",
        "Liquidate(bytes32 indexed collateralType, address indexed safe, uint256 collateralAmount, uint256 debtAmount,"
        " uint256 amountToRaise, address collateralAuctioneer, uint256 auctionId)",
        "liquidation_engine",
        frozenset({"amountToRaise"}),
    ),
    # CollateralAuctionHouse.sol of both: what is set, and which house it is. English auctions start with a log of the
    # shape of StartFixed; their bids tell them apart.
    EventSpec("HouseFile", _FILE, "auction_house", _DATA),
    EventSpec("HouseFileAddress", "ModifyParameters(bytes32 parameter, address data)", "auction_house"),
    EventSpec("HouseFileOD", _FILE_OD, "auction_house"),
    EventSpec(
        "StartFixed",
        f"{_START} amountToRaise, address indexed forgoneCollateralReceiver, address indexed auctionIncomeRecipient,"
        " uint256 auctionDeadline)",
        "auction_house",
        frozenset({"amountToRaise", "initialBid"}),
    ),
    EventSpec(
        "StartIncreasing",
        f"{_START} amountToRaise, uint256 startingDiscount, uint256 maxDiscount, uint256 perSecondDiscountUpdateRate,"
        " uint48 discountIncreaseDeadline, address indexed forgoneCollateralReceiver, address indexed"
        " auctionIncomeRecipient)",
        "auction_house",
        frozenset({"amountToRaise", "initialBid"}),
    ),
    EventSpec(
        "StartOD",
        "StartAuction(uint256 indexed id, address indexed auctioneer, uint256 blockTimestamp, uint256 amountToSell,"
        " uint256 amountToRaise)",
        "auction_house",
        frozenset({"amountToRaise"}),
    ),
    EventSpec(
        "IncreaseBidSize",
        "IncreaseBidSize(uint256 indexed id, address highBidder, uint256 amountToBuy, uint256 rad, uint256 bidExpiry)",
        "auction_house",
        frozenset({"rad"}),
    ),
)


def collateral_type(parameters: Mapping[str, str]) -> bytes:
    """The market's collateral type as the contracts write it; UserError where its description names none, or one that
    is no bytes32 of ASCII text.
    """
    given = parameters.get("collateral_type")
    if given is None:
        raise UserError(
            "this GEB market names no collateral type", 'add [parameters] collateral_type = "ETH-A" to its description'
        )
    if not given.isascii() or not 0 < len(given) <= 32:
        raise UserError(
            f"'{shown(given, 60)}' is no collateral type", 'give up to 32 letters, digits and signs, such as "ETH-A"'
        )
    return word(given)


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """Every contract of the collateral type that is known after reading ``raw``, by role."""
    found = {role: set(addresses) for role, addresses in contracts.items()}
    found.setdefault("liquidation_engine", set()).update(
        *(addresses for role, addresses in contracts.items() if role.startswith("liquidation_engine_"))
    )
    found.setdefault("auction_house", set()).update(houses(raw, collateral_type(raw.parameters)))
    return {role: frozenset(addresses) for role, addresses in found.items() if addresses}


def houses(raw: RawEvents, ilk: bytes) -> Iterator[str]:
    """Auction houses that the LiquidationEngine was told to use, or used."""
    for row in raw.table("LiquidationFileHouse").to_pylist():
        if row["collateral_type"] == ilk and row["parameter"] == word("collateralAuctionHouse"):
            yield address_text(row["data"])
    for row in raw.table("LiquidationFileOD").to_pylist():
        if row["collateral_type"] == ilk and row["parameter"] == word("collateralAuctionHouse"):
            yield address_text(row["data"][12:32])
    for row in raw.table("Liquidate").to_pylist():
        if row["collateral_type"] == ilk:
            yield address_text(row["collateral_auctioneer"])
