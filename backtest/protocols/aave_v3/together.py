"""The liquidations of one moment, of many accounts in one call of the compiled rules: what ``pairs`` and ``quote`` of
each come to.

An account depends on prices and indexes, which stand still, and on itself. Only a treasury that is liquidated itself
would see what others pay it, and where a reserve may have too little to pay with, whoever comes first gets it: such a
moment is left to the plain rules, like one in which anything does not fit the compiled ones.
``tests/test_aave_together.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from backtest.model import AccountId, AssetId, Clock, Prices, Side
from backtest.protocols.aave_v3 import compiled as c
from backtest.protocols.aave_v3.effects import Effects
from backtest.protocols.aave_v3.liquidation import DUST, NO_BONUS, NO_COLLATERAL_BURNED, NO_DEBT, NO_DEBT_BURNED
from backtest.protocols.aave_v3.state import MOVED, AaveState, is_short, raise_largest
from backtest.protocols.aave_v3.valuation import Columns, columns_of, how_of, terms_of, weights
from backtest.protocols.interface import Fill, Order, Pair, Together
from backtest.words.columns import Words

_REASONS = {
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
    columns = columns_of(state, accounts)
    if columns.plain:
        return None
    assets = np.unique(columns.asset).tolist()
    treasuries = {at: state.reserves[at].treasury for at in assets}
    terms = terms_of(state, assets, prices, now)
    oracle = prices.oracle
    if any(terms[at, c.PRICE] == 0 and oracle.get(AssetId(at)) for at in assets):
        return None
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
        refused, ends = np.zeros((len(found), len(_REASONS) + 1), np.bool_), np.zeros(len(found), np.int64)
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
    told = frozenset(at for at in assets if state.reserves[at].told)
    rows = _Rows(
        state.rules.label, state.rules.tested, now, liquidator, treasuries, told, columns, made[:count], lost[:used]
    )
    refusals = [(found[at], _REASONS[how]) for at, how in np.argwhere(refused).tolist()] if refused.any() else []
    return rows.together(
        [account for account, end in zip(found, ends.tolist(), strict=True) if end == c.ON_OFFER], refusals
    )


def _run_short(state: AaveState, columns: Columns, made: Words, now: Clock) -> bool:
    """Whether a reserve may have too little for an order once all of these are paid."""
    left: dict[int, int] = {}
    held = columns.asset[made[:, c.COLLATERAL_ROW].astype(np.int64)].tolist()
    for at, seized in zip(held, _numbers(made, c.SEIZED), strict=True):
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
    treasuries: Mapping[int, int | None]
    told: frozenset[int]
    """Assets whose reserves' liquidity is known."""
    columns: Columns
    made: Words
    lost: Words

    def together(self, on_offer: list[AccountId], refused: list[tuple[AccountId, str]]) -> Together:
        """All of them."""
        made, asset = self.made, self.columns.asset
        account = self.columns.account[made[:, c.ACCOUNT].astype(np.int64)].tolist()
        owing = asset[made[:, c.DEBT_ROW].astype(np.int64)].tolist()
        held = asset[made[:, c.COLLATERAL_ROW].astype(np.int64)].tolist()
        after = [
            None if none else health
            for none, health in zip(made[:, c.NO_DEBT_LEFT].tolist(), _numbers(made, c.AFTER), strict=True)
        ]
        lost_in, lost_row = self.lost[:, c.LOST_IN].tolist(), asset[self.lost[:, c.LOST_ROW].astype(np.int64)].tolist()
        lost_scaled = _numbers(self.lost, c.LOST_SCALED)
        sums: dict[tuple[AccountId, AssetId, Side], int] = {}
        taken, moved = _numbers(made, c.COLLATERAL_SEIZED), _numbers(made, c.FEE_MOVED)
        for who, what, burned in zip(account, owing, _numbers(made, c.DEBT_BURNED), strict=True):
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
            profit=made[:, c.PROFIT].view(np.int64).tolist(),
            repaid=_numbers(made, c.REPAID),
            seized=_numbers(made, c.SEIZED),
            protocol_fee=_numbers(made, c.PAID_FEE),
            health_before=_numbers(made, c.BEFORE),
            health_after=after,
            deficits=list(zip(lost_in, lost_row, _numbers(self.lost, c.LOST_AMOUNT), strict=True)),
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
        made, asset = self.made[row], self.columns.asset
        borrower = AccountId(int(self.columns.account[int(made[c.ACCOUNT])]))
        owing, held = AssetId(int(asset[int(made[c.DEBT_ROW])])), AssetId(int(asset[int(made[c.COLLATERAL_ROW])]))
        changes = Effects(self.now, "liquidation")
        if made[c.CLEARS]:
            changes.setting(borrower, "collateral_enabled", held, 0)
        changes.position(borrower, owing, "debt", -_number(made, c.DEBT_BURNED))
        changes.position(borrower, held, "collateral", -_number(made, c.COLLATERAL_SEIZED))
        if fee := _number(made, c.FEE_MOVED):
            changes.position(borrower, held, "collateral", -fee)
            changes.position(cast(AccountId, self.treasuries[held]), held, "collateral", fee)
        first, stop = np.searchsorted(self.lost[:, c.LOST_IN], [row, row + 1])
        deficits = []
        for lost in self.lost[first:stop]:
            what = AssetId(int(asset[int(lost[c.LOST_ROW])]))
            changes.position(borrower, what, "debt", -_number(lost, c.LOST_SCALED))
            deficits.append((what, _number(lost, c.LOST_AMOUNT)))
        for what, amount in deficits:
            changes.param("deficit_created", what, amount)
        for what, amount in ((owing, _number(made, c.REPAID)), (held, -_number(made, c.SEIZED))):
            if amount and what in self.told:
                changes.param(MOVED, what, amount)
        asked = _number(made, c.ASKED) if made[c.HAS_ASKED] else None
        return Fill(
            order=Order(borrower, Pair(owing, held), self.liquidator, repay=asked),
            repaid=_number(made, c.REPAID),
            seized=_number(made, c.SEIZED),
            protocol_fee=_number(made, c.PAID_FEE),
            changes=tuple(changes.all),
            deficits=tuple(deficits),
            rules=self.rules,
            rules_tested=self.tested,
        )


def _number(row: Words, place: int) -> int:
    return int(row[place]) << 64 | int(row[place + 1])


def _numbers(rows: Words, place: int) -> list[int]:
    high, low = rows[:, place], rows[:, place + 1]
    if not high.any():
        return cast("list[int]", low.tolist())
    return [(h << 64) | n for h, n in zip(high.tolist(), low.tolist(), strict=True)]
