"""How users behave in a book that is no longer history's: each of their actions is made again by the protocol's own
rules.

An action asks for the native amount that it asked for in history; one that emptied a balance then empties it here,
however much it holds. One that would revert is skipped, or shrunk to the largest amount allowed. Users who respond
(``scenario.Users.response``) size actions that raise their risk by another rule, or decide whether to act (``owners``).
An account that is as in history, in a market with history's indexes, repeats its recorded changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Generic, Protocol, cast

from backtest.errors import PriceMissing
from backtest.model import (
    AUTHORIZE,
    AccountId,
    AssetId,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    SettingChange,
    Side,
)
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView, Acted, Action, LendingProtocol, Opening, Refusal, State, Together
from backtest.protocols.loop import Stretch
from backtest.replay.deferred import SharedNumbers
from backtest.replay.record import ActionCount, Outcome
from backtest.replay.what_if.largest import Slack, largest
from backtest.scenario import Users

Change = PositionChange | SettingChange
Effect = PositionChange | SettingChange | IndexUpdate | ParamChange
Key = tuple[AccountId, AssetId, Side]
Setting = tuple[AccountId, str, AssetId | None]

_SIDES: Mapping[str, Side] = {"borrow": "debt", "repay": "debt", "supply": "collateral", "withdraw": "collateral"}
_WITHIN = frozenset(
    {"liquidation", "treasury", "cover", "redistribution", "offset", "redemption", "interest", "upfront_fee", "rebatch"}
)
"""What moves nothing between the market and its users."""


class Beside(Protocol):
    """Rules for users' actions beside those of the protocol."""

    def refuses(self, book: Book[Any], changes: Sequence[Change]) -> Refusal | None:
        """Why an action, with history's effects, is not let through; None: it is."""
        ...

    def within(self, book: Book[Any], acted: Acted) -> Callable[[AccountView], bool] | None:
        """How the account of a call that raises its risk may stand after it; None: as the protocol says."""
        ...


class Deciding(Protocol):
    """Owners who may do without what they did in history (``what_if.owners``)."""

    def forgoes(self, action: Action) -> Refusal | None:
        """Why an owner does not do it; None: it does."""
        ...


