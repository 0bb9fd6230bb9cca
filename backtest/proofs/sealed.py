"""A statement about an account that does not show its amounts: whether it may be liquidated at public prices and
thresholds. And the circuit of it, by which a prover shows that it is true; no proving system is needed here.

    liquidatable: sum of floor(collateral x price / unit) x threshold < sum of ceil(debt x price / unit) x 10^18

The rule of the circuit is one for all protocols: collateral at its price rounded down, times its threshold, against
debts at their prices rounded up. Where a protocol's own rule decides an account otherwise (it rounds elsewhere),
nothing is sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backtest.errors import UserError
from backtest.foreign import Unreadable, integer, json_value
from backtest.proofs.checked import Checked
from backtest.proofs.circuit import Circuit, Wires
from backtest.proofs.mimc import FIELD, chained, digest
from backtest.proofs.tries import Unproven
from backtest.units import WAD

ASSETS = 3
"""Assets of the circuit: whoever wants more changes one line of it, and this."""
_AMOUNT, _PRICE, _THRESHOLD = 96, 152, 64
"""Bits that amounts and values, prices and units, and thresholds may have, and the circuit holds them to it: every
product stays below the field's order.
"""
_ACCOUNT, _BLOCK, _MARGIN = 160, 64, 170
FIELDS = 3 * ASSETS + 2
"""Public words of a statement."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What everybody sees: by asset price, unit (both so that amount x price / unit is base units) and threshold (wad);
    the commitment to account, block and amounts; and whether the account may be liquidated.
    """

    price: tuple[int, ...]
    unit: tuple[int, ...]
    threshold: tuple[int, ...]
    commitment: int
    liquidatable: bool

    def words(self) -> tuple[int, ...]:
        """The public words, in the circuit's order."""
        return (*self.price, *self.unit, *self.threshold, self.commitment, int(self.liquidatable))


def read_statement(data: bytes) -> Statement:
    """A statement from its public words as provers write them, a JSON list of decimal texts. Unproven for others."""
    try:
        found = json_value(data, list[str])
        words = [integer(each) for each in found] if len(found) == FIELDS else []
    except (Unreadable, UserError):
        words = []
    if not words or not all(0 <= word < FIELD for word in words) or words[-1] > 1:
        raise Unproven(f"these are not the {FIELDS} public words of a sealed account")
    price, unit, threshold = (tuple(words[at : at + ASSETS]) for at in range(0, 3 * ASSETS, ASSETS))
    return Statement(price, unit, threshold, words[-2], bool(words[-1]))


@dataclass(frozen=True, slots=True)
class Secrets:
    """What makes a statement true and stays secret. By asset: amounts, and what they are worth in base units (of
    collateral rounded down, of debt up).
    """

    salt: int
    account: int
    block: int
    collateral: tuple[int, ...]
    debt: tuple[int, ...]
    worth: tuple[int, ...]
    owed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A statement with what makes it true. ``assets`` are the addresses of what its places stand for."""

    statement: Statement
    assets: tuple[str, ...]
    secrets: Secrets


def _opened(salt: Any, account: Any, block: Any, collateral: Any, debt: Any) -> Iterator[Any]:
    """What a commitment is the hash of: a salt, account and block, and each asset's two amounts."""
    yield salt
    yield account + block * (1 << _ACCOUNT)
    for held, due in zip(collateral, debt, strict=True):
        yield held + due * (1 << _AMOUNT)


def commitment_of(salt: int, account: int, block: int, collateral: tuple[int, ...], debt: tuple[int, ...]) -> int:
    """The commitment to an account at a block and its amounts."""
    return digest(_opened(salt, account, block, collateral, debt))


