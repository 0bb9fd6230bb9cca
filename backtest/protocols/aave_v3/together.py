"""The liquidations of one moment, of many accounts in one call of the compiled rules: what ``pairs`` and ``quote`` of
each come to.

An account depends on prices and indexes, which stand still, and on itself. Only a treasury that is liquidated itself
would see what others pay it, and where a reserve may have too little to pay with, whoever comes first gets it: such a
moment is left to the plain rules, like one in which anything does not fit the compiled ones.
``tests/protocols/aave_v3/test_aave_together.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from backtest.model import AccountId, AssetId, Clock, Prices, Side
from backtest.protocols import loop
from backtest.protocols.aave_v3 import compiled as c
from backtest.protocols.aave_v3.effects import Effects
from backtest.protocols.aave_v3.liquidation import DUST, NO_BONUS, NO_COLLATERAL_BURNED, NO_DEBT, NO_DEBT_BURNED
from backtest.protocols.aave_v3.live import Columns
from backtest.protocols.aave_v3.state import MOVED, AaveState, is_short, raise_largest
from backtest.protocols.aave_v3.valuation import columns_of, how_of, live_of, terms_of, weights
from backtest.protocols.interface import Fill, Order, Pair, Spreads, Together
from backtest.protocols.loop import number, numbers
from backtest.words.columns import Words

REASONS = {
    c.NO_DEBT: NO_DEBT,
    c.NO_BONUS: NO_BONUS,
    c.DUST: DUST,
    c.NO_COLLATERAL_BURNED: NO_COLLATERAL_BURNED,
    c.NO_DEBT_BURNED: NO_DEBT_BURNED,
}


def together(
    state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock, liquidator: AccountId, *, cost: int,
    calls: Mapping[AccountId, int],
    most: int,
) -> Together | None:  # fmt: skip
    """See ``protocols.Together``."""
    if state.recompute or cost >= 1 << 62:
        return None
    state.catch_up()
    columns = columns_of(state, accounts)
    if columns.plain:
        return None
    assets = np.unique(columns.asset).tolist()
    treasuries = {AssetId(at): state.reserves[at].treasury for at in assets}
    terms = terms_of(state, assets, prices, now)
    if any(treasuries[at] is None and state.reserves[at].liquidation_protocol_fee for at in assets):
        return None
    found = columns.account.tolist()
    if not set(found).isdisjoint(treasuries.values()):
        return None
    if any(is_short(state, state.reserves[at], state.reserves[at].liquidity, now) for at in assets):
        return None
    how = how_of(state.rules)
    group, (threshold, _, bonus) = weights(state, columns.category)
    done = np.array([calls.get(account, 0) for account in found], np.int64) if calls else np.zeros(len(found), np.int64)
    room = 2 * len(found) + 8
    while True:
        made, lost = np.zeros((room, c.MADE), np.uint64), np.zeros((2 * room, c.LOST), np.uint64)
        refused, ends = np.zeros((len(found), len(REASONS) + 1), np.bool_), np.zeros(len(found), np.int64)
        try:
            count, used = c.liquidate(
                columns.start, columns.asset, columns.owed, columns.scaled.copy(), group, terms, threshold, bonus, how,
                state.close_factor, cost, done, most, made, lost, refused, ends,
            )  # fmt: skip
        except ArithmeticError:
            return None
        if count != c.NO_ROOM:
            break
        room *= 4
    if _run_short(state, columns, made[:count], now):
        return None
    told = frozenset(AssetId(at) for at in assets if state.reserves[at].told)
    rows = _Rows(
        state.rules.label, state.rules.tested, now, liquidator, treasuries, told, columns, made[:count], lost[:used]
    )
    refusals = [(found[at], REASONS[how]) for at, how in np.argwhere(refused).tolist()] if refused.any() else []
    return rows.together(
        [account for account, end in zip(found, ends.tolist(), strict=True) if end == c.ON_OFFER], refusals
    )


def spreads(state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
    """See ``protocols.Spreads``: not where a treasury is not known, or a reserve may be short, and not where interest
    is recomputed.
    """
    if state.recompute:
        return None
    ids = np.array(accounts, np.int64)
    columns = live_of(state).among(ids)
    sizes, owing = np.diff(columns.start), np.concatenate([[0], np.cumsum(columns.owed)])[columns.start]
    debts = np.diff(owing)
    pairs = np.empty((int((debts * (sizes - debts)).sum()), c.PAIR), np.int64)
    refused, plain = np.zeros((len(sizes), len(REASONS) + 1), np.bool_), np.zeros(len(sizes), np.bool_)
    used = np.unique(columns.asset).tolist()
    unsure = np.zeros(len(state.reserves), np.bool_)
    for at in used:
        reserve = state.reserves[at]
        unpaid = reserve.treasury is None and reserve.liquidation_protocol_fee != 0
        unsure[at] = unpaid or is_short(state, reserve, reserve.liquidity, now)
    group, (threshold, _, bonus) = weights(state, columns.category)
    count = c.spreads(
        columns.start, columns.asset, columns.owed, columns.scaled, group, terms_of(state, used, prices, now),
        threshold, bonus, how_of(state.rules), state.close_factor, unsure, pairs, refused, plain,
    )  # fmt: skip
    of, owed, held, paid, brought = pairs[:count].T
    refused[plain] = False
    refusals = np.argwhere(refused).tolist() if refused.any() else []
    return Spreads(
        columns.account[of], owed, held, paid, brought, frozenset(columns.account[plain].tolist()).union(columns.plain),
        [(AccountId(int(columns.account[at])), REASONS[why]) for at, why in refusals],
    )  # fmt: skip


def _run_short(state: AaveState, columns: Columns, made: Words, now: Clock) -> bool:
    """Whether a reserve may have too little for an order once all of these are paid."""
    left: dict[int, int] = {}
    for at, seized in zip(made[:, loop.COLLATERAL_ASSET].tolist(), numbers(made, loop.SEIZED), strict=True):
        left[at] = left.get(at, state.reserves[at].liquidity) - seized
    return any(is_short(state, state.reserves[at], liquidity, now) for at, liquidity in left.items())


def settle(state: AaveState, found: Together) -> None:
    """See ``protocols.Together``."""
    reserves, latest = state.reserves, state.latest
    for account, asset, side, delta in found.positions:
        book = state.account(account)
        held = book.debt if side == "debt" else book.collateral
        balance = held.get(asset, 0) + delta
        if balance:
            held[asset] = balance
        else:
            held.pop(asset, None)
        if side == "debt":
            reserves[asset].scaled_debt += delta
        else:
            reserves[asset].scaled_supply += delta
        if delta > 0:  # the treasury's fee
            raise_largest(state, book)
        latest.pop(account, None)
    for debt, repaid, collateral, seized in zip(
        found.debt_asset, found.repaid, found.collateral_asset, found.seized, strict=True
    ):
        reserves[debt].liquidity += repaid
        reserves[collateral].liquidity -= seized
    for account, _, asset, _ in found.settings:
        state.account(account).enabled.discard(asset)
    for _, asset, amount in found.deficits:
        reserves[asset].deficit += amount


@dataclass(frozen=True, slots=True)
class _Rows:
    """What ``compiled.liquidate`` filled, and what it meant."""

    rules: str
    tested: bool
    now: Clock
    liquidator: AccountId
    treasuries: Mapping[AssetId, int | None]
    told: frozenset[AssetId]
    """Assets whose reserves' liquidity is known."""
    columns: Columns
    made: Words
    lost: Words

    def together(self, on_offer: list[AccountId], refused: list[tuple[AccountId, str]]) -> Together:
        """All of them."""
        made = self.made
        account = self.columns.account[made[:, loop.ACCOUNT].astype(np.int64)].tolist()
        owing, held = made[:, loop.DEBT_ASSET].tolist(), made[:, loop.COLLATERAL_ASSET].tolist()
        after = [
            None if none else health
            for none, health in zip(made[:, loop.NO_DEBT_LEFT].tolist(), numbers(made, loop.AFTER), strict=True)
        ]
        lost_in, lost_row = self.lost[:, loop.LOST_IN].tolist(), self.lost[:, loop.LOST_ASSET].tolist()
        lost_scaled = numbers(self.lost, c.LOST_SCALED)
        sums: dict[tuple[AccountId, AssetId, Side], int] = {}
        taken, moved = numbers(made, c.COLLATERAL_SEIZED), numbers(made, c.FEE_MOVED)
        for who, what, burned in zip(account, owing, numbers(made, c.DEBT_BURNED), strict=True):
            sums[who, what, "debt"] = sums.get((who, what, "debt"), 0) - burned
        for who, what, seized, fee in zip(account, held, taken, moved, strict=True):
            sums[who, what, "collateral"] = sums.get((who, what, "collateral"), 0) - seized - fee
            if fee:
                treasury: tuple[AccountId, AssetId, Side] = cast(AccountId, self.treasuries[what]), what, "collateral"
                sums[treasury] = sums.get(treasury, 0) + fee
        for row, what, scaled in zip(lost_in, lost_row, lost_scaled, strict=True):
            sums[account[row], what, "debt"] = sums.get((account[row], what, "debt"), 0) - scaled
        clears = made[:, c.CLEARS].tolist()
        return Together(
            account=account,
            debt_asset=owing,
            collateral_asset=held,
            profit=made[:, loop.PROFIT].view(np.int64).tolist(),
            repaid=numbers(made, loop.REPAID),
            seized=numbers(made, loop.SEIZED),
            protocol_fee=numbers(made, loop.FEE),
            health_before=numbers(made, loop.BEFORE),
            health_after=after,
            deficits=list(zip(lost_in, lost_row, numbers(self.lost, loop.LOST_AMOUNT), strict=True)),
            positions=[(*key, delta) for key, delta in sums.items() if delta],
            settings=[
                (who, "collateral_enabled", what, 0)
                for who, what, clear in zip(account, held, clears, strict=True)
                if clear
            ],
            on_offer=on_offer,
            refused=refused,
            rules=(self.rules, self.tested),
            fill=self.fill,
        )

    def fill(self, row: int) -> Fill:
        """As ``liquidation._settle`` makes it."""
        first, stop = np.searchsorted(self.lost[:, loop.LOST_IN], [row, row + 1])
        borrower = AccountId(int(self.columns.account[int(self.made[row, loop.ACCOUNT])]))
        return fill_of(
            self.made[row], self.lost[first:stop], self.now, borrower, self.treasuries, self.told, self.rules,
            self.tested, self.liquidator,
        )  # fmt: skip


