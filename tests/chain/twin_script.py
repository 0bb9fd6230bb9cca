"""What everyone does on both twin chains (``tests/chain/twin.py``): fixed before anything is mined, from a seed and the
script's own prices.

Amounts are native units that depend on nothing a chain says; who wants all says so (``UINT256_MAX``). Accounts have
roles: lenders and safe borrowers who live at random, and borrowers near an edge whose every step is written down, so
that a step which fails under history's parameters fails under every change too (``Step.fails``), while many steps that
pass there are refused under a stricter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from eth_utils.crypto import keccak

from tests.chain.aave import LISTINGS
from tests.chain.deployment import Deployment, Rates
from tests.chain.node import GENESIS_TIME, UINT256_MAX, Transaction

DAY = 86_400
START = GENESIS_TIME - 30 * DAY
UMBRELLA = "0x00000000000000000000000000000000000c07e2"
SLOTS, SLOT_EVERY = 5, 6
"""Blocks kept free for changed parameters, and how many blocks apart they are."""

Key = tuple[str | int, str]
Values = dict[Key, int]

ROLES = {
    "lender": 8,
    "safe": 8,
    "crowd": 14,
    "twin": 2,
    "climber": 5,
    "leaver": 6,
    "giver": 2,
    "flagger": 1,
    "mover": 1,
    "staker": 2,
    "stable": 2,
    "dust": 3,
    "doomed": 3,
    "looper": 3,
    "major": 2,
    "nobody": 1,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One user transaction. ``fails``: meant to revert, under any parameters."""

    kind: str
    who: str
    transaction: Transaction
    fails: bool = False
    wild: bool = False


@dataclass(slots=True)
class Block:
    """One block, ``seconds`` after the start: users, then a price report (answers by feed) with the bot behind it, then
    users; or governance alone (``values`` it sets, other ``governance``); or a ``slot``.
    """

    seconds: int
    before: list[Step] = field(default_factory=list)
    report: dict[str, int] = field(default_factory=dict)
    after: list[Step] = field(default_factory=list)
    values: Values = field(default_factory=dict)
    governance: list[Transaction] = field(default_factory=list)
    slot: bool = False


