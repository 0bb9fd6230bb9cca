"""Numbers from storage that are asked of a view otherwise: contracts that keep them in a word, under layouts known by
name.

``word-N``: the signed word in slot N; ``mapping-N``: the value of the question's key in the mapping at slot N (a
token's balances, an oracle's prices by asset). That a contract has a layout only its code could say, so the name of the
layout stands beside the number wherever it is shown.
"""

from __future__ import annotations

import re

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.model import Reading
from backtest.protocols.storage import Input, Steps, Subject, at_key, signed, viewed, word

PRICES = ("word-0", "word-1", "word-2", "word-3", "mapping-0", "mapping-1")
BALANCES = tuple(f"mapping-{slot}" for slot in (*range(11), 51, 101))
"""Layouts that whoever makes a proof tries. Tokens keep balances in slot 0 (OpenZeppelin), 9 (USDC), 3 (WETH), 51
(upgradeable ones) and others.
"""
_LAYOUT = re.compile("(word|mapping)-([0-9]{1,3})", re.ASCII)


def answered(
    subject: Subject, what: str, contract: str, view: Reading, key: str, layouts: tuple[str, ...], why: str
) -> Steps[tuple[int | None, Input]]:
    """A number that ``contract`` keeps, from its storage where its layout is given, else what ``view`` says; None where
    that reverts. ``key``: of a mapping. ``why``: what is known of the contract, in words.
    """
    layout = subject.layouts.get(contract)
    if layout is None:
        value = yield from viewed(view)
        return value, Input(what, "stated", f"computed by code: {why}", value, contract, layouts)
    value = yield from _kept(contract, layout, key)
    return value, Input(what, "layout", f"{why}, if its code has the layout {layout}", value, contract)


def priced(
    subject: Subject, symbol: str, source: str, view: Reading, *, chosen: str, key: str
) -> Steps[tuple[int | None, Input]]:
    """A price that ``source`` answers. ``chosen``: what names the source, in words; ``key``: what it is asked for."""
    why = f"{source}, the source that {chosen} names"
    return (yield from answered(subject, f"price of {symbol}", source, view, key, PRICES, why))


def _kept(contract: str, layout: str, key: str) -> Steps[int]:
    found = _LAYOUT.fullmatch(layout)
    if found is None:
        raise UserError(f"'{shown(layout, 40)}' is not a layout of a number", "make the proof anew")
    slot = int(found[2])
    return signed((yield from word(contract, slot if found[1] == "word" else at_key(slot, key))))
