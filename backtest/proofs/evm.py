"""What a view answers, worked out from the code and the storage of the contracts that it calls: Yellow Paper, appendix
H, with the instructions of Osaka.

There is no gas here: a view that would end for lack of it is not seen to, and ``GAS`` is a large number. What only the
moment of a call can say (who mines, what gas costs, hashes of blocks), what changes state, and precompiled contracts
but two raise ``Unrunnable``: nothing is guessed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from eth_utils.crypto import keccak

_WORD = (1 << 256) - 1
_SIGN = 1 << 255
_MOST_STEPS, _MOST_MEMORY, _DEEPEST = 3_000_000, 1 << 20, 48
_GAS = 1 << 40
_RESERVED = 1 << 16
"""Addresses below are left to precompiled contracts, of which chains have some of their own."""


class Unrunnable(Exception):
    """A view does something that cannot be worked out here; the message is one clause."""


class World(Protocol):
    """The state of a block. Addresses are lower-case 0x text."""

    def word(self, contract: str, slot: int) -> int:
        """A word of an account's storage."""
        ...

    def code(self, address: str) -> bytes:
        """An account's code; empty where there is none."""
        ...

    def balance(self, address: str) -> int:
        """An account's wei."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What code can ask of the block it runs in."""

    chain_id: int
    number: int
    timestamp: int


def answered(world: World, moment: Surroundings, to: str, data: bytes) -> bytes | None:
    """What a call of a contract returns, by nobody and without value; None: it reverts. Unrunnable as above."""
    ok, output = _Run(world, moment).call(to, to, f"0x{0:040x}", data, 0)
    return output if ok else None


class _Halt(Exception):
    """The frame ends as if by lack of gas."""


def _signed(value: int) -> int:
    return value - (1 << 256) if value & _SIGN else value


def _quotient(a: int, b: int) -> int:
    size = abs(a) // abs(b) if b else 0
    return -size if (a < 0) != (b < 0) else size


def _remainder(a: int, b: int) -> int:
    size = abs(a) % abs(b) if b else 0
    return -size if a < 0 else size


def _extended(place: int, value: int) -> int:
    if place > 30:
        return value
    sign = 1 << (8 * place + 7)
    return value | (_WORD - sign + 1) if value & sign else value & (sign - 1)


_OF_TWO: dict[int, Callable[[int, int], int]] = {
    0x01: lambda a, b: a + b,
    0x02: lambda a, b: a * b,
    0x03: lambda a, b: a - b,
    0x04: lambda a, b: a // b if b else 0,
    0x05: lambda a, b: _quotient(_signed(a), _signed(b)),
    0x06: lambda a, b: a % b if b else 0,
    0x07: lambda a, b: _remainder(_signed(a), _signed(b)),
    0x0A: lambda a, b: pow(a, b, 1 << 256),
    0x0B: _extended,
    0x10: lambda a, b: a < b,
    0x11: lambda a, b: a > b,
    0x12: lambda a, b: _signed(a) < _signed(b),
    0x13: lambda a, b: _signed(a) > _signed(b),
    0x14: lambda a, b: a == b,
    0x16: lambda a, b: a & b,
    0x17: lambda a, b: a | b,
    0x18: lambda a, b: a ^ b,
    0x1A: lambda a, b: b >> 8 * (31 - a) & 0xFF if a < 32 else 0,
    0x1B: lambda a, b: b << a if a < 256 else 0,
    0x1C: lambda a, b: b >> a if a < 256 else 0,
    0x1D: lambda a, b: _signed(b) >> min(a, 255),
}
_OF_ONE: dict[int, Callable[[int], int]] = {
    0x15: lambda a: a == 0,
    0x19: lambda a: ~a,
    0x1E: lambda a: 256 - a.bit_length(),
}
_OF_THREE: dict[int, Callable[[int, int, int], int]] = {
    0x08: lambda a, b, c: (a + b) % c if c else 0,
    0x09: lambda a, b, c: a * b % c if c else 0,
}
_ELSEWHERE = {
    0x3A: "GASPRICE", 0x40: "BLOCKHASH", 0x41: "COINBASE", 0x44: "PREVRANDAO", 0x45: "GASLIMIT", 0x48: "BASEFEE",
    0x49: "BLOBHASH", 0x4A: "BLOBBASEFEE", 0x55: "SSTORE", 0x5D: "TSTORE", 0xF0: "CREATE", 0xF2: "CALLCODE",
    0xF5: "CREATE2", 0xFF: "SELFDESTRUCT", **{0xA0 + count: f"LOG{count}" for count in range(5)},
}  # fmt: skip