class Script:
    """All blocks, made at once. ``names`` gives addresses by name; ``flash`` is a FlashBorrower with money.

    ``wild``: so many steps at random by borrowers at the edge before and after each report, which may fail anywhere
    (``Step.wild``).
    """

    short = False
    """Whether a reserve may run out of what it pays with."""

    def __init__(self, market: Deployment, flash: str, *, seed: int = 7, wild: int = 0) -> None:
        self.market, self.flash, self._wild = market, flash, wild
        self.v36 = market.version == "3.6"
        self.names = {f"{role} {i}": _address(f"{role} {i}") for role, count in ROLES.items() for i in range(count)}
        self.blocks: list[Block] = []
        self._dice = Random(seed)
        self._seconds = 0
        self._prices = {listing.symbol: listing.price / 1e8 for listing in LISTINGS} | {
            "wstETH": 1.1 * LISTINGS[0].price / 1e8
        }
        self._reported: dict[str, int] = {}
        self._closed: set[str] = set()
        self._at_edge = False
        self._dai_rates = market.set_rates("DAI", Rates(9000, 50, 600, 6000))  # on 3.0 a contract that is deployed now
        self._open()
        self._live_quietly()
        self._slide()
        self._crash()
        self._recover()

    # -- steps -------------------------------------------------------------------------------------------------------
    def worth(self, symbol: str, dollars: float) -> int:
        """Native units worth about that now, three digits and then zeros."""
        units = int(dollars / self._prices[symbol] * 10**6) * self.market.reserves[symbol].unit // 10**6
        zeros = max(len(str(units)) - 3, 0)
        return max(units // 10**zeros, 1) * 10**zeros

    def supply(self, who: str, symbol: str, dollars: float, to: str | None = None) -> Step:
        transaction = self.market.supply(
            self.names[who], symbol, self.worth(symbol, dollars), self.names[to] if to else None
        )
        return Step("supply", who, transaction)

    def withdraw(self, who: str, symbol: str, dollars: float | None = None, *, fails: bool = False) -> Step:
        amount = UINT256_MAX if dollars is None else self.worth(symbol, dollars)
        return Step("withdraw", who, self.market.withdraw(self.names[who], symbol, amount), fails)

    def borrow(self, who: str, symbol: str, dollars: float, *, fails: bool = False) -> Step:
        return Step("borrow", who, self.market.borrow(self.names[who], symbol, self.worth(symbol, dollars)), fails)

    def repay(
        self, who: str, symbol: str, dollars: float | None = None, of: str | None = None, *, fails: bool = False
    ) -> Step:
        amount = UINT256_MAX if dollars is None else self.worth(symbol, dollars)
        return Step(
            "repay", who, self.market.repay(self.names[who], symbol, amount, self.names[of] if of else None), fails
        )

    def repay_with_a_tokens(self, who: str, symbol: str, dollars: float | None = None) -> Step:
        amount = UINT256_MAX if dollars is None else self.worth(symbol, dollars)
        return Step("repay", who, self.market.repay_with_a_tokens(self.names[who], symbol, amount))

    def transfer(self, who: str, to: str, symbol: str, dollars: float, *, fails: bool = False) -> Step:
        return Step(
            "transfer",
            who,
            self.market.transfer(self.names[who], self.names[to], symbol, self.worth(symbol, dollars)),
            fails,
        )

    def flag(self, who: str, symbol: str, enabled: bool, *, fails: bool = False) -> Step:
        return Step("collateral-flag", who, self.market.set_collateral(self.names[who], symbol, enabled), fails)

    def emode(self, who: str, category: int, *, fails: bool = False) -> Step:
        return Step("emode", who, self.market.set_emode(self.names[who], category), fails)

    def treasury(self) -> Step:
        return Step("treasury", "anyone", self.market.mint_to_treasury())

    def flash_loan(self, symbol: str, dollars: float) -> Step:
        asset = self.market.reserves[symbol].asset.address
        return Step(
            "flash loan",
            "anyone",
            self.market.pool.transaction("flashLoanSimple", self.flash, asset, self.worth(symbol, dollars), b"", 0),
        )

    # -- blocks ------------------------------------------------------------------------------------------------------
    def block(
        self,
        hours: float,
        before: Sequence[Step] = (),
        report: dict[str, float] | None = None,
        after: Sequence[Step] = (),
    ) -> None:
        """The next block, so long after the last; prices of ``report`` hold from it on."""
        self._seconds += int(hours * 3600)
        wild = self._wild if self._at_edge else 0
        first = [*before, *(self._wild_step() for _ in range(wild))]
        answers = self._report(report or {})
        self.blocks.append(Block(self._seconds, first, answers, [*after, *(self._wild_step() for _ in range(wild))]))

    def govern(self, values: Values, *governance: Transaction) -> None:
        self._seconds += 1800
        self.blocks.append(Block(self._seconds, values=values, governance=list(governance)))

    def slot(self) -> None:
        self._seconds += 1800
        self.blocks.append(Block(self._seconds, slot=True))

    def _report(self, prices: dict[str, float]) -> dict[str, int]:
        """Answers with 8 decimals; a price that would be reported twice is a mistake, since a liquidator looks where
        one changed.
        """
        answers = {symbol: round(price * 1e8) for symbol, price in prices.items()}
        if any(self._reported.get(symbol) == answer for symbol, answer in answers.items()):
            raise ValueError(f"a report repeats a price: {prices}")
        self._reported |= answers
        self._prices |= prices
        if "WETH" in prices:
            self._prices["wstETH"] = 1.1 * prices["WETH"]
        return answers

    def market_at(self, move: float, dai: float | None = None) -> dict[str, float]:
        """Prices when ETH is at ``move`` of its start; the others go along, DAI as given."""
        prices = {"WETH": 194.61 * move, "WBTC": 7934 * (1 + 0.85 * (move - 1)), "LINK": 3.85 * (1 + 1.05 * (move - 1))}
        return prices | ({"DAI": dai} if dai is not None else {})

    def _life(self, count: int = 2) -> list[Step]:
        """What lenders and safe borrowers do, in parts that always fit."""
        steps = []
        for _ in range(count):
            i, dollars = self._dice.randrange(8), self._dice.choice((120, 700, 2_500, 9_000))
            lender, safe = f"lender {i}", f"safe {i}"
            symbol, debt = self._dice.choice([symbol for symbol in LENT[i] if symbol not in self._closed]), SAFE[i][2]
            steps.append(
                self._dice.choice(
                    (
                        self.supply(lender, symbol, dollars),
                        self.withdraw(lender, symbol, dollars),
                        self.supply(safe, SAFE[i][0], dollars),
                        self.repay(safe, debt, dollars / 10),
                        self.repay(lender, debt, dollars / 10, safe),
                        self.transfer(lender, f"lender {(i + 3) % 8}", symbol, dollars),
                        self.borrow(safe, debt, dollars / 30),
                    )
                )
            )
        return steps

    def _wild_step(self) -> Step:
        """Anything, by anyone at the edge."""
        dice = self._dice
        who, _, collateral_dollars, debt, _ = position = dice.choice(POSITIONS)
        symbol = position[1] if dice.random() < 0.8 else dice.choice(list(self.market.reserves))
        debt = debt if dice.random() < 0.8 else dice.choice(("USDC", "DAI", "WETH", "WBTC"))
        dollars = collateral_dollars * dice.choice((0.02, 0.1, 0.3))
        other = dice.choice(POSITIONS)[0]
        step = dice.choice(
            (
                lambda: self.supply(who, symbol, dollars),
                lambda: self.supply(who, symbol, dollars, to=other),
                lambda: self.withdraw(who, symbol, dollars),
                lambda: self.withdraw(who, symbol, dollars),
                lambda: self.withdraw(who, symbol),
                lambda: self.borrow(who, debt, dollars),
                lambda: self.borrow(who, debt, dollars / 5),
                lambda: self.repay(who, debt, dollars / 20),
                lambda: self.repay(other, debt, dollars / 20, of=who),
                lambda: self.repay(who, debt),
                lambda: self.repay_with_a_tokens(who, debt, dollars / 20),
                lambda: self.repay_with_a_tokens(who, debt),
                lambda: self.transfer(who, other, symbol, dollars),
                lambda: self.flag(who, symbol, dice.random() < 0.4),
                lambda: self.emode(who, dice.choice((0, 0, 1, 2, 3))),
            )
        )()
        return Step(step.kind, step.who, step.transaction, wild=True)

    # -- the story ---------------------------------------------------------------------------------------------------
    def _open(self) -> None:
        m = self.market
        self.govern({("WETH", "ltv"): 7000})
        if self.v36:
            self.govern({}, m.provider.transaction("setAddress", b"UMBRELLA".ljust(32, b"\0"), UMBRELLA))
        self.block(
            1, [self.supply(f"lender {i}", symbol, 900_000) for i, symbols in enumerate(LENT) for symbol in symbols]
        )
        self.block(1, [self.supply(f"safe {i}", symbol, dollars) for i, (symbol, dollars, _) in enumerate(SAFE)])
        self.block(1, [self.supply(who, symbol, dollars) for who, symbol, dollars, _, _ in POSITIONS])
        self.block(
            1,
            [
                *(self.supply(f"looper {i}", "USDC", dollars) for i, dollars in enumerate((30_000, 20_000, 20_000))),
                self.supply("flagger 0", "WBTC", 20_000),
            ],
        )
        self.block(
            1,
            [
                self.emode("staker 0", 1),
                self.emode("staker 1", 1),
                self.emode("stable 0", 2),
                self.emode("stable 1", 2),
                self.emode("mover 0", 1),
            ]
            + ([self.emode("major 0", 3), self.emode("major 1", 3)] if self.v36 else []),
        )
        self.block(
            1,
            [self.borrow(f"safe {i}", debt, dollars * 0.2) for i, (_, dollars, debt) in enumerate(SAFE)],
            self.market_at(1.001),
        )
        self.block(1, [self.borrow(who, debt, dollars * use) for who, _, dollars, debt, use in POSITIONS])
        self.block(
            1,
            [
                *(self.borrow(f"dust {i}", "DAI", 1_900) for i in range(3)),
                self.borrow("looper 0", "DAI", 9_000),
                self.supply("nobody 0", "LINK", 700),
                self.transfer("nobody 0", "looper 0", "LINK", 700),
            ],
        )

    def _live_quietly(self) -> None:
        m = self.market
        self.block(12, self._life(), self.market_at(1.004), self._life())
        self.block(9, [self.flash_loan("USDC", 500_000), *self._life()])
        self.govern({}, m.set_reserve_factor("USDC", 2500))
        self.block(14, self._life(3), self.market_at(0.998, 1.006), [self.treasury()])
        if self.v36:
            self.block(1, [self.borrow("major 0", "USDC", 5_000), self.borrow("major 1", "USDC", 2_900)])
        if self.v36:
            self.govern({}, m.configurator.transaction("updateFlashloanPremium", 12))
        else:
            total, share = (
                m.configurator.transaction(f"updateFlashloanPremium{part}", bps)
                for part, bps in (("Total", 12), ("ToProtocol", 3000))
            )
            self.govern({}, total, share)
        self.block(
            11, [self.flash_loan("DAI", 400_000), self.supply("lender 0", "WETH", 5_000, to="climber 0"), *self._life()]
        )
        self.block(
            8,
            [
                self.borrow("nobody 0", "USDC", 500, fails=True),
                self.repay("nobody 0", "USDC", 500, fails=True),
                self.withdraw("lender 0", "USDC", 80_000_000, fails=True),
                self.transfer("safe 0", "nobody 0", "WETH", 80_000_000, fails=True),
                self.emode("stable 0", 0, fails=True),
                self.emode("safe 1", 7, fails=True),
                self.flag("safe 2", SAFE[2][0], False, fails=True),
                self.borrow("staker 0", "USDC", 100, fails=True),
                self.repay("lender 1", SAFE[1][2], None, "safe 1", fails=True),
            ],
            self.market_at(1.006),
        )
        self.block(10, [self.repay_with_a_tokens("looper 1", "USDC", 1_000), *self._life()], {"DAI": 1.0065})
        self.govern({}, self._dai_rates)
        self.govern({}, m.configure("setBorrowCap", "LINK", 1_000_000), m.configure("setSupplyCap", "WBTC", 5_000_000))
        self.block(
            7,
            [self.emode("lender 2", 1), self.emode("lender 3", 2), self.emode("lender 2", 0), *self._life()],
            self.market_at(1.0),
            [self.flash_loan("WETH", 100_000)],
        )
        self.block(20, [self.treasury(), *self._life()])

    def _slide(self) -> None:
        """Slots every ``SLOT_EVERY`` blocks; people at the edge act between them, at the price of before where they
        come before a report.
        """
        self._at_edge = True
        self.slot()
        self.block(
            2, [self.borrow("climber 0", "USDC", 12_000), self.withdraw("leaver 0", "WETH", 20_000), *self._life(1)]
        )
        self.block(
            2,
            [self.flag("flagger 0", "WBTC", False), self.transfer("giver 0", "lender 2", "WETH", 20_000)],
            {"DAI": 1.0085},
        )
        self.block(2, self._life(3), self.market_at(0.996), [self.supply("lender 3", "WBTC", 2_000, to="safe 0")])
        self.block(
            2,
            [
                self.emode("mover 0", 0),
                self.borrow("stable 1", "DAI", 1_250),
                self.withdraw("leaver 1", "WETH", 18_500),
            ],
        )
        self.block(2, [self.repay("safe 0", "USDC", 40), *self._life(2)], self.market_at(0.99))
        self.slot()
        self.block(3, self._life(1), self.market_at(0.985, 1.012), [self.borrow("climber 1", "DAI", 8_500)])
        self.block(
            3,
            [self.borrow("crowd 1", "USDC", 400), *self._life(1)],
            self.market_at(0.97),
            [self.borrow("climber 3", "USDC", 3_900)],
        )
        self.block(
            1,
            [
                self.withdraw("leaver 3", "WETH", 16_600),
                self.transfer("giver 1", "leaver 0", "WETH", 15_500),
                *self._life(1),
            ],
        )
        self.block(
            3, [self.withdraw("leaver 2", "WETH", 10_000), self.repay("crowd 0", "USDC", 800)], self.market_at(0.958)
        )
        self.block(1, [self.supply("crowd 2", "WETH", 500), *self._life(2)])
        self.slot()
        self.block(
            3, self._life(1), self.market_at(0.945, 1.018), [self.treasury(), self.borrow("climber 2", "USDC", 2_500)]
        )
        self.block(2, self._life(2), {"DAI": 1.019}, [self.flag("safe 4", "WETH", False, fails=True)])
        self.block(3, [self.repay("lender 4", "DAI", 300, "crowd 3"), *self._life(1)], self.market_at(0.93))
        self.block(
            2, [self.withdraw("crowd 4", "WETH", 600), self.borrow("safe 4", SAFE[4][2], 300)], {"WETH": 194.61 * 0.921}
        )
        self.block(1, self._life(2))
        self.slot()
        self.govern({("WETH", "ltv"): 6900, ("WETH", "liquidation_bonus"): 10600})
        self.block(
            2,
            [self.borrow("climber 4", "DAI", 2_600)],
            self.market_at(0.912, 1.022),
            [self.withdraw("leaver 4", "WETH", 9_600)],
        )
        self.block(2, [self.repay_with_a_tokens("looper 0", "USDC", 500), self.flag("flagger 0", "WBTC", True)])
        self.block(2, [self.withdraw("leaver 5", "WETH", 8_200), self.flash_loan("USDC", 200_000)], self.market_at(0.9))
        self.block(1, self._life(2))
        self.slot()

    def _crash(self) -> None:
        """Steps of a few per cent, then of a dozen and more within minutes."""
        for move, dai in ((0.885, 1.024), (0.868, 1.028), (0.853, None), (0.838, 1.031), (0.822, None), (0.805, 1.036)):
            self.block(0.7, self._life(1), self.market_at(move, dai), self._life(1))
        self.govern({("LINK", "liquidation_protocol_fee"): 1500}, self.market.set_paused("LINK", True))
        self._closed.add("LINK")
        self.block(
            0.3, [self.supply("crowd 0", "WETH", 3_000), self.withdraw("crowd 5", "WBTC", 300)], self.market_at(0.79)
        )
        self.block(0.3, [self.flash_loan("DAI", 150_000)], self.market_at(0.74, 1.045))
        self.block(0.2, self._life(1), self.market_at(0.66, 1.05), [self.supply("twin 0", "WETH", 900)])
        self.block(0.2, [], self.market_at(0.6, 1.056))
        self.block(0.2, self._life(1), self.market_at(0.42, 1.058), self._life(1))
        self.govern({}, self.market.set_paused("LINK", False, 1200 if self.v36 else 0))
        self._closed.clear()
        self.block(0.1, [self.treasury()], self.market_at(0.45, 1.05))  # on 3.6 still in LINK's grace period
        self.block(0.4, [], self.market_at(0.405), [self.supply("lender 1", "DAI", 20_000)])
        self.block(0.5, [], self.market_at(0.47, 1.04))

    def _recover(self) -> None:
        m = self.market
        self.block(
            3,
            [self.supply("crowd 3", "WETH", 1_500), self.supply("leaver 0", "WETH", 800), *self._lend()],
            self.market_at(0.52),
        )
        self.block(
            6,
            [self.repay("crowd 0", "USDC"), self.repay("flagger 0", "USDC"), self.repay("stable 0", "DAI")],
            self.market_at(0.56, 1.02),
        )
        self.block(
            6,
            [
                self.withdraw("crowd 0", "WETH"),
                self.withdraw("stable 0", "USDC"),
                self.withdraw("stable 1", "USDC", 400),
            ],
        )
        self.block(
            6,
            [
                self.repay_with_a_tokens("looper 0", "USDC"),
                self.withdraw("flagger 0", "WBTC"),
                self.emode("stable 0", 0),
            ],
            {"DAI": 1.015},
        )
        if self.v36:
            cover = [m.supply(UMBRELLA, symbol, self.worth(symbol, 5_000)) for symbol in ("USDC", "DAI")]
            clear = [
                m.pool.transaction(
                    "eliminateReserveDeficit",
                    m.reserves[symbol].asset.address,
                    self.worth(symbol, 600),
                    sender=UMBRELLA,
                )
                for symbol in ("USDC", "DAI")
            ]
            self.block(5, [Step("supply", "umbrella", transaction) for transaction in cover])
            self.block(5, [Step("cover", "umbrella", transaction) for transaction in clear], {"DAI": 1.012})
        self.block(12, [self.repay(f"safe {i}", SAFE[i][2]) for i in range(5)], self.market_at(0.55))
        self.block(
            12, [self.withdraw(f"safe {i}", SAFE[i][0]) for i in range(4)], self.market_at(0.57), [self.treasury()]
        )
        self.block(
            12, [self.withdraw("lender 6", "USDC"), self.repay_with_a_tokens("looper 1", "USDC")], {"DAI": 1.008}
        )
        self.block(
            24, self._lend(), self.market_at(0.6), [self.withdraw("lender 5", "WBTC"), self.flash_loan("USDC", 90_000)]
        )
        self.block(24, [self.treasury()], self.market_at(0.59))

    def _lend(self) -> list[Step]:
        """Lenders only: after the crash a borrower's parts might not fit any more."""
        return [
            self.supply(f"lender {i}", self._dice.choice(LENT[i]), self._dice.choice((500, 4_000)))
            for i in self._dice.sample(range(8), 2)
        ]


LENT = (
    ("USDC", "DAI"),
    ("DAI", "USDC"),
    ("WETH",),
    ("WETH", "WBTC"),
    ("USDC",),
    ("WBTC", "LINK"),
    ("USDC", "wstETH"),
    ("DAI", "wstETH"),
)
"""What each lender supplies, 900,000 dollars of each."""

SAFE = tuple(
    (("WETH", "WBTC", "wstETH", "WETH")[i % 4], 40_000 + 15_000 * i, ("USDC", "DAI", "DAI", "USDC")[i % 4])
    for i in range(8)
)
"""Safe borrowers: collateral, its dollars, debt (a fifth of it)."""

_CROWD = (
    ("WETH", "USDC"),
    ("WETH", "DAI"),
    ("WETH", "USDC"),
    ("WETH", "DAI"),
    ("WETH", "USDC"),
    ("WBTC", "USDC"),
    ("LINK", "DAI"),
)
POSITIONS = (
    *(
        (
            f"crowd {i}",
            *_CROWD[i % 7][:1],
            9_000 * (i % 5 + 1),
            _CROWD[i % 7][1],
            (0.48 if _CROWD[i % 7][0] == "LINK" else 0.56 + 0.009 * i),
        )
        for i in range(14)
    ),
    *((f"twin {i}", "WETH", 25_000, "USDC", 0.69) for i in range(2)),
    ("climber 0", "WETH", 60_000, "USDC", 0.5),
    ("climber 1", "WETH", 50_000, "DAI", 0.5),
    ("climber 2", "WETH", 25_000, "USDC", 0.52),
    ("leaver 0", "WETH", 60_000, "USDC", 0.52),
    ("leaver 1", "WETH", 50_000, "DAI", 0.49),
    ("leaver 2", "WETH", 30_000, "USDC", 0.5),
    ("climber 3", "WETH", 30_000, "USDC", 0.5),
    ("climber 4", "WETH", 25_000, "DAI", 0.51),
    ("leaver 3", "WETH", 50_000, "USDC", 0.5),
    ("leaver 4", "WETH", 35_000, "DAI", 0.5),
    ("leaver 5", "WETH", 30_000, "USDC", 0.5),
    ("giver 0", "WETH", 60_000, "DAI", 0.52),
    ("giver 1", "WETH", 45_000, "USDC", 0.49),
    ("flagger 0", "WETH", 40_000, "USDC", 0.78),
    ("mover 0", "WETH", 40_000, "wstETH", 0.785),
    ("staker 0", "wstETH", 80_000, "WETH", 0.9),
    ("staker 1", "wstETH", 50_000, "WETH", 0.925),
    ("stable 0", "USDC", 90_000, "DAI", 0.918),
    ("stable 1", "USDC", 60_000, "DAI", 0.88),
    ("dust 0", "WETH", 8_700, "USDC", 0.345),
    ("dust 1", "WETH", 7_400, "USDC", 0.405),
    ("dust 2", "WETH", 7_100, "USDC", 0.423),
    ("doomed 0", "WETH", 70_000, "USDC", 0.49),
    ("doomed 1", "LINK", 30_000, "DAI", 0.4),
    ("doomed 2", "WETH", 20_000, "DAI", 0.48),
    ("looper 0", "WETH", 20_000, "USDC", 1.25),
    ("looper 1", "WETH", 9_000, "USDC", 0.9),
    ("looper 2", "WETH", 10_000, "USDC", 2.15),
    ("major 0", "WETH", 30_000, "USDC", 0.66),
    ("major 1", "WBTC", 20_000, "DAI", 0.68),
)
"""Borrowers at the edge: collateral, its dollars, debt, and debt over that collateral (some have more collateral than
this).
"""


def _address(name: str) -> str:
    return "0x" + keccak(text=f"twin chains: {name}")[-20:].hex()
