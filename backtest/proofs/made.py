"""A proof made from trie nodes, codes, and what views said that cannot be worked out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from backtest.model import Reading
from backtest.proofs.checked import ProvenWorld, accounted, view_of
from backtest.proofs.evm import Unrunnable
from backtest.proofs.headers import read_header
from backtest.proofs.proof import FORMAT, Proof, Stated, TokenName
from backtest.proofs.tries import Nodes
from backtest.protocols.storage import Question, Subject


def make(subject: Subject, header: bytes, nodes: Nodes, view: Callable[[Reading], int | None]) -> Proof:
    """The proof of an account: those of ``nodes`` and codes that its steps need and no others. ``view`` says what views
    answer that cannot be run.

    ``header`` is the block's RLP.

    Raises:
        Unproven: the nodes do not suffice. UserError, RulesError: as ``accounted``.
    """
    block, fresh = read_header(header), Nodes(nodes.by_hash, nodes.codes)
    stated: dict[Reading, int | None] = {}

    def viewed(asked: Reading) -> int | None:
        trial = Nodes(nodes.by_hash, nodes.codes)
        try:
            value = view_of(ProvenWorld(trial, block.state_root), subject.config.chain_id, block, asked)
        except Unrunnable:
            stated[asked] = view(asked)
            return stated[asked]
        fresh.used |= trial.used
        return value

    def answer(questions: Sequence[Question]) -> list[int | None]:
        return [
            viewed(each) if isinstance(each, Reading) else fresh.word(block.state_root, *each) for each in questions
        ]

    checked = accounted(subject, block, answer)
    named = sorted(checked.addresses.values() & subject.tokens.keys())
    return Proof(
        format=FORMAT,
        market=msgspec.structs.replace(subject.config, pools=(), description=""),
        account=subject.account,
        assets=subject.assets,
        tokens=tuple(TokenName(each, *subject.tokens[each]) for each in named),
        stated=tuple(
            Stated(each.address, each.call, None if value is None else str(value)) for each, value in stated.items()
        ),
        header="0x" + header.hex(),
        nodes=tuple(sorted("0x" + fresh.by_hash[each].hex() for each in fresh.used & fresh.by_hash.keys())),
        codes=tuple(sorted("0x" + fresh.codes[each].hex() for each in fresh.used & fresh.codes.keys())),
    )
