"""One vault while its logs are read: its totals and every debt, in the fractions that the contract keeps.

Source: euler-xyz/euler-vault-kit, ``src/EVault/shared/BorrowUtils.sol``. Each change of a debt says what the vault's
logs have to say of it, so that a log that is missing shows at the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from backtest.protocols.euler_v2.liquidation import debt_moved
from backtest.protocols.euler_v2.math import DEBT_UNIT, grown_down, owed_up
from backtest.protocols.euler_v2.state import Vault, move_debt
from backtest.units import RAY


class Moved(NamedTuple):
    """A debt that changed: how much it was stored as, what it is now (2^-31 units), what the log says that was
    borrowed or repaid, and the interest that stands before it (native units).
    """

    stored: int
    after: int
    amount: int
    interest: int


@dataclass(slots=True)
class Ledger:
    """A vault, and (debt, accumulator then) by address."""

    vault: Vault = field(default_factory=Vault)
    debts: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def owed(self, who: bytes) -> int:
        """A debt now, 2^-31 units."""
        debt, since = self.debts.get(who, (0, RAY))
        return grown_down(debt, self.vault.accumulator, since) if debt else 0

    def _store(self, who: bytes, after: int) -> int:
        stored = self.debts.get(who, (0, RAY))[0]
        if after:
            self.debts[who] = after, self.vault.accumulator
        else:
            self.debts.pop(who, None)
        return stored

    def borrow(self, who: bytes, assets: int) -> Moved:
        """increaseBorrow."""
        before = self.owed(who)
        after = before + assets * DEBT_UNIT
        move_debt(self.vault, before, after, "borrow", assets)
        stored = self._store(who, after)
        return Moved(stored, after, assets, owed_up(after) - owed_up(stored) - assets)

    def repay(self, who: bytes, assets: int, action: str = "repay") -> Moved | None:
        """decreaseBorrow; None where less is owed. ``socialized``: nobody paid."""
        before = self.owed(who)
        if assets > owed_up(before):
            return None
        after = (owed_up(before) - assets) * DEBT_UNIT
        if action == "socialized":
            self.vault.debt = self.vault.debt - before + after if self.vault.debt > before else after
        else:
            move_debt(self.vault, before, after, action, assets)
        stored = self._store(who, after)
        return Moved(stored, after, assets, owed_up(after) + assets - owed_up(stored))

    def transfer(self, giver: bytes, taker: bytes, assets: int) -> tuple[Moved, Moved] | None:
        """transferBorrow; None where less is owed."""
        before = self.owed(giver)
        moved = debt_moved(before, assets)
        if moved > before:
            return None
        after = before - moved
        stored = self._store(giver, after)
        held = self.owed(taker)
        stored_there = self._store(taker, held + moved)
        was, left = owed_up(stored), owed_up(after)
        repaid = was - left if was > assets + left else assets
        gave = Moved(stored, after, repaid, left + repaid - was)
        was, now = owed_up(stored_there), owed_up(held + moved)
        borrowed = now - was if assets + was > now else assets
        return gave, Moved(stored_there, held + moved, borrowed, now - was - borrowed)
