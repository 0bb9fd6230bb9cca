"""A market in use, from the first deposit to the aftermath of a crash: one deterministic script, on 3.0, on 3.6, or
upgraded half way.

Timeline: a quiet week of deposits, loans and interest; the two days of 2020-03-12 and 13 in steps of ten minutes, with
oracle reports by deviation and heartbeat, users who go on living, and liquidators who come late, in time or too early;
three days after it.
The calm variant has the same people under flat prices: nobody is liquidated and no call is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from tests.chain import path
from tests.chain.aave import FIRST_RATIO, TREASURY, deploy_v30, deploy_v36, upgrade_v30_to_v36
from tests.chain.contracts import own
from tests.chain.deployment import Deployment, Feed, Rates
from tests.chain.node import GENESIS_TIME, Node, Transaction, revert_name
from tests.chain.players import Players, Wish

Version = Literal["3.0", "3.6", "upgraded"]
DAY, STEP = 86_400, 600
START = GENESIS_TIME - 7 * DAY  # start a node with Node(timestamp=START)
UMBRELLA = "0x00000000000000000000000000000000000c07e2"


@dataclass(frozen=True, slots=True)
class Request:
    """One liquidationCall as it was sent. ``amount`` is its debtToCover; ``error`` is "" where it succeeded."""

    block: int
    transaction_hash: str
    liquidator: str
    collateral: str
    debt: str
    user: str
    amount: int
    receive_a_token: bool
    error: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transaction that was mined and failed."""

    block: int
    transaction_hash: str
    kind: str
    error: str


