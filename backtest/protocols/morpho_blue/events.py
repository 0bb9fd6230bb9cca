"""Which logs a Morpho Blue market needs, and from whom.

Source: morpho-org/morpho-blue v1.0.0, ``src/libraries/EventsLib.sol``; morpho-org/morpho-blue-irm,
``AdaptiveCurveIrm.sol``; morpho-org/pre-liquidation and morpho-org/metamorpho, ``src/libraries/EventsLib.sol``. One
contract emits for all markets; a market's logs are those whose first indexed argument is its id. The fee recipient is
one for all markets, and so are authorisations: they are asked for where a factory made a pre-liquidation contract for
the market. A vault tells caps and queues of all its markets; those whose asset is the loan token are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backtest.errors import RulesError, UserError
from backtest.model import EventSpec, SourceChange
from backtest.protocols.interface import RawEvents

ID = "id"
"""The market's parameter that holds its id."""
FACTORY = "pre_liquidation_factory"
"""The role of the contract that makes pre-liquidation contracts; a market's description may do without."""
VAULT_FACTORIES = ("vault_factory", "vault_factory_1_1")
"""Roles of the contracts that make vaults (MetaMorpho 1.0 and 1.1); a market's description may do without."""
PRICE_SCALE_DECIMALS = 36
ZERO_ADDRESS = "0x" + "00" * 20


def _market(name: str, arguments: str) -> EventSpec:
    return EventSpec(name, f"{name}(bytes32 indexed id, {arguments})", "morpho", key=ID)


_PARAMS = "(address loanToken, address collateralToken, address oracle, address irm, uint256 lltv) marketParams"
_BY_CALLER = "address indexed caller, address indexed onBehalf"
_TO_RECEIVER = "address caller, address indexed onBehalf, address indexed receiver"

EVENTS = (
    _market("CreateMarket", _PARAMS),
    _market("SetFee", "uint256 newFee"),
    _market("Supply", f"{_BY_CALLER}, uint256 assets, uint256 shares"),
    _market("Withdraw", f"{_TO_RECEIVER}, uint256 assets, uint256 shares"),
    _market("Borrow", f"{_TO_RECEIVER}, uint256 assets, uint256 shares"),
    _market("Repay", f"{_BY_CALLER}, uint256 assets, uint256 shares"),
    _market("SupplyCollateral", f"{_BY_CALLER}, uint256 assets"),
    _market("WithdrawCollateral", f"{_TO_RECEIVER}, uint256 assets"),
    _market(
        "Liquidate",
        "address indexed caller, address indexed borrower, uint256 repaidAssets, uint256 repaidShares, uint256"
        " seizedAssets, uint256 badDebtAssets, uint256 badDebtShares",
    ),
    _market("AccrueInterest", "uint256 prevBorrowRate, uint256 interest, uint256 feeShares"),
    EventSpec("SetFeeRecipient", "SetFeeRecipient(address indexed newFeeRecipient)", "owner"),
    EventSpec(
        "BorrowRateUpdate",
        "BorrowRateUpdate(bytes32 indexed id, uint256 avgBorrowRate, uint256 rateAtTarget)",
        "irm",
        key=ID,
    ),
    EventSpec(
        "CreatePreLiquidation",
        "CreatePreLiquidation(address indexed preLiquidation, bytes32 id, (uint256 preLltv, uint256 preLCF1, uint256"
        " preLCF2, uint256 preLIF1, uint256 preLIF2, address preLiquidationOracle) preLiquidationParams)",
        FACTORY,
        wide=frozenset({"preLCF2"}),  # without an upper bound
    ),
    EventSpec(
        "PreLiquidate",
        "PreLiquidate(bytes32 indexed id, address indexed liquidator, address indexed borrower, uint256 repaidAssets,"
        " uint256 repaidShares, uint256 seizedAssets)",
        "pre_liquidation",
        key=ID,
    ),
    EventSpec(
        "SetAuthorization",
        "SetAuthorization(address indexed caller, address indexed authorizer, address indexed authorized, bool"
        " newIsAuthorized)",
        "authorizer",
    ),
    EventSpec(
        "CreateMetaMorpho",
        "CreateMetaMorpho(address indexed metaMorpho, address indexed caller, address initialOwner, uint256"
        " initialTimelock, address indexed asset, string name, string symbol, bytes32 salt)",
        "vault_maker",
    ),
    EventSpec("SetCap", "SetCap(address indexed caller, bytes32 indexed id, uint256 cap)", "vault", frozenset({"cap"})),
    EventSpec("SetSupplyQueue", "SetSupplyQueue(address indexed caller, bytes32[] newSupplyQueue)", "vault"),
    EventSpec("SetWithdrawQueue", "SetWithdrawQueue(address indexed caller, bytes32[] newWithdrawQueue)", "vault"),
)


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """The contract (role morpho, and owner for what is not of one market), the market's interest rate model, the
    pre-liquidation contracts that a factory made for it, with the contract once more as who says whom an account
    authorised, and vaults of its loan token, with their factories. See ``LendingProtocol.discover``.
    """
    models = {address_text(row["irm"]) for row in raw.table("CreateMarket").select(["irm"]).to_pylist()} - {
        ZERO_ADDRESS
    }
    known = contracts.get("morpho", frozenset())
    return {
        **contracts,
        "owner": contracts.get("owner", frozenset()) | known,
        "irm": contracts.get("irm", frozenset()) | models,
        **_by_factory(contracts, known, raw),
        **_vaults(contracts, raw),
    }


