"""Owners who decide by themselves: by hazards fitted to history, and whether they stay under changed terms.

History is one draw of what borrowers do. Where an account stands as in history, it does what it did then. Where its
health is another, each kind of act is drawn anew, as near to history's draw as its chances allow: with a chance of
``p`` in history and ``q`` here, what was done is done with probability min(1, q / p), and what was not is done with
probability (q - p) / (1 - p), where q is larger. So an act has the chance q here, and nothing changes where q is p. An
account that owes here and not in history did nothing there: it acts with probability q. Acts of accounts that owe
nothing here are history's.

Time goes in steps. At the start of each, owners look at their accounts; who then decides to act does it at a drawn
moment of the step. Every draw is a function of the seed, account, act and step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from backtest.errors import PriceMissing, ScenarioError
from backtest.model import AccountId, Market, PositionChange, SettingChange, Side
from backtest.protocols.book import Book
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import Action, Holding, LendingProtocol, Refusal
from backtest.replay.competition.draws import WORD, Draws
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.hazards import Borrower, Chances, Moves, acts_in, main_collateral, standings, terms_of
from backtest.replay.what_if.users import Effect, UserActions
from backtest.scenario import FITTED, Scenario
from backtest.scenario.users import ACTS, Act
from backtest.units import BPS

STEP = 21_600
"""Seconds between looks at changed terms, where no hazards say another step."""
_SIDES: Mapping[Act, Side] = {"repay": "debt", "borrow": "debt", "supply": "collateral", "withdraw": "collateral"}
_LEFT = Refusal("its owner left under the changed terms")
_UNMOVED = Refusal("its owner is not moved to it at this health")


class _Host(Protocol):
    """The engine, as seen from here."""

    book: Book[Any]
    users: UserActions[Any]

    def act_of_owner(self, effects: Sequence[Effect], amount: int | None) -> bool:
        """Apply what an owner did of itself; whether an index moved."""
        ...


def owners_of(
    scenario: Scenario, timeline: Timeline, protocol: LendingProtocol[Any], market: Market, begin: int
) -> Owners | None:
    """Those of one replay; None where everybody does what history did."""
    terms = scenario.users
    if terms.response != FITTED and not terms.departures and not terms.arrivals:
        return None
    return Owners(scenario, timeline, protocol, begin, 10**market.base_decimals)


class Owners:
    """Those of one replay. The engine wakes them at ``wake``."""

    def __init__(
        self, scenario: Scenario, timeline: Timeline, protocol: LendingProtocol[Any], begin: int, unit: int
    ) -> None:
        """``begin``: seconds at which the model begins to act. ``unit``: base units of one of the currency."""
        terms = scenario.users
        fitted = terms.fitted if terms.response == FITTED else None
        if terms.response == FITTED and fitted is None:
            raise ScenarioError(
                "users.response = 'fitted' without hazards",
                "fit them: backtest calibrate users; or give [users.fitted] (docs/users.md)",
            )
        if terms.arrivals and not protocol.parts_accounts:
            raise ScenarioError(
                f"users.arrivals: accounts of {protocol.name} cannot be opened in a replay", "leave arrivals out"
            )
        self._terms, self._draws, self._unit = terms, Draws(scenario.seed), unit
        self.step = STEP if fitted is None else fitted.step
        self._chances = None if fitted is None else Chances(fitted)
        self._moves = Moves(timeline)
        self._done = acts_in(timeline, self.step, begin)
        self._next = begin // self.step + 1
        """The step whose start is looked at next."""
        self._due: list[tuple[int, AccountId, int]] = []
        """Time, account and act (by its place in ``ACTS``) of what was decided."""
        self._not: set[tuple[AccountId, str]] = set()
        """What is not done in this step, though history did it."""
        self._gone: set[AccountId] = set()
        self._like: set[AccountId] = set()
        """Borrowers that a newcomer is like already, and newcomers: nobody is like them."""

    # -- when --------------------------------------------------------------------------------------------------------

    def wake(self) -> int:
        """When owners look or act next, in seconds."""
        start = self._next * self.step
        return min(start, self._due[0][0]) if self._due else start

    def wakes(self, time: int, host: _Host) -> bool:
        """It is ``time``: those whose moment it is act; whether an index moved."""
        moved = False
        while self._due and self._due[0][0] <= time:
            _, account, place = heappop(self._due)
            moved |= self._act(host, account, ACTS[place])
        if self._next * self.step <= time:
            self._not.clear()
            moved |= self._look(host, self._next)
            self._next += 1
        return moved

    # -- history's acts ----------------------------------------------------------------------------------------------

    def forgoes(self, action: Action) -> Refusal | None:
        """Why an owner does not do what it did in history; None: it does."""
        account = next((c.account for c in action.changes if isinstance(c, PositionChange | SettingChange)), None)
        if account in self._gone:
            return _LEFT
        return _UNMOVED if account is not None and (account, action.name) in self._not else None

    # -- looking -----------------------------------------------------------------------------------------------------

    def _look(self, host: _Host, step: int) -> bool:
        book, history = host.book, host.users.history
        assert history is not None
        history.now = book.now  # debts grow there too
        ours = standings(book)
        moved = False
        if self._terms.departures or self._terms.arrivals:
            moved = self._move_house(host, history, ours)
        if self._chances is None:
            return moved
        theirs, done = standings(history), self._done.get(step, set())
        for account in sorted(ours):
            if account not in self._gone and ours[account] != theirs.get(account):
                self._decide(book, history, account, ours[account], theirs.get(account), done, step)
        return moved

    def _decide(
        self, book: Book[Any], history: Book[Any], account: AccountId, ours: Borrower, theirs: Borrower | None,
        done: set[tuple[AccountId, Act]], step: int,
    ) -> None:  # fmt: skip
        assert self._chances is not None
        here = self._chance(book, account, ours)
        there = {} if theirs is None else self._chance(history, account, theirs)
        for place, act in enumerate(ACTS):
            if act not in here:
                continue
            q, p = here[act], there.get(act, 0.0)
            if q == p:
                continue
            drawn = self._draws.word(f"owner {act}", account, step) / WORD
            if (account, act) in done:
                if p > q and drawn * p >= q:
                    self._not.add((account, act))
            elif q > p and drawn * (1.0 - p) < q - p:
                start = step * self.step
                moment = start + 1 + self._draws.below(self.step - 1, f"moment of {act}", account, step)
                heappush(self._due, (moment, account, place))

    def _chance(self, book: Book[Any], account: AccountId, standing: Borrower) -> dict[Act, float]:
        assert self._chances is not None
        asset = main_collateral(book, account)
        price = None if asset is None else book.oracle.get(asset)
        percent = self._moves.percent(asset, price, book.now.timestamp)
        return self._chances.of(terms_of(standing, percent, self._unit))

    # -- acting ------------------------------------------------------------------------------------------------------

    def _act(self, host: _Host, account: AccountId, act: Act) -> bool:
        book, users = host.book, host.users
        assert self._chances is not None
        sizes = self._chances.sizes[act]
        share = sizes[self._draws.below(len(sizes), f"size of {act}", account, book.now.timestamp)]
        made = self._asked(book, account, act, share)
        if isinstance(made, Refusal):
            users.forgone(act, made.reason, account)
            return False
        acted = users.of_owner(made, book, f"its owner is moved to {act} at this health")
        return acted is not None and host.act_of_owner(acted.changes, acted.amount)

    def _asked(self, book: Book[Any], account: AccountId, act: Act, share: int) -> Action | Refusal:
        """The call: by value ``share`` basis points of the whole debt or collateral, rounded down to a native unit (one
        at least), of the asset of which there is most; repaid or withdrawn no more than there is of it.
        """
        try:
            view = book.protocol.view(book.state, account, book.prices, book.now)
        except PriceMissing:
            return Refusal("a price is missing")
        if not view.debt_base:
            return Refusal("it owes nothing any more")
        side = _SIDES[act]
        held = _largest(book, account, side)
        if held is None or not book.oracle.get(held.asset):
            return Refusal(
                "it has no collateral that counts" if side == "collateral" else "nothing with a price is owed"
            )
        value = (view.debt_base if side == "debt" else view.collateral_base) * share // BPS
        amount = max(1, value * book.units[held.asset] // book.oracle[held.asset])
        there = held.debt if side == "debt" else held.collateral
        return call(book, account, held, act, min(amount, there) if act in ("repay", "withdraw") else amount)

    # -- changed terms -----------------------------------------------------------------------------------------------

    def _move_house(self, host: _Host, history: Book[Any], ours: Mapping[AccountId, Borrower]) -> bool:
        """Borrowers leave where their collateral counts less than it would by history's parameters, and others like
        them come where it counts more.
        """
        book, terms, moved = host.book, self._terms, False
        for account in sorted(ours):
            if account in self._gone:
                continue
            now, then = self._counted(book, history, account)
            if not then or now == then:
                continue
            worse = now < then
            if not (terms.departures if worse else terms.arrivals) or (not worse and account in self._like):
                continue
            share = (terms.departures if worse else terms.arrivals) * abs(now - then) * 100 // then
            if not self._draws.chance(min(share, BPS), "leaves" if worse else "newcomer", account):
                continue
            if worse:
                self._gone.add(account)
                moved |= self._leave(host, account)
            else:
                self._like.add(account)
                moved |= self._arrive(host, account)
        return moved

    def _counted(self, book: Book[Any], history: Book[Any], account: AccountId) -> tuple[int, int]:
        """How much of what the account holds here counts by the parameters here, and by history's; base units times
        wad. Zeros where its protocol does not say.
        """
        now = then = 0
        for held in book.protocol.holdings(book.state, account, book.now):
            if held.collateral_enabled and held.collateral:
                ours, theirs = (of.protocol.weight(of.state, account, held.asset) for of in (book, history))
                if ours is None or theirs is None:
                    return 0, 0
                value = book.value_down(held.asset, held.collateral)
                now, then = now + value * ours, then + value * theirs
        return now, then

    def _leave(self, host: _Host, account: AccountId) -> bool:
        """Everything is repaid, then taken out."""
        moved = False
        for side, act in (("debt", "repay"), ("collateral", "withdraw")):
            for held in host.book.protocol.holdings(host.book.state, account, host.book.now):
                amount = held.debt if side == "debt" else held.collateral
                if amount:
                    action = call(host.book, account, held, act, amount)
                    acted = host.users.of_owner(action, host.book, "its owner leaves under the changed terms")
                    moved |= acted is not None and host.act_of_owner(acted.changes, acted.amount)
        return moved

    def _arrive(self, host: _Host, account: AccountId) -> bool:
        """A newcomer supplies and borrows what this borrower has, in its proportion, each amount rounded down."""
        book, moved = host.book, False
        newcomer = AccountId(len(book.market.accounts))
        self._like.add(newcomer)
        book.market = book.market.with_account(f"{book.address(account)}+")
        holdings = book.protocol.holdings(book.state, account, book.now)
        category = book.protocol.view(book.state, account, book.prices, book.now).category
        settings: list[Effect] = [
            setting_change(book.now, newcomer, "collateral_enabled", held.asset, 1, action="supply")
            for held in holdings
            if held.collateral_enabled and held.collateral
        ]
        if category:
            settings.append(setting_change(book.now, newcomer, "emode", None, category, action="supply"))
        host.act_of_owner(settings, None)
        for side, act in (("collateral", "supply"), ("debt", "borrow")):
            for held in holdings:
                amount = (held.collateral if side == "collateral" else held.debt) * self._terms.arrival_size // BPS
                if amount:
                    action = call(book, newcomer, held, act, amount)
                    acted = host.users.of_owner(action, book, "a newcomer comes under the changed terms")
                    moved |= acted is not None and host.act_of_owner(acted.changes, acted.amount)
        return moved


def call(book: Book[Any], account: AccountId, held: Holding, act: str, amount: int) -> Action:
    """A call of an owner that moves ``amount`` native units of what is (or is like what is) held; scaled in its
    proportion, rounded down, one at least. All of it empties the balance.
    """
    side = _SIDES[act]  # type: ignore[index]
    whole, scaled = (held.debt, held.debt_scaled) if side == "debt" else (held.collateral, held.collateral_scaled)
    takes = act in ("repay", "withdraw")
    all_of_it = takes and amount >= whole
    delta = scaled if all_of_it else max(1, scaled * amount // whole)
    change = position_change(book.now, account, held.asset, side, -delta if takes else delta, amount=amount, action=act)
    return Action(act, (change,), frozenset({0} if all_of_it else ()), None if all_of_it else amount)


def _largest(book: Book[Any], account: AccountId, side: Side) -> Holding | None:
    """By value: of what is owed, or of the collateral that counts."""
    best: tuple[int, int] | None = None
    found: Holding | None = None
    for held in book.protocol.holdings(book.state, account, book.now):
        amount = held.debt if side == "debt" else held.collateral if held.collateral_enabled else 0
        if amount:
            one = (book.value_down(held.asset, amount), -held.asset)
            if best is None or one > best:
                best, found = one, held
    return found