def circuit_of(statement: Statement, secrets: Secrets) -> Circuit:
    """The circuit with these values, which satisfy it if and only if the statement is true of them. Values come with
    the secrets and are checked by what they leave over.
    """
    made = Circuit()
    shown = made.shown(statement.words())
    price, unit, threshold = (shown[at : at + ASSETS] for at in range(0, 3 * ASSETS, ASSETS))
    commitment, liquidatable = shown[-2:]
    salt, account, block = map(made.hidden, (secrets.salt, secrets.account, secrets.block))
    collateral, debt, worth, owed = (
        [made.hidden(each) for each in numbers]
        for numbers in (secrets.collateral, secrets.debt, secrets.worth, secrets.owed)
    )
    made.within(account, _ACCOUNT)
    made.within(block, _BLOCK)
    made.within(liquidatable, 1)
    for numbers, bits in (
        ((*collateral, *debt, *worth, *owed), _AMOUNT),
        ((*price, *unit), _PRICE),
        (threshold, _THRESHOLD),
    ):
        for number in numbers:
            made.within(number, bits)
    made.equal(chained(_opened(salt, account, block, collateral, debt), made.times), commitment)
    carried, due = Wires({}), Wires({})
    for place in range(ASSETS):
        below = made.times(collateral[place], price[place]) - made.times(worth[place], unit[place])
        above = made.times(owed[place], unit[place]) - made.times(debt[place], price[place])
        for rest in (below, above):
            made.within(rest, _PRICE)
            made.within(unit[place] - rest - 1, _PRICE)
        carried += made.times(worth[place], threshold[place])
        due += owed[place] * WAD
    # due - carried - 1 where it may be liquidated, carried - due where it may not: neither is negative
    made.within(made.times(liquidatable, (due - carried) * 2 - 1) + carried - due, _MARGIN)
    return made


def blank_circuit() -> Circuit:
    """The circuit alone: its constraints are those of every statement, its values of none."""
    none = (0,) * ASSETS
    return circuit_of(Statement(none, none, none, 0, False), Secrets(0, 0, 0, none, none, none, none))


def sealed(checked: Checked, salt: int) -> Sealed:
    """The statement about a checked account.

    Args:
        salt: a secret number below ``mimc.FIELD``; who knows it can try amounts, so it must not be guessed.

    Raises:
        UserError: the account has more assets than the circuit, no price, or larger numbers than it holds; the protocol
            says no thresholds; or its own rule decides the account otherwise than the circuit's.
    """
    if checked.view is None:
        raise UserError(f"the account has no health: {checked.missing}", "seal another block's")
    counted = [each for each in checked.holdings if (each.collateral and each.collateral_enabled) or each.debt]
    if len(counted) > ASSETS:
        raise UserError(
            f"the account has {len(counted)} assets, the circuit {ASSETS}", "seal an account with fewer assets"
        )
    rest = (0,) * (ASSETS - len(counted))
    names = [checked.addresses[each.asset] for each in counted]
    collateral = (*(each.collateral if each.collateral_enabled else 0 for each in counted), *rest)
    debt = (*(each.debt for each in counted), *rest)
    price = (*(checked.prices.get(name, 0) for name in names), *rest)
    unit = (*(checked.units[each.asset] for each in counted), *(1 for _ in rest))
    weights = [checked.weights.get(each.asset) for each in counted]
    needed = [weight for each, weight in zip(counted, weights, strict=True) if each.collateral_enabled]
    if any(weight is None for weight in needed):
        raise UserError(
            f"protocol '{checked.subject.config.protocol}' says no thresholds", "its accounts are not sealed"
        )
    threshold = (*(weight or 0 for weight in weights), *rest)
    worth = tuple(held * each // whole for held, each, whole in zip(collateral, price, unit, strict=True))
    owed = tuple(-(-due * each // whole) for due, each, whole in zip(debt, price, unit, strict=True))
    for numbers, bits in (
        ((*collateral, *debt, *worth, *owed), _AMOUNT),
        ((*price, *unit), _PRICE),
        (threshold, _THRESHOLD),
    ):
        if max(numbers) >> bits:
            raise UserError(f"a number of the account has more than {bits} bits", "it does not fit the circuit")
    carried = sum(value * weight for value, weight in zip(worth, threshold, strict=True))
    liquidatable = carried < sum(owed) * WAD
    if liquidatable != (checked.view.health is not None and checked.view.health < WAD):
        raise UserError(
            "the protocol's own rounding decides this account otherwise than the circuit", "seal another block's"
        )
    account, block = int(checked.subject.account, 16), checked.block.number
    commitment = commitment_of(salt, account, block, collateral, debt)
    return Sealed(
        Statement(price, unit, threshold, commitment, liquidatable),
        tuple(names),
        Secrets(salt, account, block, collateral, debt, worth, owed),
    )
