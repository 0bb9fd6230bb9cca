"""The file of a proof: JSON in one spelling, with a digest over the rest, so that any damage shows.

Which slots count is not in it: whoever checks derives them from the market's contracts and the account, by the
protocol's own steps. ``nodes`` is a bag of the trie nodes of all of them.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from backtest import foreign
from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import Clock
from backtest.protocols.storage import Subject

FORMAT = "backtest proof 2"
LIMIT = 64 << 20
"""Bytes of a file at most."""
_HEADER_LIMIT, _NODE_LIMIT, _CODE_LIMIT = 64 << 10, 4 << 10, 256 << 10
"""Bytes of a header, of a node (a branch of sixteen hashes has 532) and of a contract's code at most (EIP-170 allows 24
kB, some chains more).
"""

_ADDRESS = re.compile("0x[0-9a-f]{40}", re.ASCII)
_HEX = re.compile("0x(?:[0-9a-f]{2})*", re.ASCII)
_TEXT_LIMIT = 200


class TokenName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token is called, and its decimals: names and scales of numbers, no more."""

    address: str
    symbol: str
    decimals: int


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a view said when the proof was made (``value``: a word as decimal digits; None: it reverted). ``call`` as in
    ``model.Reading``.
    """

    contract: str
    call: str
    value: str | None


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proof of one account. ``header`` and ``nodes`` are RLP as 0x hex, ``codes`` code, both in the order of their
    text; ``digest`` is the SHA-256 of the file with an empty one.
    """

    format: str
    market: MarketConfig
    account: str
    assets: tuple[str, ...]
    tokens: tuple[TokenName, ...]
    stated: tuple[Stated, ...]
    header: str
    nodes: tuple[str, ...]
    codes: tuple[str, ...]
    digest: str = ""

    def subject(self, now: Clock) -> Subject:
        """What it is about."""
        return Subject(
            config=self.market,
            account=self.account,
            now=now,
            assets=self.assets,
            tokens={each.address: (each.symbol, each.decimals) for each in self.tokens},
        )


def encoded(proof: Proof) -> bytes:
    """The file of a proof, with its digest."""
    body = _spelled(msgspec.structs.replace(proof, digest=""))
    return _spelled(msgspec.structs.replace(proof, digest=hashlib.sha256(body).hexdigest()))


def _spelled(proof: Proof) -> bytes:
    return msgspec.json.format(msgspec.json.encode(proof), indent=1) + b"\n"


def decoded(data: bytes, where: str) -> Proof:
    """A proof from its file; ``where`` names it in errors.

    Raises:
        UserError: it is no such file, or not as it was written.
    """
    fix = "is it the file that backtest prove wrote? Ask for it again"
    try:
        proof: Proof = foreign.json_value(data, Proof)
    except (foreign.Unreadable, UserError) as error:
        raise UserError(f"{foreign.shown(where)} is no proof: {error}", fix) from None
    if proof.format != FORMAT:
        raise UserError(f"{foreign.shown(where)} has the format '{foreign.shown(proof.format, 40)}'", fix)
    if fault := _fault(proof):
        raise UserError(f"{foreign.shown(where)} is no proof: {fault}", fix)
    if encoded(proof) != data:
        raise UserError(f"{foreign.shown(where)} is damaged: its content does not have the digest that it names", fix)
    return proof


def _fault(proof: Proof) -> str | None:
    """What cannot be, before anything is computed from it."""
    config: Any = proof.market
    addresses = [
        proof.account,
        *proof.assets,
        *(each.address for each in proof.tokens),
        *(each.contract for each in proof.stated),
    ]
    if odd := next((each for each in addresses if not _ADDRESS.fullmatch(each)), None):
        return f"'{foreign.shown(odd, 60)}' is not an address in lower case"
    texts = [config.name, config.protocol, config.base_currency, *config.contracts, *config.parameters]
    texts += [*config.parameters.values(), *(each.symbol for each in proof.tokens)]
    texts += [*(each.call for each in proof.stated)]
    if odd := next((each for each in texts if not each.isprintable() or len(each) > _TEXT_LIMIT * 8), None):
        return f"'{foreign.shown(odd, 60)}' is too long, or not printable"
    if any(not 0 <= each.decimals <= 255 for each in proof.tokens):
        return "decimals of a token are none"
    for what, text, limit in [
        ("header", proof.header, _HEADER_LIMIT),
        *(("node", n, _NODE_LIMIT) for n in proof.nodes),
        *(("code", code, _CODE_LIMIT) for code in proof.codes),
    ]:
        if not _HEX.fullmatch(text) or len(text) > 2 * limit + 2:
            return f"a {what} is not hex of at most {limit} bytes"
    for each in proof.stated:
        if each.value is not None:
            try:
                number = foreign.integer(each.value)
            except foreign.Unreadable as error:
                return f"what a view stated: {error}"
            if str(number) != each.value or number < 0:
                return f"what a view stated: '{foreign.shown(each.value, 40)}' is not a word"
    for what, each_once in (("nodes", proof.nodes), ("codes", proof.codes)):
        if list(each_once) != sorted(set(each_once)):
            return f"its {what} are not in order, or one is there twice"
    return None
