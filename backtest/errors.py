"""Errors a user can act on: one line that says what, where, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake or an outside condition that the user can mend.

    The command line prints it as one line and exits with code 2; nothing was changed.

    Args:
        what: what is wrong, naming block, address, file or field.
        fix: what to do about it.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}" if fix else what)


class LakeError(UserError):
    """The lake cannot be read or written as asked."""


class LakeBusy(LakeError):
    """Another writer is at work or was first: the same again may succeed."""


class FetchError(UserError):
    """The node's answer cannot be used."""


class ScenarioError(UserError):
    """A scenario does not make sense."""


class RulesError(UserError):
    """No tested rule covers what the data ask for, for example an unknown pool revision."""


class PriceMissing(RulesError):
    """An account uses an asset whose oracle would revert: it has no health, and no liquidation of it would go
    through.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt word: the closest known one, or all of them."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(choices) or 'none'}"
