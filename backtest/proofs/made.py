"""A proof made from trie nodes and what views said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from backtest.model import Reading
from backtest.proofs.checked import accounted
from backtest.proofs.headers import read_header
from backtest.proofs.proof import FORMAT, Layout, Proof, Stated, TokenName
from backtest.proofs.tries import Nodes
from backtest.protocols.storage import Question, Subject

Answer = Callable[[Sequence[Question]], Sequence[int | None]]


def make(subject: Subject, header: bytes, nodes: Nodes, view: Callable[[Reading], int | None]) -> Proof:
    """The proof of an account: those of ``nodes`` that its steps need and no others, and the views that they ask.

    ``header`` is the block's RLP.

    Raises:
        Unproven: the nodes do not suffice. UserError, RulesError: as ``accounted``.
    """
    block, fresh = read_header(header), Nodes(nodes.by_hash)
    asked: dict[Reading, int | None] = {}

    def answer(questions: Sequence[Question]) -> list[int | None]:
        asked.update({each: view(each) for each in questions if isinstance(each, Reading)})
        return [asked[each] if isinstance(each, Reading) else fresh.word(block.state_root, *each) for each in questions]

    checked = accounted(subject, block, answer)
    named = sorted(checked.addresses.values() & subject.tokens.keys())
    return Proof(
        format=FORMAT,
        market=msgspec.structs.replace(subject.config, pools=(), description=""),
        account=subject.account,
        assets=subject.assets,
        tokens=tuple(TokenName(each, *subject.tokens[each]) for each in named),
        layouts=tuple(Layout(contract, name) for contract, name in sorted(subject.layouts.items())),
        stated=tuple(
            Stated(each.address, each.call, None if value is None else str(value)) for each, value in asked.items()
        ),
        header="0x" + header.hex(),
        nodes=tuple(sorted("0x" + fresh.by_hash[each].hex() for each in fresh.used)),
    )


def by_layouts(subject: Subject, header: bytes, answer: Answer) -> Subject:
    """The subject with a layout for every contract whose storage, read by it, holds what the contract's view says."""
    block = read_header(header)
    plain = [each for each in accounted(subject, block, answer).inputs if each.layouts]
    for contract in dict.fromkeys(each.contract for each in plain):
        own = [each for each in plain if each.contract == contract]
        said = [(each.what, each.value) for each in own]
        for layout in own[0].layouts if any(each.value for each in own) else ():
            trial = replace(subject, layouts={**subject.layouts, contract: layout})
            found = accounted(trial, block, answer).inputs
            if said == [
                (each.what, each.value) for each in found if (each.contract, each.kind) == (contract, "layout")
            ]:
                subject = trial
                break
    return subject
