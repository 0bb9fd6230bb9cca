"""Who looks at an opportunity in a block, and when somebody does next. Who looks is drawn for each moment whatever
happens, so that it is known ahead.
"""

from __future__ import annotations

from backtest.replay.competition.absence import Absence, Overlooked
from backtest.replay.competition.draws import WORD, Draws, negative_binomial, poisson
from backtest.replay.competition.gas import NEVER
from backtest.replay.competition.opportunities import Key
from backtest.replay.competition.reaction import Reaction
from backtest.scenario import Contest, Oev, Participation
from backtest.units import BPS


def lot_word(lot: int | None) -> int:
    """Of the key of a draw about an opportunity before any call of this moment."""
    return (0 if lot is None else lot + 1) << 32


class Showing:
    """See the module. Owned by the searchers of one replay, as its parts are."""

    def __init__(
        self, terms: Contest, draws: Draws, absence: Absence, overlooked: Overlooked, reaction: Reaction
    ) -> None:
        self._terms, self._each, self._draws = terms, terms.each, draws
        self._absence, self._overlooked, self._reaction = absence, overlooked, reaction

    def names(self, drawn: tuple[int, int, int]) -> set[str]:
        """Of the searchers that look; ``drawn``: the moment, the account, and which call about what."""
        terms, each, draws = self._terms, self._each, self._draws
        if isinstance(terms, Participation) and terms.distribution == "searchers":
            return {each[i].name for i in range(len(each)) if draws.chance(each[i].shows_up, "shows up", *drawn, i)}
        if not isinstance(terms, Participation | Oev):
            return {searcher.name for searcher in each}
        number = draws.number(self._numbers(terms), "number", *drawn)
        if not number:
            return set()
        order = sorted(range(len(each)), key=lambda i: (draws.word("order", *drawn, i), i))
        return {each[i].name for i in order[:number]}

    def next(self, terms: Participation, key: Key, start: int) -> int:
        """The first of the moments from ``start`` on, a block apart, at which somebody looks at this opportunity and
        can act on it, or ``NEVER``; never too late.
        """
        account, lot = key
        of, step, draws = (account, lot_word(lot)), terms.block_seconds, self._draws
        seen = start if lot is not None else self._overlooked.until(account, self._reaction.ready(account, start))
        back = NEVER if seen == NEVER else self._absence.back(seen)
        if back == NEVER:
            return NEVER
        start += -(-(back - start) // step) * step
        if terms.distribution != "searchers":
            nobody = next(iter(self._numbers(terms)), WORD)  # words below it
            return NEVER if nobody >= WORD else draws.first_time(nobody, WORD - 1, start, step, "number", *of)
        first = NEVER
        for place, searcher in enumerate(self._each):
            if searcher.shows_up >= BPS:
                return start
            below = -(-searcher.shows_up * WORD // BPS)  # see ``Draws.chance``
            if below:
                first = min(first, draws.first_time(0, below - 1, start, step, "shows up", *of, place))
        return first

    def _numbers(self, terms: Participation | Oev) -> tuple[int, ...]:
        """Cumulative probabilities of the number that shows up, as ``Draws.number`` takes them."""
        most = len(self._each)
        if isinstance(terms, Participation) and terms.distribution == "negative-binomial":
            return negative_binomial(terms.mean, terms.dispersion, most)
        return poisson(terms.mean, most)
