"""A block's state with contracts of one's own: the tries that a node would prove from, and a header over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import rlp
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

from backtest.markets import MarketConfig
from backtest.model import Reading
from backtest.proofs import BlockHeader, Nodes, clock_of, encoded_header, read_header
from backtest.protocols.storage import Question, Subject, at_key
from backtest.units import WAD

CODE = b"code"
"""Of a contract that nobody calls."""


def saying(word: int | None) -> bytes:
    """Code that answers every call with a word; None: it reverts."""
    if word is None:
        return bytes.fromhex("5f5ffd")
    return bytes.fromhex(f"7f{word:064x}5f5260205ff3")


def from_slot(slot: int) -> bytes:
    """Code that answers every call with a word of its storage."""
    return bytes.fromhex(f"60{slot:02x}545f5260205ff3")


UNRUNNABLE = bytes.fromhex("3a5f5260205ff3")
"""Code that answers with what gas costs."""


@dataclass(frozen=True)
class MadeState:
    """A block whose state is ``storage``: contract to slot to word, and ``codes``. ``views`` are what a node says that
    views answer, by their function.
    """

    storage: Mapping[str, Mapping[int, int]]
    number: int = 1_000
    timestamp: int = 1_700_000_000
    views: Mapping[str, int | None] | None = None
    codes: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def made(self) -> tuple[bytes, Nodes]:
        """The header's RLP, and every node."""
        database: dict[bytes, bytes] = {}
        state = HexaryTrie(database)
        for contract, words in self.storage.items():
            trie = HexaryTrie(database)
            for slot, word in words.items():
                if word:
                    trie.set(keccak(slot.to_bytes(32)), rlp.encode(word))
            body = rlp.encode([1, 0, trie.root_hash, keccak(self.codes.get(contract, CODE))])
            state.set(keccak(bytes.fromhex(contract[2:])), body)
        return encoded_header(block(self.number, self.timestamp, state.root_hash)), Nodes.of(
            database.values(), [CODE, *self.codes.values()]
        )

    @property
    def header(self) -> BlockHeader:
        """Its header."""
        return read_header(self.made[0])

    def view(self, asked: Reading) -> int | None:
        """What a view says."""
        assert self.views is not None
        return self.views[asked.function]

    def answer(self, questions: Iterable[Question]) -> list[int | None]:
        """As a node that is right."""
        return [
            self.view(each) if isinstance(each, Reading) else self.storage.get(each[0], {}).get(each[1], 0)
            for each in questions
        ]

    def subject(self, config: MarketConfig, account: str, **more: object) -> Subject:
        """An account of a market in this block."""
        return Subject(config, account, clock_of(self.header), **more)  # type: ignore[arg-type]


def block(number: int, timestamp: int, state_root: bytes) -> dict[str, str]:
    """A block of Cancun as nodes show it, with empty trees beside its state."""
    empty = "0x" + "00" * 32
    return {
        "parentHash": empty,
        "sha3Uncles": empty,
        "miner": "0x" + "00" * 20,
        "stateRoot": "0x" + state_root.hex(),
        "transactionsRoot": empty,
        "receiptsRoot": empty,
        "logsBloom": "0x" + "00" * 256,
        "difficulty": "0x0",
        "number": hex(number),
        "gasLimit": "0x1c9c380",
        "gasUsed": "0x0",
        "timestamp": hex(timestamp),
        "extraData": "0x",
        "mixHash": empty,
        "nonce": "0x" + "00" * 8,
        "baseFeePerGas": "0x7",
        "withdrawalsRoot": empty,
        "blobGasUsed": "0x0",
        "excessBlobGas": "0x0",
        "parentBeaconBlockRoot": empty,
    }


MORPHO, LOAN, COLLATERAL, ORACLE, MODEL = (f"0x{digit * 40}" for digit in "abcde")
ID = "0x" + "12" * 32
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
PAIR = MarketConfig(
    name="weth-usdc",
    protocol="morpho-blue",
    chain_id=1,
    start_block=1,
    contracts={"morpho": MORPHO},
    base_currency="USDC",
    base_decimals=18,
    price_decimals=24,
    parameters={"id": ID},
)
TOKENS = {LOAN: ("USDC", 6), COLLATERAL: ("WETH", 18)}
_NOW = 1_700_000_000


def morpho_state(*, collateral: int = 10 * WAD, shares: int = 8_000 * 10**12, price: int = 1_000 * 10**24) -> MadeState:
    """alice's ten WETH carry 8,600 USDC at a thousand and 86 %, and she owes 8,000 of 10,000 lent, accrued a second ago
    at no rate; bob lent them.
    """
    market, params = at_key(3, ID), at_key(8, ID)
    alice, bob = at_key(2, ID, ALICE), at_key(2, ID, BOB)
    words = {
        market: 10_000 * 10**12 << 128 + 0 | 10_000 * 10**6,
        market + 1: shares << 128 | shares // 10**6,
        market + 2: _NOW - 1,
        params: int(LOAN, 16),
        params + 1: int(COLLATERAL, 16),
        params + 2: int(ORACLE, 16),
        params + 3: int(MODEL, 16),
        params + 4: 86 * WAD // 100,
        alice + 1: collateral << 128 | shares,
        bob: 10_000 * 10**12,
    }
    rest = {MODEL: {7: 1}, ORACLE: {5: 1}}
    views = {"price()": price, _RATE: 0}
    return MadeState({MORPHO: words, **rest}, views=views, codes={ORACLE: saying(price), MODEL: saying(0)})


_RATE = "borrowRateView((address,address,address,address,uint256),(uint128,uint128,uint128,uint128,uint128,uint128))"
