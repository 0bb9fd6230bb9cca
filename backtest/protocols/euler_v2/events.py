"""Which logs a vault and its collaterals need, and from whom.

Sources: euler-xyz/euler-vault-kit, ``src/EVault/shared/Events.sol``, ``src/GenericFactory/GenericFactory.sol``;
euler-xyz/ethereum-vault-connector, ``src/Events.sol``; euler-xyz/euler-price-oracle, ``src/EulerRouter.sol``,
``src/adapter/chainlink/ChainlinkOracle.sol``.

The factory's log of a vault says its token, oracle and unit of account, which never change. A router's logs say what
prices each token; an adapter that reads one Chainlink feed is that feed, any other is asked through the router.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from backtest.errors import RulesError, UserError
from backtest.foreign import shown
from backtest.markets import MarketConfig
from backtest.model import EventSpec, Reading, SourceChange
from backtest.protocols.interface import RawEvents

VAULT, EVC, FACTORY, ROUTER = "vault", "evc", "factory", "router"
"""Roles: the vault that lends and its collaterals; the connector; the vaults' factory; the oracle."""
ZERO_ADDRESS = "0x" + "00" * 20
QUOTE = "getQuote(uint256,address,address)"
MODEL_GETTERS = ("baseRate()", "slope1()", "slope2()", "kink()")
_FEED, _BASE, _DECIMALS = "feed()", "base()", "decimals()"
_FIAT = 1 << 32
"""Units of account below are ISO 4217 codes, which count with 18 decimals (BaseAdapter._getDecimals)."""
_TRAILING = 60


def _of(name: str, arguments: str, emitter: str = VAULT) -> EventSpec:
    return EventSpec(name, f"{name}({arguments})", emitter)


_ACCOUNT = "address indexed account, uint256 assets"
_SHARES = "uint256 assets, uint256 shares"

EVENTS = (
    _of("EVaultCreated", "address indexed creator, address indexed asset, address dToken"),
    _of("Transfer", "address indexed from, address indexed to, uint256 value"),
    _of("Deposit", f"address indexed sender, address indexed owner, {_SHARES}"),
    _of("Withdraw", f"address indexed sender, address indexed receiver, address indexed owner, {_SHARES}"),
    _of("Borrow", _ACCOUNT),
    _of("Repay", _ACCOUNT),
    _of("InterestAccrued", _ACCOUNT),
    _of(
        "Liquidate",
        "address indexed liquidator, address indexed violator, address collateral, uint256 repayAssets, uint256"
        " yieldBalance",
    ),
    _of("PullDebt", "address indexed from, address indexed to, uint256 assets"),
    _of("DebtSocialized", _ACCOUNT),
    _of(
        "ConvertFees",
        "address indexed sender, address indexed protocolReceiver, address indexed governorReceiver, uint256"
        " protocolShares, uint256 governorShares",
    ),
    _of(
        "VaultStatus",
        "uint256 totalShares, uint256 totalBorrows, uint256 accumulatedFees, uint256 cash, uint256"
        " interestAccumulator, uint256 interestRate, uint256 at",
    ),
    _of(
        "GovSetLTV",
        "address indexed collateral, uint16 borrowLTV, uint16 liquidationLTV, uint16 initialLiquidationLTV, uint48"
        " targetTimestamp, uint32 rampDuration",
    ),
    _of("GovSetInterestRateModel", "address newInterestRateModel"),
    _of("GovSetMaxLiquidationDiscount", "uint16 newDiscount"),
    _of("GovSetLiquidationCoolOffTime", "uint16 newCoolOffTime"),
    _of("GovSetHookConfig", "address indexed newHookTarget, uint32 newHookedOps"),
    _of("GovSetConfigFlags", "uint32 newConfigFlags"),
    _of("GovSetCaps", "uint16 newSupplyCap, uint16 newBorrowCap"),
    _of("GovSetInterestFee", "uint16 newFee"),
    _of("CollateralStatus", "address indexed account, address indexed collateral, bool enabled", EVC),
    _of("AccountStatusCheck", "address indexed account, address indexed controller", EVC),
    _of("OwnerRegistered", "bytes19 indexed addressPrefix, address indexed owner", EVC),
    _of(
        "ProxyCreated",
        "address indexed proxy, bool upgradeable, address implementation, bytes trailingData",
        FACTORY,
    ),
    _of("ConfigSet", "address indexed asset0, address indexed asset1, address indexed oracle", ROUTER),
    _of("FallbackOracleSet", "address indexed fallbackOracle", ROUTER),
    _of("ResolvedVaultSet", "address indexed vault, address indexed asset", ROUTER),
)


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


class VaultTerms(NamedTuple):
    """What never changes about a vault: addresses of its token, oracle and unit of account."""

    asset: str
    oracle: str
    unit: str


def vault_of(raw: RawEvents) -> str:
    """Address of the vault that lends."""
    return raw.parameters[VAULT].lower()


