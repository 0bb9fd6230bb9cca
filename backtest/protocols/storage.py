"""What contracts' storage says of one account: which slots a protocol reads, and what their words mean.

A protocol writes it once, as steps (``LendingProtocol.stored``): a generator that asks for slots and is sent their
words. Whoever proves an account answers from a node, whoever checks a proof from the proof alone, so that nobody takes
the word of a proof for which slot is which.
Where a value is computed by code of which no source is known here, a step asks for a view instead (``model.Reading``),
which is worked out from the contract's own code (``proofs.evm``), and the ``Input`` says so.

Layouts are solc's: https://docs.soliditylang.org, "Layout of State Variables in Storage and Transient Storage".
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

from typing_extensions import override

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.markets import MarketConfig
from backtest.model import AccountId, Asset, AssetId, Clock, Market, Reading


@dataclass(frozen=True, slots=True)
class AnswerWord(Reading):
    """A word of what a view answers, counted from 0."""

    place: int = 0

    @property
    @override
    def call(self) -> str:
        """The function with its arguments, and which word."""
        return " ".join((self.function, *map(str, self.arguments), f"[{self.place}]"))


State = TypeVar("State")
Result = TypeVar("Result")

Slot = tuple[str, int]
"""A contract (lower-case 0x text) and the number of a word of its storage."""
Question = Slot | Reading
Steps = Generator[Sequence[Question], Sequence[int | None], Result]
"""Asks for words and views, round by round, and ends in what they come to. A word is an unsigned integer of 256 bits, a
view's answer its first word (or that of ``AnswerWord``); None: the view reverts, or has no such word.
"""
ACCOUNT = AccountId(0)
"""The one account of a book that was made from storage."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose storage is read: an account of a market at the end of a block.

    Attributes:
        config: the market; its contracts are where all reading begins, and the one thing that its reader has to know.
        account: lower-case 0x address.
        now: the block's number and time.
        assets: addresses of assets whose balances are told although health may not depend on them.
        tokens: symbol and decimals of tokens by address. They name and scale numbers; no amount depends on them.
    """

    config: MarketConfig
    account: str
    now: Clock
    assets: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def asset(self, id: int, address: str, decimals: int | None = None) -> Asset:
        """An asset of the book; without ``decimals`` those of the token."""
        symbol, told = self.tokens.get(address, (address, 0))
        return Asset(AssetId(id), address, symbol, told if decimals is None else decimals)

    def market(self, assets: Sequence[Asset], price_decimals: int | None = None) -> Market:
        """The market of the book, with this one account."""
        config = self.config
        return Market(
            name=config.name,
            protocol=config.protocol,
            chain_id=config.chain_id,
            assets=tuple(assets),
            accounts=(self.account,),
            base_decimals=config.base_decimals,
            price_decimals=config.price_decimals if price_decimals is None else price_decimals,
        )

    def view(self, address: str, function: str, *arguments: int | str) -> Reading:
        """A view at the end of the block; addresses among the arguments become words."""
        words = tuple(int(each, 16) if isinstance(each, str) else each for each in arguments)
        return Reading(self.now.block_number, address, function, words)

    def contract(self, role: str) -> str:
        """The address of one of the market's contracts. UserError where the description names none."""
        if role not in self.config.contracts:
            raise UserError(
                f"market '{shown(self.config.name, 60)}' names no contract '{role}'", "complete its description"
            )
        return self.config.contracts[role]

    def parameter(self, name: str) -> str:
        """One of the market's own parameters. UserError where the description lacks it."""
        if name not in self.config.parameters:
            raise UserError(
                f"market '{shown(self.config.name, 60)}' has no parameter '{name}'", "complete its description"
            )
        return self.config.parameters[name]

    def word(self, name: str) -> str:
        """One of the market's own parameters that is a word of 32 bytes, as 0x text. UserError where it is none."""
        text = self.parameter(name)
        if not re.fullmatch("0x[0-9a-fA-F]{64}", text, re.ASCII):
            raise UserError(
                f"market '{shown(self.config.name, 60)}': {name} = '{shown(text, 80)}' is not a 32-byte word",
                "give 0x and 64 hex digits",
            )
        return text


@dataclass(frozen=True, slots=True)
class Input:
    """Something that the numbers of an account depend on.

    Words of storage say it, read where the protocol's source puts them; or ``view`` does. ``why`` says what of it is
    known.
    """

    what: str
    why: str
    value: int | None = None
    view: Reading | None = None


@dataclass(frozen=True, slots=True)
class StoredAccount(Generic[State]):
    """An account's part of a book: a state that ``figures``, ``holdings`` and ``view`` answer from as from the whole
    book, for ``ACCOUNT``; the oracle's prices; and what all of it rests on.
    """

    market: Market
    state: State
    prices: Mapping[AssetId, int]
    inputs: tuple[Input, ...]


@lru_cache(maxsize=4_096)
def _keccak(data: bytes) -> int:
    from eth_utils.crypto import keccak

    return int.from_bytes(keccak(data))


def at_key(slot: int, *keys: int | str) -> int:
    """Where a mapping at ``slot`` keeps the value of a key; of several keys, that of a mapping of mappings. Keys are
    integers (negative ones modulo 2^256), or addresses and other words as 0x text.
    """
    for key in keys:
        word = int(key, 16) if isinstance(key, str) else key % (1 << 256)
        slot = _keccak(word.to_bytes(32) + slot.to_bytes(32))
    return slot


def in_array(slot: int, index: int, words: int = 1) -> int:
    """Where a dynamic array at ``slot`` keeps the first word of an element of ``words`` words."""
    return (_keccak(slot.to_bytes(32)) + index * words) % (1 << 256)


def bits(word: int, first: int, count: int) -> int:
    """``count`` bits of a word, the lowest of which is bit ``first``."""
    return (word >> first) & ((1 << count) - 1)


def address_in(word: int, first: int = 0) -> str:
    """The address that begins at bit ``first`` of a word."""
    return f"0x{bits(word, first, 160):040x}"


def signed(word: int, width: int = 256) -> int:
    """The lowest ``width`` bits of a word as an int of that width."""
    value = bits(word, 0, width)
    return value - (1 << width) if value >> (width - 1) else value


def words(slots: Sequence[Slot]) -> Steps[list[int]]:
    """Words of storage, in order."""
    answers = yield slots
    return [0 if word is None else word for word in answers]


def word(contract: str, slot: int) -> Steps[int]:
    """One word of storage."""
    (found,) = yield from words([(contract, slot)])
    return found


def viewed(view: Reading) -> Steps[int | None]:
    """What a view answers; None: it reverts."""
    (found,) = yield [view]
    return found


def answers(*views: tuple[Reading, int]) -> Steps[list[int]]:
    """The first words of what some views answer, so many of each, in order. UserError where one reverts or has less."""
    asked = [
        AnswerWord(view.block_number, view.address, view.function, view.arguments, place)
        for view, count in views
        for place in range(count)
    ]
    found = yield asked
    told = []
    for view, value in zip(asked, found, strict=True):
        if value is None:
            raise UserError(f"{view.address} does not answer {view.call}", "correct the market, or the block")
        told.append(value)
    return told
