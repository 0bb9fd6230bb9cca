"""A deployed Aave market: its contracts, the actions of users and admins as transactions, and batched reads of many
accounts.

Actions return a transaction: mine one with ``node.send(...)`` or many in one block with ``node.send_block([...])``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_abi.abi import encode

from backtest.markets import MarketConfig
from tests.chain.contracts import artifact_v30
from tests.chain.node import UINT256_MAX, ZERO, Contract, Node, Transaction

VARIABLE = 2
ReadAt = int | str


@dataclass(frozen=True, slots=True)
class Rates:
    """The kinked rate curve of one reserve, in basis points."""

    optimal: int
    base: int
    slope1: int
    slope2: int

    def encoded(self) -> bytes:
        """As ``DefaultReserveInterestRateStrategyV2`` (aave-v3-origin 3.1+) wants it."""
        return encode(["uint16", "uint32", "uint32", "uint32"], [self.optimal, self.base, self.slope1, self.slope2])

    def constructor(self) -> list[int]:
        """The nine numbers of ``DefaultReserveInterestRateStrategy`` (aave-v3-core 3.0), in ray; the stable ones play
        no part.
        """
        ray = 10**23
        return [self.optimal * ray, self.base * ray, self.slope1 * ray, self.slope2 * ray, 0, 0, 0, 0, 2000 * ray]


@dataclass(slots=True)
class Feed:
    """A price feed: the aggregator that answers now (8 decimals), and the proxy in front of it, if any."""

    aggregator: Contract
    proxy: Contract | None = None

    @property
    def address(self) -> str:
        """What an oracle or an adapter reads."""
        return (self.proxy or self.aggregator).address

    def transmit(self, answer: int) -> Transaction:
        return self.aggregator.transaction("transmit", answer)


@dataclass(slots=True)
class Reserve:
    """One reserve. ``source`` is the address that the oracle reads; ``feed`` is the feed at the bottom of it."""

    symbol: str
    id: int
    decimals: int
    asset: Contract
    a_token: Contract
    debt_token: Contract
    feed: Feed
    source: str

    @property
    def unit(self) -> int:
        return int(10**self.decimals)


@dataclass(slots=True)
class Deployment:
    """See the module. ``version`` is "3.0" or "3.6", the version of the pool; ``ratio`` is the exchange rate under
    wstETH's price.
    """

    node: Node
    version: str
    provider: Contract
    pool: Contract
    configurator: Contract
    oracle: Contract
    data_provider: Contract
    acl: Contract
    treasury: str
    reader: Contract
    ratio: Contract
    start_block: int
    reserves: dict[str, Reserve] = field(default_factory=dict)

    def market_config(self, name: str = "local-aave") -> MarketConfig:
        contracts = {
            "provider": self.provider,
            "pool": self.pool,
            "configurator": self.configurator,
            "oracle": self.oracle,
        }
        return MarketConfig(
            name=name,
            protocol="aave-v3",
            chain_id=self.node.chain_id,
            start_block=self.start_block,
            contracts={role: contract.address for role, contract in contracts.items()},
        )

    def _asset(self, symbol: str) -> str:
        return self.reserves[symbol].asset.address

    # -- users -------------------------------------------------------------------------------------------------------
    def supply(self, user: str, symbol: str, amount: int, on_behalf_of: str | None = None) -> Transaction:
        return self.pool.transaction("supply", self._asset(symbol), amount, on_behalf_of or user, 0, sender=user)

    def withdraw(self, user: str, symbol: str, amount: int = UINT256_MAX, to: str | None = None) -> Transaction:
        return self.pool.transaction("withdraw", self._asset(symbol), amount, to or user, sender=user)

    def borrow(self, user: str, symbol: str, amount: int, mode: int = VARIABLE) -> Transaction:
        """``mode`` 1 is stable debt: 3.0 only, after ``configure("setReserveStableRateBorrowing", symbol, True)``."""
        return self.pool.transaction("borrow", self._asset(symbol), amount, mode, 0, user, sender=user)

    def repay(
        self, user: str, symbol: str, amount: int = UINT256_MAX, on_behalf_of: str | None = None, mode: int = VARIABLE
    ) -> Transaction:
        return self.pool.transaction("repay", self._asset(symbol), amount, mode, on_behalf_of or user, sender=user)

    def repay_with_a_tokens(self, user: str, symbol: str, amount: int = UINT256_MAX) -> Transaction:
        return self.pool.transaction("repayWithATokens", self._asset(symbol), amount, VARIABLE, sender=user)

    def transfer(self, user: str, to: str, symbol: str, amount: int) -> Transaction:
        """Move aTokens."""
        return self.reserves[symbol].a_token.transaction("transfer", to, amount, sender=user)

    def set_collateral(self, user: str, symbol: str, enabled: bool) -> Transaction:
        return self.pool.transaction("setUserUseReserveAsCollateral", self._asset(symbol), enabled, sender=user)

    def set_emode(self, user: str, category: int) -> Transaction:
        return self.pool.transaction("setUserEMode", category, sender=user)

    def liquidate(
        self,
        liquidator: str,
        collateral: str,
        debt: str,
        user: str,
        amount: int = UINT256_MAX,
        receive_a_token: bool = False,
    ) -> Transaction:
        args = self._asset(collateral), self._asset(debt), user, amount, receive_a_token
        return self.pool.transaction("liquidationCall", *args, sender=liquidator)

    def mint_to_treasury(self, *symbols: str) -> Transaction:
        return self.pool.transaction("mintToTreasury", [self._asset(symbol) for symbol in symbols or self.reserves])

    # -- admins ------------------------------------------------------------------------------------------------------
    def configure_collateral(self, symbol: str, ltv: int, threshold: int, bonus: int) -> Transaction:
        """Basis points; ``bonus`` is 10000 + bonus."""
        return self.configurator.transaction("configureReserveAsCollateral", self._asset(symbol), ltv, threshold, bonus)

    def configure(self, function: str, symbol: str, *args: int | bool) -> Transaction:
        """Any other configurator function whose first argument is the asset: setLiquidationProtocolFee,
        setReserveFactor, setReservePause...
        """
        return self.configurator.transaction(function, self._asset(symbol), *args)

    def set_protocol_fee(self, symbol: str, fee: int) -> Transaction:
        return self.configure("setLiquidationProtocolFee", symbol, fee)

    def set_reserve_factor(self, symbol: str, factor: int) -> Transaction:
        return self.configure("setReserveFactor", symbol, factor)

    def set_paused(self, symbol: str, paused: bool, grace: int = 0) -> Transaction:
        """``grace`` (seconds) stays liquidations after unpausing; 3.1 and later only."""
        if grace:
            return self.configure("setReservePause(address,bool,uint40)", symbol, paused, grace)
        return self.configure("setReservePause(address,bool)", symbol, paused)

    def set_emode_category(self, category: int, ltv: int, threshold: int, bonus: int, label: str) -> Transaction:
        oracle = [ZERO] if self.version == "3.0" else []
        return self.configurator.transaction("setEModeCategory", category, ltv, threshold, bonus, *oracle, label)

    def set_emode_assets(
        self, category: int, collateral: Sequence[str], borrowable: Sequence[str] = (), *, member: bool = True
    ) -> list[Transaction]:
        """3.0: put the assets into the category, or into none. 3.6: set or clear their collateral and borrowable
        bits.
        """
        if self.version == "3.0":
            return [self.configure("setAssetEModeCategory", symbol, category if member else 0) for symbol in collateral]
        flags = [("setAssetCollateralInEMode", symbol) for symbol in collateral] + [
            ("setAssetBorrowableInEMode", symbol) for symbol in borrowable
        ]
        return [self.configure(function, symbol, category, member) for function, symbol in flags]

    def set_rates(self, symbol: str, rates: Rates) -> Transaction:
        """3.0: deploys a strategy (a block of its own) and points the reserve to it. 3.6: new data of the one
        strategy.
        """
        if self.version == "3.0":
            strategy = self.node.deploy(
                artifact_v30("DefaultReserveInterestRateStrategy"), self.provider.address, *rates.constructor()
            )
            return self.configurator.transaction(
                "setReserveInterestRateStrategyAddress", self._asset(symbol), strategy.address
            )
        return self.configurator.transaction("setReserveInterestRateData", self._asset(symbol), rates.encoded())

    def set_source(self, symbol: str, source: str) -> Transaction:
        self.reserves[symbol].source = source
        return self.oracle.transaction("setAssetSources", [self._asset(symbol)], [source])

    # -- reads -------------------------------------------------------------------------------------------------------
    def account_data(self, accounts: Sequence[str], block: ReadAt = "latest") -> list[tuple[int, ...] | None]:
        """``getUserAccountData`` of every account at the end of ``block``: collateral and debt (base units),
        borrowable, threshold, ltv (bps), health factor (wad); None where it reverts.
        """
        rows = self._words("accountData", self.pool.address, list(accounts), block=block, width=7)
        return [row[1:] if row[0] else None for row in rows]

    def user_configuration(self, accounts: Sequence[str], block: ReadAt = "latest") -> list[int]:
        """The pool's bitmap per account: bit 2i borrows reserve i, bit 2i + 1 uses it as collateral."""
        return [row[0] for row in self._words("settings", self.pool.address, list(accounts), block=block, width=2)]

    def user_emode(self, accounts: Sequence[str], block: ReadAt = "latest") -> list[int]:
        return [row[1] for row in self._words("settings", self.pool.address, list(accounts), block=block, width=2)]

    def scaled_balances(self, accounts: Sequence[str], block: ReadAt = "latest") -> list[tuple[int, ...]]:
        """Per account the scaled aToken balances of all reserves in id order, then the scaled debts."""
        return self._balances(accounts, block, True)

    def balances(self, accounts: Sequence[str], block: ReadAt = "latest") -> list[tuple[int, ...]]:
        """As ``scaled_balances``, with interest up to the block: ``balanceOf``."""
        return self._balances(accounts, block, False)

    def prices(self, block: ReadAt = "latest") -> dict[str, int]:
        """The oracle's price per symbol, 8 decimals."""
        values = self.oracle.call("getAssetsPrices", [self._asset(symbol) for symbol in self.reserves], block=block)
        return dict(zip(self.reserves, values, strict=True))

    def _balances(self, accounts: Sequence[str], block: ReadAt, scaled: bool) -> list[tuple[int, ...]]:
        tokens = [r.a_token.address for r in self.reserves.values()] + [
            r.debt_token.address for r in self.reserves.values()
        ]
        return self._words("balances", tokens, list(accounts), scaled, block=block, width=len(tokens))

    def _words(self, function: str, *args: object, block: ReadAt, width: int) -> list[tuple[int, ...]]:
        data = self.node.call(self.reader.address, self.reader.function(function).encode(args), block=block)
        words = [int.from_bytes(data[i : i + 32]) for i in range(64, len(data), 32)]
        return [tuple(words[i : i + width]) for i in range(0, len(words), width)]
