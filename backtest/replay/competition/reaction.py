"""How long nobody can act: the seconds that pass between the moment an account comes on offer and the first at which
anybody's call about it is in a block, because it has to be seen, decided on, built and sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from backtest.model import AccountId
from backtest.scenario import Contest


class Reaction:
    """Since when each account is on offer, as the looks of one replay find it. What stands on offer at the first look
    counts from there: what was before is not known. A liquidation that leaves an account on offer begins nothing anew.
    """

    def __init__(self, terms: Contest) -> None:
        self._seconds = terms.reaction
        self.some = terms.reaction > 0
        """Whether anybody ever has to wait."""
        self._since: dict[AccountId, int] = {}

    def seen(self, on_offer: Iterable[AccountId], now: int) -> None:
        """These, and no others, are on offer at the end of a look; ``now``: seconds since 1970."""
        self._since = {account: self._since.get(account, now) for account in on_offer}

    def ready(self, account: AccountId, now: int) -> int:
        """``now``, or the first time at which anybody can act on an account that is on offer now."""
        return max(now, self._since.get(account, now) + self._seconds)