def created(raw: RawEvents) -> dict[str, VaultTerms]:
    """Vaults of the factory, by address; RulesError where one's data are not those of an EVault."""
    found = {}
    wanted = {vault_of(raw), *collaterals(raw)}
    for row in raw.table("ProxyCreated").to_pylist():
        proxy, data = address_text(row["proxy"]), row["trailing_data"]
        if proxy not in wanted:
            continue
        if len(data) != _TRAILING:
            raise RulesError(
                f"block {row['block_number']}: the factory made {proxy} with {len(data)} bytes of data, an EVault has"
                f" {_TRAILING}",
                "check contracts.factory of the market",
            )
        found[proxy] = VaultTerms(*(address_text(data[at : at + 20]) for at in (0, 20, 40)))
    return found


def collaterals(raw: RawEvents) -> list[str]:
    """Vaults that the lending vault ever gave an LTV, in this order."""
    table, vault = raw.table("GovSetLTV").select(["address", "collateral"]), vault_of(raw)
    return list(dict.fromkeys(
        address_text(row["collateral"]) for row in table.to_pylist() if address_text(row["address"]) == vault
    ))  # fmt: skip


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """The vault, its collaterals and its oracle. See ``LendingProtocol.discover``."""
    vault = vault_of(raw)
    terms = created(raw).get(vault)
    return {
        **contracts,
        VAULT: contracts.get(VAULT, frozenset()) | {vault, *collaterals(raw)},
        ROUTER: contracts.get(ROUTER, frozenset()) | ({terms.oracle} if terms else set()) - {ZERO_ADDRESS},
    }


def tokens(raw: RawEvents) -> list[str]:
    """The vault's token, then its collaterals, which are tokens themselves; and a unit of account that is a token."""
    terms = created(raw).get(vault_of(raw))
    if terms is None:
        return []
    unit = [] if int(terms.unit, 16) < _FIAT or terms.unit == terms.asset else [terms.unit]
    return [terms.asset, *collaterals(raw), *unit]


def unit_decimals(raw: RawEvents, terms: VaultTerms) -> int:
    """Decimals of the unit of account."""
    return 18 if int(terms.unit, 16) < _FIAT else metadata(raw, terms.unit)[1]


def metadata(raw: RawEvents, token: str) -> tuple[str, int]:
    """Symbol and decimals of a token; RulesError where they were not read."""
    for row in raw.table("raw/chain/Token").to_pylist():
        if address_text(row["address"]) == token:
            return row["symbol"], row["decimals"]
    raise RulesError(f"nothing says the decimals of token {token}", "run the fetch again: it reads what is missing")


# -- what is read ------------------------------------------------------------------------------------------------------


def read_words(raw: RawEvents) -> dict[tuple[str, str], int | None]:
    """What views that never change returned: (address, call) to the first word; None where it gave nothing."""
    found: dict[tuple[str, str], int | None] = {}
    for row in raw.table("raw/chain/Reading").to_pylist():
        value = row["value"]
        word = int.from_bytes(value[:32], "big") if value is not None and len(value) >= 32 else None
        found[address_text(row["address"]), row["call"]] = word
    return found


def readings(raw: RawEvents) -> Iterator[Reading]:
    """What a rate model and each adapter of the router's hold in their code; then the decimals of the feeds that
    adapters name.
    """
    vault, known = vault_of(raw), read_words(raw)
    for row in raw.table("GovSetInterestRateModel").to_pylist():
        model = address_text(row["new_interest_rate_model"])
        if address_text(row["address"]) == vault and model != ZERO_ADDRESS:
            for call in MODEL_GETTERS:
                yield Reading(row["block_number"], model, call)
    units = {terms.unit for terms in [created(raw).get(vault)] if terms is not None}
    for row in raw.table("ConfigSet").to_pylist():
        adapter = address_text(row["oracle"])
        if adapter == ZERO_ADDRESS or not units & {address_text(row["asset0"]), address_text(row["asset1"])}:
            continue
        for call in (_FEED, _BASE):
            yield Reading(row["block_number"], adapter, call)
        if feed := known.get((adapter, _FEED)):
            yield Reading(row["block_number"], _address(feed), _DECIMALS)


def _address(word: int) -> str:
    return f"0x{word % (1 << 160):040x}"


# -- prices ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Feed:
    """A Chainlink feed that an adapter reads, and what its answer times gives the price."""

    address: str
    times: int


class Routing:
    """A router's configuration as its logs tell it, so far."""

    def __init__(self) -> None:
        self.adapters: dict[tuple[str, str], str] = {}
        self.resolved: dict[str, str] = {}
        self.fallback = ZERO_ADDRESS

    def take(self, event: str, row: Mapping[str, bytes]) -> None:
        """One log."""
        if event == "ConfigSet":
            self.adapters[address_text(row["asset0"]), address_text(row["asset1"])] = address_text(row["oracle"])
        elif event == "ResolvedVaultSet":
            self.resolved[address_text(row["vault"])] = address_text(row["asset"])
        else:
            self.fallback = address_text(row["fallback_oracle"])

    def adapter(self, base: str, quote: str) -> str:
        """Whom the router asks for a pair; the zero address where no one is configured (getConfiguredOracle)."""
        return self.adapters.get((min(base, quote), max(base, quote)), ZERO_ADDRESS)

    def answers(self, base: str, quote: str) -> bool:
        """Whether anybody is configured who could price a pair."""
        found = self.adapter(base, quote) != ZERO_ADDRESS or self.fallback != ZERO_ADDRESS
        return found or self.resolved.get(base, ZERO_ADDRESS) != ZERO_ADDRESS

    def by_shares(self, vault: str, asset: str, quote: str) -> bool:
        """Whether a vault's shares are priced as the tokens that they convert to (resolveOracle)."""
        return self.adapter(vault, quote) == ZERO_ADDRESS and self.resolved.get(vault) == asset


