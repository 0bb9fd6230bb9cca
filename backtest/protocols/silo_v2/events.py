"""Which logs a market needs, from whom, and what its contracts are asked.

Source: silo-finance/silo-contracts-v2 at 340a49b8, ``silo-core/contracts/interfaces/ISilo.sol``,
``IPartialLiquidation.sol``, ``ISiloConfig.sol``; the same logs since 1.0.0. Terms never change: they are read from the
market's ``SiloConfig`` at the end of the block of the first log of silo 0 (``HooksUpdated``, when it was made), and so
are the rate models. Which silo backs an account's debt is read where a log says that it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.interface import RawEvents
from backtest.protocols.silo_v2.irm import Gains
from backtest.protocols.silo_v2.state import SILOS

SILO, SHARE, HOOK = "silo", "share", "hook"
"""Roles: both silos, which are the tokens of what they lend; the tokens of protected collateral and of debt; the hook
that liquidates.
"""
MARKET_ROLES = ("silo0", "silo1", "protected0", "protected1", "debt0", "debt1", HOOK)
"""What the market's description names."""
ZERO_ADDRESS = "0x" + "00" * 20
PRICE_DIGITS = 18
"""Decimals of a price below a base unit: the oracle is asked for 10^18 whole tokens."""
QUOTE = "quote(uint256,address)"
_SHARES = "uint256 assets, uint256 shares"


def _silo(name: str, arguments: str) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", SILO)


_TRANSFER = "Transfer(address indexed from, address indexed to, uint256 value)"
EVENTS = (
    _silo("HooksUpdated", "uint24 hooksBefore, uint24 hooksAfter"),
    _silo("AccruedInterest", "uint256 interest"),
    _silo("InterestRateModelError", ""),
    _silo("Deposit", f"address indexed sender, address indexed owner, {_SHARES}"),
    _silo("DepositProtected", f"address indexed sender, address indexed owner, {_SHARES}"),
    _silo("Withdraw", f"address indexed sender, address indexed receiver, address indexed owner, {_SHARES}"),
    _silo("WithdrawProtected", f"address indexed sender, address indexed receiver, address indexed owner, {_SHARES}"),
    _silo("Borrow", f"address indexed sender, address indexed receiver, address indexed owner, {_SHARES}"),
    _silo("Repay", f"address indexed sender, address indexed owner, {_SHARES}"),
    _silo("CollateralTypeChanged", "address indexed borrower"),
    _silo("WithdrawnFees", "uint256 daoFees, uint256 deployerFees, bool redirected"),
    _silo("WithdrawnFeed", "uint256 daoFees, uint256 deployerFees"),
    EventSpec("Transfer", _TRANSFER, SILO),
    EventSpec("ShareTransfer", _TRANSFER, SHARE),
    EventSpec(
        "LiquidationCall",
        "LiquidationCall(address indexed liquidator, address indexed silo, address indexed borrower, uint256"
        " repayDebtAssets, uint256 withdrawCollateral, bool receiveSToken)",
        HOOK,
    ),
    EventSpec(
        "DefaultingLiquidation", "DefaultingLiquidation(uint256 canceledDebt, uint256 deductedFromCollateral)", HOOK
    ),
)

CONFIG, OF_SILO, FRACTIONS = "config()", "getConfig(address)", "getFractionsStorage()"
BACKING = "borrowerCollateralSilo(address)"
_FIELDS = (
    "dao_fee", "deployer_fee", "silo", "token", "protected", "collateral", "debt", "solvency_oracle", "max_ltv_oracle",
    "model", "ltv", "liquidation_threshold", "liquidation_target_ltv", "liquidation_fee", "flashloan_fee", "hook",
    "call_before_quote",
)  # fmt: skip
"""Words of ``ISiloConfig.ConfigData``."""
_MODEL = (*Gains._fields, "ri", "t_crit")
"""Words of ``IInterestRateModelV2.Config``."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a market was made with: where, its ``SiloConfig``, and of each silo the words of its configuration and of
    its rate model. ``fractions``: of 3.0.0 or later, which keep what rounding leaves of interest.
    """

    block_number: int
    log_index: int
    config: str
    silos: tuple[Mapping[str, int], Mapping[str, int]]
    models: tuple[Mapping[str, int], Mapping[str, int]]
    fractions: bool

    def address(self, silo: int, name: str) -> str:
        """An address among a silo's words."""
        return address_of(self.silos[silo][name])


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def address_of(word: int) -> str:
    """The address that a word is."""
    return f"0x{word % 2**160:040x}"


def discover(contracts: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
    """The two silos and the other four tokens under one role each."""
    found = dict(contracts)
    found[SILO] = frozenset().union(*(contracts.get(f"silo{n}", frozenset()) for n in SILOS))
    found[SHARE] = frozenset().union(
        *(contracts.get(f"{kind}{n}", frozenset()) for kind in ("protected", "debt") for n in SILOS)
    )
    return found


Words = Mapping[tuple[int, str, str], list[int]]


def words_read(raw: RawEvents) -> Words:
    """What was read: (block, address, call) to words; none where the call gave nothing."""
    found = {}
    for row in raw.table("raw/chain/Reading").to_pylist():
        data = row["value"] or b""
        words = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data) - 31, 32)]
        found[row["block_number"], address_text(row["address"]), row["call"]] = words
    return found


def _begun(raw: RawEvents) -> tuple[int, int, str] | None:
    """Block, log index and emitter of the first log: silo 0's."""
    rows = raw.table("HooksUpdated").slice(0, 1).to_pylist()
    return (rows[0]["block_number"], rows[0]["log_index"], address_text(rows[0]["address"])) if rows else None