def fill_of(
    made: Words, lost: Words, now: Clock, borrower: AccountId, treasuries: Mapping[AssetId, int | None],
    told: Collection[AssetId], rules: str, tested: bool, liquidator: AccountId,
) -> Fill:  # fmt: skip
    """As ``liquidation._settle`` makes it: a row of liquidations, and those of what it wrote off."""
    owing, held = AssetId(int(made[loop.DEBT_ASSET])), AssetId(int(made[loop.COLLATERAL_ASSET]))
    changes = Effects(now, "liquidation")
    if made[c.CLEARS]:
        changes.setting(borrower, "collateral_enabled", held, 0)
    changes.position(borrower, owing, "debt", -number(made, c.DEBT_BURNED))
    changes.position(borrower, held, "collateral", -number(made, c.COLLATERAL_SEIZED))
    if fee := number(made, c.FEE_MOVED):
        changes.position(borrower, held, "collateral", -fee)
        changes.position(cast(AccountId, treasuries[held]), held, "collateral", fee)
    deficits = []
    for each in lost:
        what = AssetId(int(each[loop.LOST_ASSET]))
        changes.position(borrower, what, "debt", -number(each, c.LOST_SCALED))
        deficits.append((what, number(each, loop.LOST_AMOUNT)))
    for what, amount in deficits:
        changes.param("deficit_created", what, amount)
    for what, amount in ((owing, number(made, loop.REPAID)), (held, -number(made, loop.SEIZED))):
        if amount and what in told:
            changes.param(MOVED, what, amount)
    asked = number(made, c.ASKED) if made[c.HAS_ASKED] else None
    return Fill(
        order=Order(borrower, Pair(owing, held), liquidator, repay=asked),
        repaid=number(made, loop.REPAID),
        seized=number(made, loop.SEIZED),
        protocol_fee=number(made, loop.FEE),
        changes=tuple(changes.all),
        deficits=tuple(deficits),
        rules=rules,
        rules_tested=tested,
    )