def _by_factory(
    contracts: Mapping[str, frozenset[str]], known: frozenset[str], raw: RawEvents
) -> Mapping[str, frozenset[str]]:
    made = {address_text(row["pre_liquidation"]) for row in pre_liquidations(raw)}
    made |= contracts.get("pre_liquidation", frozenset())
    return {"pre_liquidation": frozenset(made), "authorizer": known} if made else {}


def _vaults(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    makers = frozenset().union(*(contracts.get(role, frozenset()) for role in VAULT_FACTORIES))
    if not makers:
        return {}
    lent = set(tokens(raw)[:1])
    made = raw.table("CreateMetaMorpho").select(["meta_morpho", "asset"]).to_pylist()
    own = frozenset(address_text(row["meta_morpho"]) for row in made if address_text(row["asset"]) in lent)
    known = contracts.get("vault", frozenset()) | own
    return {"vault_maker": makers, **({"vault": known} if known else {})}


def pre_liquidations(raw: RawEvents) -> list[dict[str, Any]]:
    """The rows of the market's pre-liquidation contracts, in the order in which they were made."""
    table = raw.table("CreatePreLiquidation")
    if not table.num_rows:  # without a factory there is no market's id to ask for
        return []
    market = bytes.fromhex(raw.parameters[ID].removeprefix("0x"))
    return [row for row in table.to_pylist() if row["id"] == market]


def created(raw: RawEvents) -> dict[str, Any] | None:
    """The row of the market's creation; None before it.

    Raises:
        UserError: the market lends against nothing, or against its own loan token.
    """
    rows = raw.table("CreateMarket").to_pylist()
    if not rows:
        return None
    row: dict[str, Any] = rows[0]
    if address_text(row["collateral_token"]) in (ZERO_ADDRESS, address_text(row["loan_token"])):
        raise UserError(
            f"market 0x{row['id'].hex()} has no collateral of its own: nobody can borrow", "choose another market id"
        )
    return row


def tokens(raw: RawEvents) -> list[str]:
    """Loan token, collateral token."""
    row = created(raw)
    return [] if row is None else [address_text(row["loan_token"]), address_text(row["collateral_token"])]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")


def price_decimals(raw: RawEvents) -> int:
    """Decimals of the oracle's price per whole tokens: 36 + loan decimals - collateral decimals (IOracle.price)."""
    loan, collateral = (metadata(raw, token)[1] for token in tokens(raw))
    return PRICE_SCALE_DECIMALS + loan - collateral


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """The market's oracle prices its collateral, for good; the loan token is the unit."""
    row = created(raw)
    if row is None:
        return []
    loan, collateral, oracle = (address_text(row[name]) for name in ("loan_token", "collateral_token", "oracle"))
    place = row["block_number"], row["log_index"]
    return [
        SourceChange(*place, loan, ZERO_ADDRESS, oracle, fixed=10 ** price_decimals(raw)),
        SourceChange(*place, collateral, oracle, oracle, getter="price()"),
    ]
