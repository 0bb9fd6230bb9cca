"""Which logs of a transaction are one call on a debt.

Source: euler-xyz/euler-vault-kit, ``src/EVault/shared/BorrowUtils.sol`` ``logBorrow``, ``logRepay``;
``modules/Liquidation.sol`` ``executeLiquidation``, ``modules/Borrowing.sol`` ``pullDebt``, ``repayWithShares``. A debt
that changes hands logs as a repayment and a loan; what follows them tells it from two calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ZERO = bytes(20)
_OF_DEBTS = frozenset({"Borrow", "Repay", "InterestAccrued", "PullDebt", "Liquidate", "DebtSocialized", "Withdraw"})

Log = tuple[int, str, Mapping[str, Any]]


@dataclass(slots=True)
class DebtCall:
    """One call. ``at``: place of its last log in the transaction. ``kind``: borrow, repay, repay_with_shares, transfer
    or liquidation. Interest amounts are those of ``InterestAccrued`` before each log.

    Of a debt that changes hands: ``repaid`` and ``borrowed`` are what the two logs say. ``lost``: what a liquidation
    wrote off.
    """

    at: int
    kind: str
    account: bytes
    assets: int
    interest: int = 0
    giver: bytes = ZERO
    taker: bytes = ZERO
    repaid: int = 0
    borrowed: int = 0
    interest_there: int = 0
    lost: int = 0
    interest_lost: int = 0


@dataclass(slots=True)
class Debts:
    """Calls on debts, and places of ``Withdraw`` logs whose shares paid a debt."""

    calls: list[DebtCall] = field(default_factory=list)
    with_shares: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, logs: Sequence[Log]) -> Debts:
        """All calls of one transaction, each vault's logs by themselves."""
        found = cls()
        by_vault: dict[bytes, list[int]] = defaultdict(list)
        for at, (_, event, row) in enumerate(logs):
            if event in _OF_DEBTS:
                by_vault[row["address"]].append(at)
        for places in by_vault.values():
            _Reader(logs, places, found).read()
        return found


