"""A statement about an account that does not show its amounts: whether it may be liquidated at public prices and
thresholds. What a circuit (``health.nr``) is given to prove it, secret and public; no proving system is needed here.

The rule of the circuit is one for all protocols: collateral at its price rounded down, times its threshold, against
debts at their prices rounded up. Where a protocol's own rule decides an account otherwise (it rounds elsewhere),
nothing is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.errors import UserError
from backtest.proofs.checked import Checked
from backtest.proofs.mimc import FIELD, digest
from backtest.proofs.tries import Unproven
from backtest.units import WAD

ASSETS = 3
"""Assets of the circuit: whoever wants more changes one line of it, and this."""
_AMOUNT, _PRICE, _THRESHOLD = 96, 152, 64
"""Bits that amounts and values, prices and units, and thresholds may have; ``health.nr`` holds them to it."""
_FIELDS = 3 * ASSETS + 2


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

    def public_inputs(self) -> bytes:
        """As the circuit has them: words of 32 bytes, in the order of its arguments."""
        words = (*self.price, *self.unit, *self.threshold, self.commitment, int(self.liquidatable))
        return b"".join(word.to_bytes(32) for word in words)


def read_statement(data: bytes) -> Statement:
    """The inverse of ``Statement.public_inputs``. Unproven for bytes that are none."""
    words = [int.from_bytes(data[at : at + 32]) for at in range(0, len(data), 32)]
    if len(data) != 32 * _FIELDS or any(word >= FIELD for word in words) or words[-1] > 1:
        raise Unproven(f"these are not the {_FIELDS} public words of a sealed account")
    price, unit, threshold = (tuple(words[at : at + ASSETS]) for at in range(0, 3 * ASSETS, ASSETS))
    return Statement(price, unit, threshold, words[-2], bool(words[-1]))


@dataclass(frozen=True, slots=True)
class Sealed:
    """A statement with what makes it true. ``assets`` are the addresses of what its places stand for (empty: none);
    ``witness`` are all arguments of the circuit by name, the secret ones among them.
    """

    statement: Statement
    assets: tuple[str, ...]
    witness: dict[str, int | bool | tuple[int, ...]]


def commitment_of(salt: int, account: str, block: int, collateral: tuple[int, ...], debt: tuple[int, ...]) -> int:
    """The hash of a salt, of account and block, and of each asset's two amounts."""
    amounts = (held + (owed << _AMOUNT) for held, owed in zip(collateral, debt, strict=True))
    return digest((salt, int(account, 16) + (block << 160), *amounts))


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
    needed = [weight for each, weight in zip(counted, weights, strict=True) if each.collateral]
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
    account, block = checked.subject.account, checked.block.number
    commitment = commitment_of(salt, account, block, collateral, debt)
    return Sealed(
        Statement(price, unit, threshold, commitment, liquidatable),
        tuple(names),
        {
            "price": price,
            "unit": unit,
            "threshold": threshold,
            "commitment": commitment,
            "liquidatable": liquidatable,
            "salt": salt,
            "account": int(account, 16),
            "block": block,
            "collateral": collateral,
            "debt": debt,
            "worth": worth,
            "owed": owed,
        },
    )
