"""A proof held against a block's hash, and the account valued by the protocol's rules from what is proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eth_utils.crypto import keccak

from backtest.errors import PriceMissing, UserError
from backtest.model import AssetId, Clock, Prices, Reading
from backtest.proofs import evm
from backtest.proofs.headers import BlockHeader, read_header
from backtest.proofs.proof import Proof
from backtest.proofs.tries import Nodes, Unproven
from backtest.protocols.interface import AccountView, Figure, Holding, LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.protocols.storage import ACCOUNT, AnswerWord, Input, Question, Slot, Steps, StoredAccount, Subject

_LAST = (1 << 31) - 1
_MOST_ROUNDS, _MOST_QUESTIONS = 64, 20_000
"""Of one account: far above what any protocol asks."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An account as storage says it, valued at the end of a block.

    ``figures`` are the protocol's, None where the contract would revert, with the reason in ``missing``; ``view`` has
    health. ``prices`` go by the asset's address; ``units`` are what amount x price is divided by to give base units,
    ``weights`` how much of a holding's value counts towards health (wad). ``slots`` counts the words that were
    read. ``stated`` are views whose answers are taken as they were stated.
    """

    subject: Subject
    block: BlockHeader
    figures: tuple[Figure, ...] | None
    view: AccountView | None
    missing: str | None
    holdings: tuple[Holding, ...]
    symbols: Mapping[AssetId, str]
    addresses: Mapping[AssetId, str]
    inputs: tuple[Input, ...]
    prices: Mapping[str, int]
    units: Mapping[AssetId, int]
    weights: Mapping[AssetId, int | None]
    slots: int
    stated: frozenset[Reading] = frozenset()


def clock_of(block: BlockHeader) -> Clock:
    """The end of the block."""
    return Clock(block.number, _LAST, block.timestamp)


def view_of(world: evm.World, chain_id: int, block: BlockHeader, asked: Reading) -> int | None:
    """The first word that a view answers at the end of a block, worked out; None: it reverts. Unrunnable where it
    cannot be.
    """
    moment = evm.Surroundings(chain_id, block.number, block.timestamp)
    data = evm.answered(world, moment, asked.address, _data(asked))
    return word_of(data, asked)


def word_of(answer: bytes | None, asked: Reading) -> int | None:
    """The word that is asked for of what a view answered."""
    at = 32 * asked.place if isinstance(asked, AnswerWord) else 0
    return None if answer is None or len(answer) < at + 32 else int.from_bytes(answer[at : at + 32])


def _data(asked: Reading) -> bytes:
    """What the view's contract is called with."""
    return keccak(text=asked.function)[:4] + b"".join(word.to_bytes(32) for word in asked.arguments)


@dataclass(frozen=True, slots=True)
class ProvenWorld:
    """Nodes and codes as the state that code runs on. Unproven where one lacks."""

    nodes: Nodes
    root: bytes

    def word(self, contract: str, slot: int) -> int:
        """See ``evm.World``."""
        return self.nodes.word(self.root, contract, slot)

    def code(self, address: str) -> bytes:
        """See ``evm.World``."""
        return self.nodes.code(self.root, address)

    def balance(self, address: str) -> int:
        """See ``evm.World``."""
        return self.nodes.balance(self.root, address)


def run(steps: Steps[Any], answer: Callable[[Sequence[Question]], Sequence[int | None]]) -> Any:
    """What steps come to, with their questions answered by ``answer``. Unproven where they ask without end."""
    asked = 0
    try:
        questions = next(steps)
        for _ in range(_MOST_ROUNDS):
            asked += len(questions)
            if asked > _MOST_QUESTIONS:
                break
            questions = steps.send(answer(questions))
    except StopIteration as done:
        return done.value
    raise Unproven("it would take more words than any account has")