class _Reader:
    """The logs of one vault's debts, one call after another."""

    def __init__(self, logs: Sequence[Log], places: Sequence[int], found: Debts) -> None:
        self.logs, self.places, self.found = logs, places, found

    def _peek(self, step: int) -> tuple[int, str, Mapping[str, Any]] | None:
        if step >= len(self.places):
            return None
        at = self.places[step]
        return at, self.logs[at][1], self.logs[at][2]

    def _interest(self, step: int) -> tuple[int, int]:
        """Interest that is logged here, 0 where none is, and the next step."""
        seen = self._peek(step)
        return (int(seen[2]["assets"]), step + 1) if seen is not None and seen[1] == "InterestAccrued" else (0, step)

    def _is(self, step: int, event: str) -> Mapping[str, Any] | None:
        seen = self._peek(step)
        return seen[2] if seen is not None and seen[1] == event else None

    def read(self) -> None:
        """Every call."""
        step = 0
        while step < len(self.places):
            step = self._call(step)

    def _call(self, step: int) -> int:
        interest, place = self._interest(step)
        seen = self._peek(place)
        if seen is None:
            return place
        at, event, row = seen
        if event == "Borrow":
            self.found.calls.append(DebtCall(at, "borrow", row["account"], int(row["assets"]), interest))
            return place + 1
        if event == "Withdraw":
            return self._withdraw(place, at, row)
        if event == "Repay":
            return self._handed(step) or self._lost_alone(step) or self._repaid(at, row, interest, place)
        if event == "Liquidate":
            self.found.calls.append(self._liquidation(at, row))
        return place + 1

    def _repaid(self, at: int, row: Mapping[str, Any], interest: int, place: int) -> int:
        self.found.calls.append(DebtCall(at, "repay", row["account"], int(row["assets"]), interest))
        return place + 1

    def _withdraw(self, place: int, at: int, row: Mapping[str, Any]) -> int:
        """Shares that pay a debt in the same call; a withdrawal and a repayment of as much move the same."""
        interest, after = self._interest(place + 1)
        repay, seen = self._is(after, "Repay"), self._peek(after)
        if (
            int(row["shares"])
            and repay is not None
            and seen is not None
            and int(repay["assets"]) == int(row["assets"])
            and not self._handed(place + 1, dry=True)
            and not self._lost_alone(place + 1, dry=True)
        ):
            self.found.with_shares.add(at)
            call = DebtCall(seen[0], "repay_with_shares", repay["account"], int(repay["assets"]), interest)
            self.found.calls.append(call)
            return after + 1
        return place + 1

    def _liquidation(self, at: int, row: Mapping[str, Any]) -> DebtCall:
        giver, taker = row["violator"], row["liquidator"]
        return DebtCall(at, "liquidation", giver, int(row["repay_assets"]), giver=giver, taker=taker)

    def _handed(self, step: int, *, dry: bool = False) -> int:
        """A debt that changes hands, by ``pullDebt`` or a liquidation, from here on; the step after it, 0: none."""
        interest, place = self._interest(step)
        repay = self._is(place, "Repay")
        if repay is None:
            return 0
        there, after = self._interest(place + 1)
        borrow = self._is(after, "Borrow")
        borrowed = int(borrow["assets"]) if borrow is not None else 0
        after += borrow is not None
        giver, repaid = repay["account"], int(repay["assets"])

        def both(call: DebtCall) -> DebtCall:
            call.interest, call.repaid, call.borrowed, call.interest_there = interest, repaid, borrowed, there
            return call

        pulled, seen = self._is(after, "PullDebt"), self._peek(after)
        if pulled is not None and seen is not None and pulled["from"] == giver and borrow_of(borrow, pulled["to"]):
            call = DebtCall(seen[0], "transfer", pulled["to"], int(pulled["assets"]), giver=giver, taker=pulled["to"])
            if not dry:
                self.found.calls.append(both(call))
            return after + 1
        lost, interest_lost, end = self._lost(after, giver)
        row, seen = self._is(end, "Liquidate"), self._peek(end)
        if row is None or seen is None or row["violator"] != giver or not borrow_of(borrow, row["liquidator"]):
            return 0
        if not int(row["repay_assets"]):
            return 0
        if not dry:
            call = both(self._liquidation(seen[0], row))
            call.lost, call.interest_lost = lost, interest_lost
            self.found.calls.append(call)
        return end + 1

    def _lost(self, step: int, who: bytes) -> tuple[int, int, int]:
        """What is written off of an account here, with the interest before it; the step after it."""
        interest, place = self._interest(step)
        repay, withdraw, told = (
            self._is(place + n, event) for n, event in enumerate(("Repay", "Withdraw", "DebtSocialized"))
        )
        if repay is None or withdraw is None or told is None or int(withdraw["shares"]):
            return 0, 0, step
        if not repay["account"] == told["account"] == who or int(repay["assets"]) != int(told["assets"]):
            return 0, 0, step
        return int(told["assets"]), interest, place + 3

    def _lost_alone(self, step: int, *, dry: bool = False) -> int:
        """A debt that is written off by a liquidation that repaid nothing."""
        _, place = self._interest(step)
        repay = self._is(place, "Repay")
        if repay is None:
            return 0
        lost, interest, end = self._lost(step, repay["account"])
        row, seen = self._is(end, "Liquidate"), self._peek(end)
        if not lost or row is None or seen is None or row["violator"] != repay["account"]:
            return 0
        if not dry:
            call = self._liquidation(seen[0], row)
            call.lost, call.interest_lost = lost, interest
            self.found.calls.append(call)
        return end + 1


def borrow_of(borrow: Mapping[str, Any] | None, who: bytes) -> bool:
    """Whether a loan is this account's; there is none where rounding left nothing to say."""
    return borrow is None or borrow["account"] == who