class UserActions(Generic[State]):
    """The users of one replay. Feed it every action of history in order; it says what becomes of each."""

    def __init__(self, protocol: LendingProtocol[State], market: Market, terms: Users, *, recompute: bool) -> None:
        self._protocol, self._terms, self._recompute = protocol, terms, recompute
        self._history: SharedNumbers[Key] = SharedNumbers()
        self._drift: dict[Key, int] = {}
        """Replayed minus historical scaled balance, where they differ."""
        self._theirs: SharedNumbers[Setting] = SharedNumbers()
        self._ours: SharedNumbers[Setting] = SharedNumbers()
        self._apart: dict[AccountId, int] = {}
        """How many balances and settings of an account differ from history's."""
        self._receivers: set[AccountId] = set()
        self._counts: dict[tuple[str, Outcome, str, bool], ActionCount] = {}
        moved = terms.departures or terms.arrivals
        self._shadow = Book.open(protocol, market) if terms.response != "frozen" or moved else None
        self._sizes = terms.response in ("same-ltv", "same-health")
        self._behind: list[Stretch] = []
        """Liquidations whose changes are not noted yet."""
        self.outside: dict[tuple[AccountId, AssetId], int] = {}
        """Native units that accounts took out of the market beyond what they took in history, less what they brought
        beyond it.
        """
        self.made = 0
        """Actions that came up."""
        self.beside: Beside | None = None
        """Asked where a model acts."""
        self.owners: Deciding | None = None
        """Asked there too."""

    def copy(self) -> UserActions[State]:
        """Independent of this one."""
        self._catch_up()
        made = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict | set | list | SharedNumbers):
                setattr(made, name, value.copy())
        made._counts = {key: replace(count) for key, count in self._counts.items()}
        made._shadow = None if self._shadow is None else self._shadow.copy()
        return made

    @property
    def counts(self) -> list[ActionCount]:
        """Actions that were not made as in history, in a fixed order."""
        return [self._counts[key] for key in sorted(self._counts)]

    @property
    def responds(self) -> bool:
        """Whether what they do depends on history's own book, which then has to be kept beside."""
        return self._shadow is not None

    @property
    def history(self) -> Book[State] | None:
        """History's own book, where it is kept."""
        return self._shadow

    @property
    def differs(self) -> Mapping[AccountId, int]:
        """Accounts that are not as in history, and in how many balances and settings."""
        self._catch_up()
        return self._apart

    def begin(self, opening: Opening) -> None:
        """What accounts hold and have set before anything else: in the replay as in history."""
        self._history.update(((who, asset, side), balance) for who, asset, side, balance in opening.balances)
        self._theirs.update(((who, name, asset), value) for who, name, asset, value, _ in opening.settings)
        self._ours = self._theirs.copy()
        if self._shadow is not None:
            self._shadow.begin(opening)

    def repeat(self, transaction: Iterable[MarketEvent]) -> None:
        """The replay makes these events as history did."""
        self._catch_up()
        history, theirs, ours = self._history, self._theirs, self._ours
        actions = set()
        for event in transaction:
            if type(event) is PositionChange:
                key = (event.account, event.asset, event.side)
                history[key] += event.delta
                actions.add(event.action_seq)
            elif type(event) is SettingChange:
                setting = (event.account, event.setting, event.asset)
                theirs[setting] = ours[setting] = event.value
                actions.add(event.action_seq)
            self.shadow(event)
        self.made += len(actions)

    def historical(self, change: Change) -> None:
        """History made this change and the replay does not (it belongs to a liquidation that is left out or
        computed).
        """
        self._catch_up()
        if isinstance(change, PositionChange):
            self._note(change)
            self._drifted(_key(change), -change.delta)
            if change.delta > 0:
                self._receivers.add(change.account)
        else:
            self._set(self._theirs, _setting(change), change.value)

    def modelled(self, change: Change) -> None:
        """The replay made this change and history did not."""
        self._catch_up()
        if isinstance(change, PositionChange):
            self._drifted(_key(change), change.delta)
        else:
            self._set(self._ours, _setting(change), change.value)

    def modelled_in_passing(self, stretch: Stretch) -> None:
        """The same of all changes of a stretch's liquidations; noted when somebody asks."""
        self._behind.append(stretch)

    def _catch_up(self) -> None:
        behind, self._behind = self._behind, []
        for stretch in behind:
            for account, asset, side, delta in stretch.positions:
                self._drifted((account, asset, side), delta)
            for treasury, asset, fee in stretch.fees:
                self._drifted((treasury, asset, "collateral"), fee)
            for account, setting, of, value in stretch.settings:
                self._set(self._ours, (account, setting, of), value)

    def modelled_together(self, found: Together) -> None:
        """The same of all changes of liquidations that were made together."""
        self._catch_up()
        for account, asset, side, delta in found.positions:
            self._drifted((account, asset, side), delta)
        for account, setting, asset, value in found.settings:
            self._set(self._ours, (account, setting, asset), value)

    def of_themselves(self, effects: Iterable[Effect], amount: int | None) -> None:
        """Owners did something that they did not in history; ``amount`` native units, where money moved between the
        market and them.
        """
        effects = tuple(effects)
        for effect in effects:
            if isinstance(effect, PositionChange | SettingChange):
                self.modelled(effect)
        if amount is not None:
            self._took(effects, amount, 1)

    def shadow(self, event: MarketEvent) -> None:
        """Anything else that history did: kept beside, for users whose response is measured by it."""
        if self._shadow is not None:
            self._shadow.relive(event)

    def remake(self, name: str, changes: tuple[Change, ...], book: Book[State], *, checked: bool) -> Sequence[Effect]:
        """What a historical action becomes. ``book.now`` is its place. Unchecked ones (history itself, before a model
        acts) are as recorded.
        """
        self._catch_up()
        action = Action(name, changes, self._emptied(changes))
        self.made += 1
        if self._shadow is not None:
            self._follow(action, book)
        apart = any(change.account in self._apart for change in changes)
        if self.owners is not None and checked and (refusal := self.owners.forgoes(action)) is not None:
            return self._not_made(action, refusal, book, "dropped")
        if self.beside is not None and checked and (refusal := self.beside.refuses(book, changes)) is not None:
            return self._not_made(action, refusal, book)
        if not self._recompute and not apart and not (checked and raises_risk(changes)):
            self._diverge(changes, changes)
            return changes
        outcome = self._protocol.act(book.state, action, book.prices, book.now)
        outcome = self._answer(action, outcome, book)
        sized = self._sized(action, outcome, book) if self.beside is not None and checked else outcome
        if isinstance(sized, Refusal):
            return self._not_made(action, sized, book)
        if sized is outcome:
            self._compare(action, sized, book)
        outcome = sized
        made = outcome.changes if self._recompute or apart or outcome.amount != _asked(action) else changes
        self._diverge(changes, made)
        if made is not changes:
            self._took(changes, None, -1)
            self._took(made, outcome.amount, 1)
        return made

    def of_owner(self, action: Action, book: Book[State], why: str) -> Acted | None:
        """What becomes of a call that an owner makes here and did not make in history; counted. None: nothing."""
        self._catch_up()
        outcome = self._protocol.act(book.state, action, book.prices, book.now)
        if isinstance(outcome, Refusal):
            shrunk = None
            if self._terms.refused == "shrink" and _is_sized(action):
                shrunk = self._largest(action, book, lambda view: True, beyond=False)
            if shrunk is None:
                self._refused(action, outcome, book, 0, "forgone")
                return None
            outcome = shrunk
        self._count(action, "made", why, outcome.amount, book)
        return outcome

    def forgone(self, name: str, reason: str, account: AccountId) -> None:
        """An owner was to act and cannot."""
        unfunded = account in self._receivers
        counted = ActionCount(name, "forgone", reason, unfunded)
        self._counts.setdefault((name, "forgone", reason, unfunded), counted).count += 1

    def _not_made(self, action: Action, refusal: Refusal, book: Book[State], outcome: Outcome = "skipped") -> tuple[()]:
        changes = cast("tuple[Change, ...]", action.changes)
        self._refused(action, refusal, book, 0, outcome)
        self._diverge(changes, ())
        self._took(changes, None, -1)
        return ()

    def _sized(self, action: Action, outcome: Acted | Refusal, book: Book[State]) -> Acted | Refusal:
        """As much of it as leaves the account where the rules beside want it."""
        assert self.beside is not None
        if isinstance(outcome, Refusal) or outcome.view is None or not _is_sized(action):
            return outcome
        within = self.beside.within(book, outcome)
        if within is None or within(outcome.view):
            return outcome
        why = Refusal("beyond what its owner risks")
        found = self._largest(replace(action, amount=outcome.amount), book, within, beyond=False)
        if found is not None:
            self._refused(action, why, book, found.amount, "shrunk")
        return why if found is None else found

    # -- what it was in history
    # ------------------------------------------------------------------------------------------

    def _emptied(self, changes: Sequence[Change]) -> frozenset[int]:
        found = []
        for place, change in enumerate(changes):
            if isinstance(change, PositionChange) and self._note(change) == 0 and change.delta < 0:
                found.append(place)
        return frozenset(found)

    def _note(self, change: PositionChange) -> int:
        key = (change.account, change.asset, change.side)
        after = self._history[key] + change.delta
        self._history[key] = after
        return after

    def _follow(self, action: Action, book: Book[State]) -> None:
        assert self._shadow is not None
        self._shadow.now = book.now
        for change in action.changes:
            self._shadow.apply(change)

    # -- what users do about it
    # ------------------------------------------------------------------------------------------

    def _answer(self, action: Action, outcome: Acted | Refusal, book: Book[State]) -> Acted | Refusal:
        """The response, then what is left of a refused action."""
        sized = _is_sized(action)
        if sized and self._sizes:
            slack = self._target(action)
            if slack is not None:
                found = self._largest(action, book, lambda view: slack(view) >= 0, slack, beyond=True)
                if found is None:
                    return outcome if isinstance(outcome, Refusal) else Refusal("the response leaves nothing to do")
                return found
        if isinstance(outcome, Refusal) and sized and self._terms.refused == "shrink":
            found = self._largest(action, book, lambda view: True, beyond=False)
            if found is not None:
                self._refused(action, outcome, book, found.amount, "shrunk")
                return found
        return outcome

    def _target(self, action: Action) -> Slack | None:
        """How far an account is within what the user kept in history after this action, negative where it is not; None
        where history's account had no debt, or used an asset without a price, so that nothing tells how much it kept.
        """
        assert self._shadow is not None
        account, shadow = action.changes[0], self._shadow
        assert not isinstance(account, ParamChange)
        try:
            then = self._protocol.view(shadow.state, account.account, shadow.prices, shadow.now)
        except PriceMissing:
            return None
        health = then.health
        if health is None:
            return None
        if self._terms.response == "same-health":
            return lambda view: 0 if view.health is None else (view.health - health) * max(view.debt_base, 1)
        if not then.borrowing_power_base:
            return None
        return lambda view: then.debt_base * view.borrowing_power_base - view.debt_base * then.borrowing_power_base

    def _largest(
        self, action: Action, book: Book[State], within: Callable[[AccountView], bool], *slacks: Slack, beyond: bool
    ) -> Acted | None:
        """The action at the largest amount that passes the rules and keeps ``within``; None where even one unit does
        not. ``slacks``: of what ``within`` asks.

        With ``beyond`` it may exceed history's amount. An action that leaves no debt behind is within anything.
        """

        def at(amount: int) -> Acted | None:
            asked_for = Action(action.name, action.changes, action.emptied, amount)
            tried = self._protocol.act(book.state, asked_for, book.prices, book.now)
            return tried if isinstance(tried, Acted) and (tried.view is None or within(tried.view)) else None

        return largest(_asked(action), at, lambda acted: acted.view, (_within_the_rules, *slacks), beyond=beyond)

    # -- how the books differ
    # ----------------------------------------------------------------------------------------------

    def _diverge(self, recorded: Sequence[Change], made: Sequence[Effect]) -> None:
        """Note what history did and what the replay does instead."""
        if recorded is not made:
            for change in recorded:
                if isinstance(change, PositionChange):
                    self._drifted(_key(change), -change.delta)
            for effect in made:
                if isinstance(effect, PositionChange):
                    self._drifted(_key(effect), effect.delta)
        for change in recorded:
            if isinstance(change, SettingChange):
                self._set(self._theirs, _setting(change), change.value)
        for effect in made:
            if isinstance(effect, SettingChange):
                self._set(self._ours, _setting(effect), effect.value)

    def _took(self, effects: Sequence[Effect], amount: int | None, sign: int) -> None:
        """Users' calls move underlying between market and account: each change by its own amount, or where it does not
        say, by that of the call.
        """
        for effect in effects:
            if isinstance(effect, PositionChange) and effect.action not in _WITHIN:
                moved = sign * ((amount if effect.amount is None else effect.amount) or 0)
                key = (effect.account, effect.asset)
                out = moved if (effect.delta > 0) == (effect.side == "debt") else -moved
                if left := self.outside.get(key, 0) + out:
                    self.outside[key] = left
                else:
                    self.outside.pop(key, None)

    def _drifted(self, key: Key, delta: int) -> None:
        before = self._drift.get(key, 0)
        after = before + delta
        if after:
            self._drift[key] = after
        else:
            self._drift.pop(key, None)
        self._differs(key[0], bool(after) - bool(before))

    def _set(self, values: SharedNumbers[Setting], key: Setting, value: int) -> None:
        before = self._theirs[key] != self._ours[key]
        values[key] = value
        self._differs(key[0], (self._theirs[key] != self._ours[key]) - before)

    def _differs(self, account: AccountId, by: int) -> None:
        if by:
            count = self._apart.get(account, 0) + by
            if count:
                self._apart[account] = count
            else:
                del self._apart[account]

    # -- counting
    # ------------------------------------------------------------------------------------------------------------

    def _compare(self, action: Action, acted: Acted, book: Book[State]) -> None:
        asked = _asked(action)
        if acted.amount == asked or not _amounts(action):
            return
        emptied = bool(action.emptied)
        responded = self._sizes and _is_sized(action)
        if emptied or responded:
            self._count(
                action,
                "changed",
                "it empties a balance that differs" if emptied else "the user responds",
                abs(acted.amount - asked),
                book,
            )
        elif acted.amount < asked and self._terms.refused == "skip":
            self._count(action, "cut", "less is there", asked - acted.amount, book)

    def _refused(self, action: Action, refusal: Refusal, book: Book[State], left: int, outcome: Outcome) -> None:
        self._count(action, outcome, refusal.reason, max(_asked(action) - left, 0), book)

    def _count(self, action: Action, outcome: Outcome, reason: str, amount: int, book: Book[State]) -> None:
        first = action.changes[0]
        assert not isinstance(first, ParamChange)
        unfunded = any(c.account in self._receivers for c in action.changes if not isinstance(c, ParamChange))
        key = (action.name, outcome, reason, unfunded)
        counted = self._counts.setdefault(key, ActionCount(action.name, outcome, reason, unfunded))
        counted.count += 1
        asset = next((change.asset for change in action.changes if isinstance(change, PositionChange)), None)
        if asset is not None:
            counted.value_base += book.value_down(asset, amount)