def routed(raw: RawEvents) -> list[tuple[tuple[int, int], str, Mapping[str, bytes]]]:
    """Logs of the router, in order: place, event, row."""
    return sorted(
        (
            ((row["block_number"], row["log_index"]), event, row)
            for event in ("ConfigSet", "FallbackOracleSet", "ResolvedVaultSet")
            for row in raw.table(event).to_pylist()
        ),
        key=lambda log: log[0],
    )


def price_sources(raw: RawEvents) -> list[SourceChange]:
    """What prices the vault's token and each collateral's, a whole token in the unit of account. What the router's
    adapters do not show to be a feed is asked of the router by ``getQuote``.
    """
    vaults, own = created(raw), vault_of(raw)
    terms = vaults.get(own)
    if terms is None:
        return []
    start = next(
        (row["block_number"], row["log_index"])
        for row in raw.table("ProxyCreated").to_pylist()
        if address_text(row["proxy"]) == own
    )
    priced = {terms.asset: terms.asset}
    priced |= {vault: vaults[vault].asset for vault in collaterals(raw) if vault in vaults}
    known, digits = read_words(raw), unit_decimals(raw, terms)
    decimals = {asset: metadata(raw, asset)[1] for asset in priced}  # a collateral has its token's decimals
    changes: list[SourceChange] = []
    held: dict[str, object] = {}
    routing = Routing()

    def told(place: tuple[int, int]) -> None:
        for asset, token in priced.items():
            if asset not in held and token != terms.unit and not routing.answers(token, terms.unit):
                continue  # nothing is configured yet, and the router would revert
            if token == terms.unit:
                change = SourceChange(*place, asset, ZERO_ADDRESS, terms.oracle, fixed=10**digits)
            else:
                feed = _feed(known, routing.adapter(token, terms.unit), token, digits)
                if feed is not None:
                    change = SourceChange(
                        *place, asset, feed.address, feed.address, getter="latestAnswer()", times=feed.times
                    )
                else:
                    asked = 10 ** decimals[asset], int(token, 16), int(terms.unit, 16)
                    adapter = routing.adapter(token, terms.unit)
                    source = terms.oracle if adapter == ZERO_ADDRESS else adapter
                    change = SourceChange(*place, asset, source, terms.oracle, getter=QUOTE, arguments=asked)
            what = change.source, change.getter, change.fixed
            if held.get(asset) != what:
                held[asset] = what
                changes.append(change)

    told(start)
    for place, event, row in routed(raw):
        routing.take(event, row)
        told(place)
    return changes


def _feed(known: Mapping[tuple[str, str], int | None], adapter: str, token: str, digits: int) -> Feed | None:
    """The feed of an adapter that reads one, in this direction (ChainlinkOracle)."""
    feed, base = known.get((adapter, _FEED)), known.get((adapter, _BASE))
    if not feed or base is None or _address(base) != token:
        return None
    decimals = known.get((_address(feed), _DECIMALS))
    return None if decimals is None or decimals > digits else Feed(_address(feed), 10 ** (digits - decimals))


# -- a market that no description ships of -----------------------------------------------------------------------------

# euler-xyz/euler-interfaces, addresses/1/CoreAddresses.json: evc, eVaultFactory; the block of the factory.
ETHEREUM = MarketConfig(
    name="euler-v2",
    protocol="euler-v2",
    chain_id=1,
    start_block=20_529_225,
    base_decimals=18,
    contracts={
        EVC: "0x0C9a3dd6b8F28529d72d7f9cE918D493519EE383",
        FACTORY: "0x29a56a1b8214D9Cf7c5561811750D5cBDb45CC8e",
    },
)


def describe(parameters: Mapping[str, str], known: Sequence[MarketConfig]) -> MarketConfig:
    """The market of a vault on Ethereum, in dollars. UserError where it is no address."""
    vault = parameters[VAULT].lower()
    digits = vault.removeprefix("0x")
    if len(vault) != 42 or len(digits) != 40 or not digits.isascii() or set(digits) - set("0123456789abcdef"):
        raise UserError(f"vault '{shown(parameters[VAULT], 80)}' is not an address", "give 0x and 40 hex digits")
    return msgspec.structs.replace(
        known[0] if known else ETHEREUM,
        name=f"euler-{digits[:8]}",
        description=f"Euler V2 on Ethereum: what vault {vault} lends, against its collaterals.",
        parameters={VAULT: vault},
    )
