"""Arithmetic circuits over the scalar field of BN254 as rank-1 constraints, written together with the values that are
to satisfy them: whatever builds one does the same steps whichever the values are, so that a circuit of any values is
the circuit.

The files are iden3's, which provers of Groth16 and PLONK read: github.com/iden3/r1csfile, ``doc/r1cs_bin_format.md``
(version 1); iden3/snarkjs, ``src/wtns_utils.js`` (version 2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from backtest.proofs.mimc import FIELD


@dataclass(frozen=True, slots=True)
class Wires:
    """A sum of wires with coefficients; wire 0 is one. Adds and subtracts with others and with integers, multiplies by
    integers.
    """

    terms: dict[int, int]

    def __add__(self, other: Wires | int) -> Wires:
        terms = dict(self.terms)
        for wire, factor in _terms(other).items():
            terms[wire] = (terms.get(wire, 0) + factor) % FIELD
        return Wires(terms)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Wires:
        return Wires({wire: each * factor % FIELD for wire, each in self.terms.items()})

    def __sub__(self, other: Wires | int) -> Wires:
        return self + Wires(_terms(other)) * -1


def _terms(value: Wires | int) -> dict[int, int]:
    return value.terms if isinstance(value, Wires) else {0: value}


@dataclass(slots=True)
class Circuit:
    """Constraints a x b = c between sums of wires, and what the wires carry. Public wires come first."""

    values: list[int] = field(default_factory=lambda: [1])
    constraints: list[tuple[Wires, Wires, Wires]] = field(default_factory=list)
    public: int = 0

    def shown(self, values: Iterable[int]) -> list[Wires]:
        """Public wires with these values. ValueError after a secret one."""
        found = [self.hidden(value) for value in values]
        self.public += len(found)
        if self.public + 1 != len(self.values):
            raise ValueError("public wires come before all others")
        return found

    def hidden(self, value: int) -> Wires:
        """A secret wire."""
        self.values.append(value % FIELD)
        return Wires({len(self.values) - 1: 1})

    def value(self, wires: Wires) -> int:
        """What a sum comes to."""
        return sum(self.values[wire] * factor for wire, factor in wires.terms.items()) % FIELD

    def times(self, a: Wires, b: Wires) -> Wires:
        """The product, on a wire of its own."""
        product = self.hidden(self.value(a) * self.value(b))
        self.constraints.append((a, b, product))
        return product

    def equal(self, a: Wires, b: Wires) -> None:
        """Both must be the same."""
        self.constraints.append((a - b, Wires({0: 1}), Wires({})))

    def within(self, number: Wires, bits: int) -> None:
        """The number must be one of so many bits: a wire of zero or one for each."""
        value = self.value(number)
        terms: dict[int, int] = {}
        for place in range(bits):
            bit = self.hidden(value >> place & 1)
            self.constraints.append((bit, bit, bit))
            terms[len(self.values) - 1] = 1 << place
        self.equal(Wires(terms), number)

    def broken(self) -> list[int]:
        """The constraints that the values do not satisfy, by place."""
        return [
            place
            for place, (a, b, c) in enumerate(self.constraints)
            if (self.value(a) * self.value(b) - self.value(c)) % FIELD
        ]

    def r1cs(self) -> bytes:
        """The constraints as a file; all public wires are inputs."""
        count, hidden = len(self.values), len(self.values) - 1 - self.public
        head = _FIELD + struct.pack("<IIIIQI", count, 0, self.public, hidden, count, len(self.constraints))
        body = b"".join(_sum(each) for constraint in self.constraints for each in constraint)
        labels = b"".join(struct.pack("<Q", wire) for wire in range(count))
        return _file(b"r1cs", 1, (head, body, labels))

    def wtns(self) -> bytes:
        """What the wires carry, as a file."""
        return _file(b"wtns", 2, (_FIELD + struct.pack("<I", len(self.values)), b"".join(map(_element, self.values))))


def _element(value: int) -> bytes:
    return value.to_bytes(32, "little")


_FIELD = struct.pack("<I", 32) + _element(FIELD)


def _sum(wires: Wires) -> bytes:
    terms = sorted((wire, factor) for wire, factor in wires.terms.items() if factor)
    return struct.pack("<I", len(terms)) + b"".join(
        struct.pack("<I", wire) + _element(factor) for wire, factor in terms
    )


def _file(kind: bytes, version: int, sections: Sequence[bytes]) -> bytes:
    parts = [struct.pack("<IQ", at, len(section)) + section for at, section in enumerate(sections, 1)]
    return kind + struct.pack("<II", version, len(sections)) + b"".join(parts)