def call_of(function: str, *arguments: int) -> str:
    """A reading as it is stored."""
    return Reading(0, "", function, arguments).call


def readings(raw: RawEvents) -> Iterator[Reading]:
    """What the market was made with, then its rate models, then which silo backs whose debt; see the module."""
    begun = _begun(raw)
    if begun is None:
        return
    block, _, silo = begun
    known = words_read(raw)
    yield Reading(block, silo, CONFIG)
    yield Reading(block, silo, FRACTIONS)
    told = known.get((block, silo, CONFIG))
    if not told:
        return
    config = address_of(told[0])
    silos = [silo, *(each for each in _emitters(raw) if each != silo)]
    for each in silos:
        yield Reading(block, config, OF_SILO, (int(each, 16),))
        words = known.get((block, config, call_of(OF_SILO, int(each, 16))))
        if words and len(words) == len(_FIELDS):
            yield Reading(block, address_of(words[_FIELDS.index("model")]), OF_SILO, (int(each, 16),))
    for row, account in backing_changes(raw):
        yield Reading(row["block_number"], config, BACKING, (int.from_bytes(account, "big"),))


def _emitters(raw: RawEvents) -> list[str]:
    """Both silos, in the order in which they were made."""
    return list(dict.fromkeys(map(address_text, raw.table("HooksUpdated")["address"].to_pylist())))


def backing_changes(raw: RawEvents) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """Logs that say that another silo backs a debt, each with whose: the borrower of the ``Borrow`` right before it
    (the log itself names who called), or of one by itself whom it names.
    """
    borrowed = {row["seq"]: row for row in raw.table("Borrow").to_pylist()}
    for row in raw.table("CollateralTypeChanged").to_pylist():
        before = borrowed.get(row["seq"] - 1)
        with_loan = before is not None and before["transaction_hash"] == row["transaction_hash"]
        yield row, before["owner"] if before is not None and with_loan else row["borrower"]


def made(raw: RawEvents) -> Origin | None:
    """What the market was made with; None while it has no log, or that is not read yet.

    Raises:
        RulesError: it is no market of Silo V2, or its rate models are others.
    """
    begun = _begun(raw)
    if begun is None:
        return None
    block, log, silo = begun
    known = words_read(raw)
    told, emitters = known.get((block, silo, CONFIG)), _emitters(raw)
    if told is None:
        return None
    if not told or len(emitters) != len(SILOS):
        raise RulesError(
            f"block {block}: the contract {silo} does not answer as a silo does, or is not one of two",
            "check contracts.silo0 and silo1 of the market; a node with the state of that block is needed",
        )
    config, silos, models = address_of(told[0]), [], []
    for each in emitters:
        argument = int(each, 16)
        words = known.get((block, config, call_of(OF_SILO, argument)))
        if words is None:
            return None
        if len(words) != len(_FIELDS):
            raise RulesError(
                f"block {block}: the SiloConfig {config} does not say what {each} was made with",
                "fetch with a node that has that block's state",
            )
        own = dict(zip(_FIELDS, words, strict=True))
        model = address_of(own["model"])
        answered = known.get((block, model, call_of(OF_SILO, argument)))
        if answered is None:
            return None
        if len(answered) != len(_MODEL):
            raise RulesError(
                f"block {block}: the rate model {model} of silo {each} is no InterestRateModelV2",
                "markets with another model (DynamicKinkModel, fixed rates) are not supported: their interest between"
                " calls would be a guess",
            )
        silos.append(own)
        models.append({name: _signed(word) for name, word in zip(_MODEL, answered, strict=True)})
    fractions = bool(known.get((block, silo, FRACTIONS)))
    return Origin(block, log, config, (silos[0], silos[1]), (models[0], models[1]), fractions)


def _signed(word: int) -> int:
    return word - 2**256 if word >> 255 else word


def checked(config: MarketConfig, origin: Origin) -> None:
    """Hold the addresses of a description against what the contracts say. UserError names what to write."""
    for n in SILOS:
        said = {"silo": "silo", "protected": "protected", "debt": "debt"}
        wanted = {f"{role}{n}": origin.address(n, name) for role, name in said.items()} | {
            HOOK: origin.address(n, HOOK)
        }
        for role, address in wanted.items():
            if config.contracts.get(role, "").lower() != address:
                raise UserError(
                    f"market '{config.name}': contracts.{role} is {config.contracts.get(role)}, its SiloConfig says"
                    f" {address}",
                    f'write {role} = "{address}" and fetch again',
                )


def tokens(raw: RawEvents) -> list[str]:
    """The silos' tokens, then the tokens of protected collateral."""
    origin = made(raw)
    return [] if origin is None else [origin.address(n, name) for name in ("token", "protected") for n in SILOS]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """Each token's solvency oracle, asked for 10^18 whole tokens; a token without one is worth its own units. Protected
    collateral is worth what its token is.
    """
    origin = made(raw)
    if origin is None:
        return []
    place, found = (origin.block_number, origin.log_index), []
    for n in SILOS:
        token, oracle = origin.address(n, "token"), origin.address(n, "solvency_oracle")
        whole = 10 ** (metadata(raw, token)[1] + PRICE_DIGITS)
        for asset in (token, origin.address(n, "protected")):
            if oracle == ZERO_ADDRESS:
                found.append(SourceChange(*place, asset, oracle, origin.config, fixed=whole))
            else:
                asked = (whole, int(token, 16))
                found.append(SourceChange(*place, asset, oracle, oracle, getter=QUOTE, arguments=asked))
    return found