def steps_of(protocol: LendingProtocol[Any], subject: Subject) -> Steps[StoredAccount[Any]]:
    """The protocol's steps. UserError where it names no slots."""
    steps = protocol.stored(subject)
    if steps is None:
        raise UserError(
            f"protocol '{protocol.name}' names no storage slots of its state", "accounts of it cannot be proven"
        )
    return steps


def accounted(
    subject: Subject, block: BlockHeader, answer: Callable[[Sequence[Question]], Sequence[int | None]]
) -> Checked:
    """The account from words and views, by the rules.

    Raises:
        UserError: the protocol names no slots, or what storage says cannot be valued.
        RulesError: no rules for what storage says.
        Unproven: as ``answer`` raises it.
    """
    protocol = protocol_named(subject.config.protocol)
    seen: set[Slot] = set()

    def counted(questions: Sequence[Question]) -> Sequence[int | None]:
        seen.update(each for each in questions if not isinstance(each, Reading))
        return answer(questions)

    found: StoredAccount[Any] = run(steps_of(protocol, subject), counted)
    prices = Prices(found.prices, found.prices, found.prices)
    figures, view, missing = None, None, None
    try:
        figures = tuple(protocol.figures(found.state, ACCOUNT, prices, subject.now))
        view = protocol.view(found.state, ACCOUNT, prices, subject.now)
    except PriceMissing as error:
        missing = error.what
    holdings = tuple(protocol.holdings(found.state, ACCOUNT, subject.now))
    return Checked(
        subject=subject,
        block=block,
        figures=figures,
        view=view,
        missing=missing,
        holdings=holdings,
        symbols={asset.id: asset.symbol for asset in found.market.assets},
        addresses={asset.id: asset.asset for asset in found.market.assets},
        inputs=found.inputs,
        prices={found.market.assets[asset].asset: price for asset, price in found.prices.items()},
        units={asset.id: found.market.unit(asset.id) for asset in found.market.assets},
        weights={
            each.asset: protocol.weight(found.state, ACCOUNT, each.asset)
            for each in holdings
            if each.collateral_enabled
        },
        slots=len(seen),
    )


def check(proof: Proof, block_hash: str) -> Checked:
    """A proof against the hash (lower-case 0x text) of a block that its reader trusts: no node is asked.

    Raises:
        Unproven: it does not show what it should: another block, another account, a changed byte, or something in it
            that proves nothing.
        UserError, RulesError: as ``accounted``.
    """
    header = bytes.fromhex(proof.header[2:])
    block = read_header(header)
    if block.hash != block_hash:
        raise Unproven(f"it is a proof of block {block.hash}, not of {block_hash}")
    nodes = Nodes.of(*((bytes.fromhex(each[2:]) for each in part) for part in (proof.nodes, proof.codes)))
    world = ProvenWorld(nodes, block.state_root)
    told = {(each.contract, each.call): each.value for each in proof.stated}
    asked: dict[tuple[str, str], Reading] = {}

    def answer(questions: Sequence[Question]) -> list[int | None]:
        found: list[int | None] = []
        for question in questions:
            if isinstance(question, Reading):
                key = question.address, question.call
                if key in told:
                    asked[key] = question
                    value = told[key]
                    found.append(None if value is None else int(value))
                    continue
                try:
                    found.append(view_of(world, proof.market.chain_id, block, question))
                except evm.Unrunnable as error:
                    where = f"{question.function} of {question.address}"
                    raise Unproven(f"it does not state what {where} said, which cannot be run: {error}") from None
            else:
                found.append(nodes.word(block.state_root, *question))
        return found

    subject = proof.subject(clock_of(block))
    checked = accounted(subject, block, answer)
    if idle := (nodes.by_hash.keys() | nodes.codes.keys()) - nodes.used:
        raise Unproven(f"{len(idle)} of its nodes and codes prove nothing")
    if asked.keys() != told.keys() or len(told) != len(proof.stated):
        raise Unproven("it states what nothing asks for")
    return replace(checked, stated=frozenset(asked.values()), slots=len(nodes.words))
