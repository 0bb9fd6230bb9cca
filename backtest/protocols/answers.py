"""Prices from storage: sources that keep their answer in a word, under layouts known by name.

``word-N``: the answer is the signed word in slot N of the source. ``chainlink``: a Chainlink feed; see ``_chainlink``.
That a source has a layout only its code could say, so the name of it stands beside the price wherever it is shown.
"""

from __future__ import annotations

import re

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.model import Reading
from backtest.protocols.storage import Input, Steps, Subject, signed, viewed, word

LAYOUTS = ("word-0", "word-1", "word-2", "word-3")
"""Layouts that whoever makes a proof tries."""


def priced(
    subject: Subject, symbol: str, source: str, view: Reading, *, chosen: str
) -> Steps[tuple[int | None, Input]]:
    """A price that ``source`` answers, from its storage where its layout is given, else what ``view`` says; None where
    that reverts. ``chosen``: what names the source, in words.
    """
    what, layout = f"price of {symbol}", subject.layouts.get(source)
    if layout is None:
        value = yield from viewed(view)
        why = f"computed by the code of {source}, the source that {chosen} names"
        return value, Input(what, "stated", why, value, source, LAYOUTS)
    value = yield from _answer(source, layout)
    why = f"storage of {source}, the source that {chosen} names, if its code has the layout {layout}"
    return value, Input(what, "layout", why, value, source)


def _answer(source: str, layout: str) -> Steps[int]:
    if found := re.fullmatch(r"word-([0-9]{1,3})", layout, re.ASCII):
        return signed((yield from word(source, int(found[1]))))
    raise UserError(f"'{shown(layout, 40)}' is not a layout of price sources", "make the proof anew")