def actions_of(transaction: Sequence[MarketEvent]) -> dict[int, list[PositionChange | SettingChange]]:
    """The changes of each user action of a transaction, by its ``action_seq``: an action is made where its last change
    stands.
    """
    found: dict[int, list[PositionChange | SettingChange]] = {}
    for event in transaction:
        if isinstance(event, (PositionChange, SettingChange)) and event.action != "liquidation":
            found.setdefault(event.action_seq, []).append(event)
    return found


def _amounts(action: Action) -> list[int]:
    return [
        change.amount for change in action.changes if isinstance(change, PositionChange) and change.amount is not None
    ]


def _within_the_rules(view: AccountView) -> int:
    return view.borrowing_power_base - view.debt_base


def _asked(action: Action) -> int:
    """Native units that history's call moved, of what its name says where it moves more; 0 where it does not say."""
    side = _SIDES.get(action.name)
    own = [change for change in action.changes if isinstance(change, PositionChange) and change.side == side]
    return next(iter([change.amount for change in own if change.amount is not None] or _amounts(action)), 0)


def _is_sized(action: Action) -> bool:
    """Whether the action raises risk by an amount that could be another: not where it empties a balance, or raises it
    by what it sets, or by interest that is booked with it.
    """
    moved = [change for change in action.changes if isinstance(change, PositionChange) and change.amount != 0]
    return bool(_amounts(action)) and not action.emptied and raises_risk(moved)


def raises_risk(changes: Sequence[Change | ParamChange]) -> bool:
    """More debt, less collateral or another setting: what the contract checks health for."""
    for change in changes:
        if isinstance(change, SettingChange):
            if change.action != AUTHORIZE and (change.setting != "collateral_enabled" or not change.value):
                return True
        elif isinstance(change, PositionChange) and (change.delta > 0) == (change.side == "debt"):
            return True
    return False


def _key(change: PositionChange) -> Key:
    return change.account, change.asset, change.side


def _setting(change: SettingChange) -> Setting:
    return change.account, change.setting, change.asset