@lru_cache(maxsize=256)
def _targets(code: bytes) -> frozenset[int]:
    """Where jumps may lead: JUMPDESTs that are no data of a PUSH."""
    found, at = set(), 0
    while at < len(code):
        op = code[at]
        if op == 0x5B:
            found.add(at)
        at += op - 0x5E if 0x60 <= op <= 0x7F else 1
    return frozenset(found)


@dataclass(slots=True)
class _Memory:
    data: bytearray = field(default_factory=bytearray)

    def at(self, start: int, size: int) -> slice:
        """A stretch of it, there from now on."""
        if size == 0:
            return slice(0, 0)
        if start + size > _MOST_MEMORY:
            raise Unrunnable(f"it takes more than {_MOST_MEMORY:,} bytes of memory")
        if start + size > len(self.data):
            self.data.extend(bytes(-(-(start + size) // 32) * 32 - len(self.data)))
        return slice(start, start + size)

    def read(self, start: int, size: int) -> bytes:
        return bytes(self.data[self.at(start, size)])

    def write(self, start: int, what: bytes) -> None:
        self.data[self.at(start, len(what))] = what


def _part(data: bytes, start: int, size: int) -> bytes:
    """A stretch of data, with zeros where it ends."""
    if size > _MOST_MEMORY:
        raise Unrunnable(f"it takes more than {_MOST_MEMORY:,} bytes of memory")
    return data[start : start + size].ljust(size, b"\0") if start < len(data) else bytes(size)


class _Run:
    """One call and all that it calls."""

    def __init__(self, world: World, moment: Surroundings) -> None:
        self.world, self.moment = world, moment
        self.steps = 0

    def call(self, to: str, own: str, caller: str, data: bytes, depth: int) -> tuple[bool, bytes]:
        """Run the code of ``to`` on the storage of ``own``. Whether it went well, and what it returns."""
        if depth > _DEEPEST:
            raise Unrunnable(f"it calls more than {_DEEPEST} contracts deep")
        if int(to, 16) == 4:
            return True, data
        if int(to, 16) == 2:
            return True, hashlib.sha256(data).digest()
        code = self.world.code(to)
        if not code and 0 < int(to, 16) < _RESERVED:
            raise Unrunnable(f"it calls the precompiled contract {to}")
        if code[:2] == b"\xef\x01":
            raise Unrunnable(f"{to} has the code of another")
        try:
            return self._frame(code, own, caller, data, depth)
        except (_Halt, IndexError):  # an empty stack, or code that is none
            return False, b""

    def _frame(self, code: bytes, own: str, caller: str, data: bytes, depth: int) -> tuple[bool, bytes]:
        stack: list[int] = []
        memory, returned, at, targets = _Memory(), b"", 0, _targets(code)
        pop, push = stack.pop, stack.append
        while at < len(code):
            op = code[at]
            at += 1
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise Unrunnable(f"it takes more than {_MOST_STEPS:,} steps")
            if 0x5F <= op <= 0x7F:
                size = op - 0x5F
                push(int.from_bytes(code[at : at + size].ljust(size, b"\0")))
                at += size
            elif 0x80 <= op <= 0x8F:
                push(stack[-_deep(stack, op - 0x7F)])
            elif 0x90 <= op <= 0x9F:
                place = -_deep(stack, op - 0x8E)
                stack[-1], stack[place] = stack[place], stack[-1]
            elif op in _OF_TWO:
                push(_OF_TWO[op](pop(), pop()) & _WORD)
            elif op in _OF_ONE:
                push(_OF_ONE[op](pop()) & _WORD)
            elif op in _OF_THREE:
                push(_OF_THREE[op](pop(), pop(), pop()) & _WORD)
            elif op in (0x56, 0x57):
                to = pop()
                if op == 0x56 or pop():
                    if to not in targets:
                        raise _Halt
                    at = to
            elif op == 0x51:
                push(int.from_bytes(memory.read(pop(), 32)))
            elif op == 0x52:
                memory.write(pop(), pop().to_bytes(32))
            elif op == 0x53:
                memory.write(pop(), bytes([pop() & 0xFF]))
            elif op == 0x54:
                push(self.world.word(own, pop()))
            elif op in (0x37, 0x39, 0x5E):
                to, start, size = pop(), pop(), pop()
                source = data if op == 0x37 else code
                memory.write(to, memory.read(start, size) if op == 0x5E else _part(source, start, size))
            elif op == 0x3C:
                address, to, start, size = _address(pop()), pop(), pop(), pop()
                memory.write(to, _part(self.world.code(address), start, size))
            elif op == 0x3E:
                to, start, size = pop(), pop(), pop()
                if start + size > len(returned):
                    raise _Halt
                memory.write(to, returned[start : start + size])
            elif op == 0x20:
                push(int.from_bytes(keccak(memory.read(pop(), pop()))))
            elif op in (0x31, 0x3B, 0x3F):
                push(self._of(op, _address(pop())))
            elif op == 0x35:
                push(int.from_bytes(_part(data, pop(), 32)))
            elif op in (0xF1, 0xF4, 0xFA):
                _, called = pop(), _address(pop())
                if op == 0xF1 and pop():
                    raise Unrunnable("it pays")
                start, size, out, most = pop(), pop(), pop(), pop()
                given = memory.read(start, size)
                memory.at(out, most)
                mine, who = (own, caller) if op == 0xF4 else (called, own)
                ok, returned = self.call(called, mine, who, given, depth + 1)
                memory.write(out, returned[:most])
                push(int(ok))
            elif op in (0xF3, 0xFD):
                return op == 0xF3, memory.read(pop(), pop())
            elif op == 0x00:
                return True, b""
            elif op == 0x50:
                pop()
            elif op == 0x5C:  # nothing was kept for the transaction: what would is not run
                push(pop() * 0)
            elif op != 0x5B:
                push(self._alone(op, own, caller, at - 1, (data, code, returned), len(memory.data)))
            if len(stack) > 1_024:
                raise _Halt
        return True, b""

    def _of(self, op: int, address: str) -> int:
        """BALANCE, EXTCODESIZE, EXTCODEHASH."""
        if op == 0x31:
            return self.world.balance(address)
        code = self.world.code(address)
        if op == 0x3B:
            return len(code)
        if not code:
            raise Unrunnable("it asks for the hash of code that is none")
        return int.from_bytes(keccak(code))

    def _alone(self, op: int, own: str, caller: str, at: int, sizes: tuple[bytes, bytes, bytes], memory: int) -> int:
        """Instructions that take nothing from the stack."""
        if op in _ELSEWHERE:
            raise Unrunnable(f"it takes {_ELSEWHERE[op]}")
        if op == 0x47:
            return self.world.balance(own)
        data, code, returned = map(len, sizes)
        known = {
            0x30: int(own, 16), 0x32: 0, 0x33: int(caller, 16), 0x34: 0, 0x36: data, 0x38: code, 0x3D: returned,
            0x42: self.moment.timestamp, 0x43: self.moment.number, 0x46: self.moment.chain_id, 0x58: at, 0x59: memory,
            0x5A: _GAS,
        }  # fmt: skip
        if op not in known:
            raise _Halt
        return known[op]


def _deep(stack: list[int], place: int) -> int:
    if place > len(stack):
        raise _Halt
    return place


def _address(word: int) -> str:
    return f"0x{word & ((1 << 160) - 1):040x}"