@dataclass(slots=True)
class Record:
    """What happened. ``deployment`` is the market as it is at the end; its node still runs.

    ``accounts`` are all that can hold anything: users, liquidators, treasury. ``samples`` are blocks in order, spread
    over the whole history and including the block of every mark; ``marks`` name blocks (upgrade, phase, source, ratio,
    parameter, pause, ...). ``done`` and ``refused`` count and name transactions by kind.
    """

    deployment: Deployment
    version: Version
    accounts: list[str]
    requests: list[Request] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    marks: dict[str, list[int]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    last_block: int = 0

    @property
    def liquidations(self) -> list[Request]:
        """The requests that succeeded."""
        return [request for request in self.requests if not request.error]


class _Script:
    def __init__(self, node: Node, version: Version, accounts: int, seed: int, calm: bool, fall: path.Fall) -> None:
        self.node, self.version, self.calm = node, version, calm
        self.market = deploy_v36(node) if version == "3.6" else deploy_v30(node)
        self.players = Players(accounts, seed, cautious=calm)
        everyone = [*self.players.accounts, *self.players.liquidators, UMBRELLA, TREASURY]
        self.record = Record(self.market, version, everyone)
        self.keeper = path.Keeper()
        self.path: path.Path = path.calm if calm else fall.prices
        self.midnight = fall.midnight
        self.ratio = FIRST_RATIO
        self.flash = node.deploy(own("FlashBorrower.sol")["FlashBorrower"]).address

    # -- blocks ------------------------------------------------------------------------------------------------------
    def block(self, wishes: Iterable[Wish], at: int | None = None) -> None:
        """Mine the wishes in one block, at a time if given; count what succeeded and name what did not."""
        wishes = list(wishes)
        receipts = self.node.send_block([wish.transaction for wish in wishes], timestamp=at)
        for wish, receipt in zip(wishes, receipts, strict=True):
            if receipt["status"] == "0x1":
                self.record.done[wish.kind] += 1
            else:
                self._refused(wish.kind, receipt)

    def _refused(self, kind: str, receipt: dict[str, str]) -> str:
        error = revert_name(self.node, receipt["transactionHash"])
        self.record.refused.append(Refusal(int(receipt["blockNumber"], 16), receipt["transactionHash"], kind, error))
        return error

    def reports_and_liquidations(self, hours: float, at: int, *, below: int, zeal: float) -> None:
        """Oracle reports and, behind them in the same block, liquidations. Those who look ahead (``below`` above one)
        may be refused.
        """
        feeds = {symbol: reserve.feed for symbol, reserve in self.market.reserves.items()}
        head = [Wish("report", report) for report in self.keeper.due(feeds, self.path(hours), at)]
        spare = hours < 30
        attempts = [] if self.calm else self.players.attempts(self.market, below, zeal=zeal, spare_neglected=spare)
        tail = [
            self.market.liquidate(a.liquidator, a.collateral, a.debt, a.user, a.amount, a.receive_a_token)
            for a in attempts
        ]
        receipts = self.node.send_block([wish.transaction for wish in head] + tail, timestamp=at)
        self.record.done["report"] += len(head)
        for a, receipt in zip(attempts, receipts[len(head) :], strict=True):
            error = "" if receipt["status"] == "0x1" else self._refused("liquidate", receipt)
            self.record.done["liquidate"] += not error
            block, digest = int(receipt["blockNumber"], 16), receipt["transactionHash"]
            request = Request(
                block, digest, a.liquidator, a.collateral, a.debt, a.user, a.amount, a.receive_a_token, error
            )
            self.record.requests.append(request)

    def mark(self, name: str, *transactions: Transaction) -> None:
        """Mine these in a block that carries a name and is sampled; none of them may fail."""
        self.block([Wish(name, transaction) for transaction in transactions])
        block = self.node.block_number
        if any(refusal.block == block for refusal in self.record.refused):
            raise RuntimeError(f"'{name}' was refused: {self.record.refused[-1].error}")
        self.record.marks.setdefault(name, []).append(block)
        self.record.samples += [block - 1, block]

    # -- the story ---------------------------------------------------------------------------------------------------
    def run(self) -> Record:
        self._open()
        if self.calm:
            self._live([hour / 2 for hour in range(96)], everyday=6, events={})
        else:
            self._live([step / 6 for step in range(288)], everyday=6, events=self._events())
        self._live([48 + 12 * i for i in range(1, 7)], everyday=10, events={})
        self._close()
        self.record.deployment = self.market
        self.record.last_block = self.node.block_number
        self.record.samples = sorted({*self.record.samples, self.record.last_block})
        return self.record

    def _open(self) -> None:
        """Money for everyone, then the first positions, then five quiet days."""
        players, people = self.players, [*self.players.accounts, *self.players.liquidators, UMBRELLA, self.flash]
        for reserve in self.market.reserves.values():
            self.block([Wish("mint", reserve.asset.transaction("mintMany", people, 10**9 * reserve.unit))])
        if self.path is path.may:  # reserves are listed at the prices of 2020
            prices = self.path(0)
            self.block([Wish("report", self.market.reserves[each].feed.transmit(prices[each])) for each in prices])
        self.block(players.first_supplies(self.market))
        self.block(players.first_emodes(self.market))
        self.block(players.first_borrows(self.market))
        self._live([-120 + 24 * day for day in range(5)], everyday=12, events={})

    def _live(self, hours: list[float], *, everyday: int, events: dict[int, Callable[[], None]]) -> None:
        for i, hour in enumerate(hours):
            at = max(int(self.midnight + hour * 3600), self.node.timestamp() + 12)
            self.reports_and_liquidations(hour, at, below=10**18 * 101 // 100, zeal=0.15)
            self.players.look(self.market, everyone=i % 3 == 0)
            self.reports_and_liquidations(hour, at + 12, below=10**18, zeal=0.5)
            self.block(self.players.everyday(self.market, everyday))
            if i in events:
                events[i]()
            if i % 8 == 0:
                self.record.samples.append(self.node.block_number)
            if i % 24 == 12:
                self._grow_ratio(self.ratio // 10_000)
                self.mark("treasury", self.market.mint_to_treasury())

    def _grow_ratio(self, growth: int) -> None:
        self.ratio += growth
        self.mark("ratio", self.market.ratio.transaction("setRatio", self.ratio))

    def _events(self) -> dict[int, Callable[[], None]]:
        """What the admins do, by step of ten minutes."""

        def on(name: str, *build: Callable[[], Transaction]) -> Callable[[], None]:
            return lambda: self.mark(name, *(make() for make in build))

        def m() -> Deployment:
            return self.market  # another object after the upgrade

        return {
            20: on("threshold", lambda: m().configure_collateral("LINK", 5000, 6500, 10750)),
            35: on("bonus", lambda: m().configure_collateral("WBTC", 7000, 7600, 10800)),
            40: on("member", lambda: m().set_emode_assets(2, ["LINK"])[0]),
            45: on("flash loan", lambda: self._flash_loan("USDC", 3_000_000), lambda: self._flash_loan("WETH", 900)),
            50: on(
                "protocol fee", lambda: m().set_protocol_fee("WETH", 2000), lambda: m().set_protocol_fee("wstETH", 0)
            ),
            62: on("pause", lambda: m().set_paused("LINK", True)),
            68: on("unpause", lambda: m().set_paused("LINK", False, 0 if m().version == "3.0" else 3600)),
            80: on("reserve factor", lambda: m().set_reserve_factor("USDC", 2500)),
            90: on("e-mode", lambda: m().set_emode_category(1, 9000, 9300, 10150, "ETH correlated")),
            100: on("rates", lambda: m().set_rates("DAI", Rates(9000, 50, 600, 6000))),
            110: self._change_phase,
            120: self._upgrade if self.version == "upgraded" else lambda: None,
            130: on(
                "cap",
                lambda: m().configure("setBorrowCap", "LINK", 1_000_000),
                lambda: m().configure("setSupplyCap", "WBTC", 5_000_000),
            ),
            150: self._change_source,
            160: on("member", lambda: m().set_emode_assets(2, ["LINK"], member=False)[0]),
            170: on("freeze", lambda: m().configure("setReserveFreeze", "WBTC", True)),
            200: on("unfreeze", lambda: m().configure("setReserveFreeze", "WBTC", False)),
            220: on("flash loan", lambda: self._flash_loan("DAI", 1_000_000)),
        }

    def _flash_loan(self, symbol: str, amount: int) -> Transaction:
        reserve = self.market.reserves[symbol]
        return self.market.pool.transaction(
            "flashLoanSimple", self.flash, reserve.asset.address, amount * reserve.unit, b"", 0
        )

    def _change_phase(self) -> None:
        """A new aggregator behind ETH's proxy: it answers for a while before the proxy turns to it, with a price of its
        own and no log then.
        """
        feed = self.market.reserves["WETH"].feed
        assert feed.proxy is not None
        price = self.path(110 / 6)["WETH"] * 999 // 1000
        fresh = self.node.deploy(own("Feeds.sol")["Aggregator"], 8, "WETH / USD", price)
        self.mark("phase", feed.proxy.transaction("setAggregator", fresh.address))
        feed.aggregator = fresh

    def _change_source(self) -> None:
        """LINK's source becomes a proxy over a new aggregator."""
        code, price = own("Feeds.sol"), self.path(25)["LINK"] * 1003 // 1000
        aggregator = self.node.deploy(code["Aggregator"], 8, "LINK / USD", price)
        feed = Feed(aggregator, self.node.deploy(code["FeedProxy"], aggregator.address))
        self.mark("source", self.market.set_source("LINK", feed.address))
        self.market.reserves["LINK"].feed = feed

    def _upgrade(self) -> None:
        self.market = upgrade_v30_to_v36(self.market)
        block = self.node.block_number
        self.record.marks["upgrade"] = [block]
        self.record.samples += [block - 1, block]

    def _close(self) -> None:
        """Liquidators take some winnings out; on 3.6 part of the bad debt is covered."""
        market, liquidators = self.market, self.players.liquidators
        for liquidator, holding in zip(liquidators, self.players.holdings(market, liquidators), strict=True):
            self.block(
                [
                    Wish("withdraw", market.withdraw(liquidator, symbol, amount // 2))
                    for symbol, amount in holding.supplied.items()
                ]
            )
        if market.version == "3.0":
            return
        self.block(
            [Wish("umbrella", market.provider.transaction("setAddress", b"UMBRELLA".ljust(32, b"\0"), UMBRELLA))]
        )
        for symbol, reserve in market.reserves.items():
            deficit = market.pool.call("getReserveDeficit", reserve.asset.address)
            if deficit:
                cover = market.pool.transaction(
                    "eliminateReserveDeficit", reserve.asset.address, max(1, deficit // 2), sender=UMBRELLA
                )
                self.mark("deficit covered", market.supply(UMBRELLA, symbol, deficit + 2), cover)


def run(
    node: Node,
    version: Version,
    *,
    accounts: int = 220,
    seed: int = 1,
    calm: bool = False,
    fall: path.Fall = path.MARCH,
) -> Record:
    """Play the script on a fresh node, started with ``Node(timestamp=START)``.

    Args:
        version: "3.0", "3.6", or "upgraded" (3.0 that becomes 3.6 in the middle of the crash).
        accounts: users, at least 100 for every kind of user to occur.
        seed: of all dice: the same seed gives the same blocks.
        calm: flat prices; no liquidation, no refused call.
        fall: what prices do otherwise, and when; start the node a week before its midnight.
    """
    return _Script(node, version, accounts, seed, calm, fall).run()
