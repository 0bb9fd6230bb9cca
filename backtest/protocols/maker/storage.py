"""A vault of one ilk from the storage of Vat and Spotter. Everything that counts is stored: a proof states nothing.

Layout: makerdao/dss ``src/vat.sol`` (``ilks`` slot 2, ``urns`` slot 3; structs Ilk: Art, rate, spot, line, dust; Urn:
ink, art) and ``src/spot.sol`` (``ilks`` slot 1; struct Ilk: pip, mat; ``vat`` slot 2, ``par`` slot 3).

The price is the one that the last ``poke`` turned into the Vat's ``spot`` (``rules.spot_down``), which one price alone
gives as long as the ratio is below 10^9: each step of a price is 10^9 / (par x mat) steps of the spot.
"""

from __future__ import annotations

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.protocols.maker.events import ilk_of
from backtest.protocols.maker.rules import spot_down
from backtest.protocols.maker.state import MakerState
from backtest.protocols.storage import ACCOUNT, Input, Steps, StoredAccount, Subject, address_in, at_key, words
from backtest.protocols.vaults.state import COIN as DAI
from backtest.protocols.vaults.state import COLLATERAL
from backtest.units import RAY, WAD

_ILKS, _URNS = 2, 3
_SPOTTER_ILKS, _SPOTTER_VAT, _PAR = 1, 2, 3


def stored(subject: Subject) -> Steps[StoredAccount[MakerState]]:
    """See ``LendingProtocol.stored``."""
    vat, spotter = subject.contract("vat"), subject.contract("spotter")
    ilk = "0x" + ilk_of(subject.config.parameters).hex()
    at_ilk, at_urn = at_key(_ILKS, ilk), at_key(_URNS, ilk, subject.account)
    rate, spot, ink, art, ratio, own_vat, par = yield from words(
        [
            (vat, at_ilk + 1),
            (vat, at_ilk + 2),
            (vat, at_urn),
            (vat, at_urn + 1),
            (spotter, at_key(_SPOTTER_ILKS, ilk) + 1),
            (spotter, _SPOTTER_VAT),
            (spotter, _PAR),
        ]
    )
    name = shown(subject.config.parameters.get("ilk", ilk))
    if address_in(own_vat) != vat:
        raise UserError(f"the vat of spotter {spotter} is {address_in(own_vat)}, not {vat}", "correct the market")
    if not rate or not ratio or not par:
        raise UserError(f"ilk {name} does not exist at block {subject.now.block_number}", "choose a later block")
    price = _price(spot, par, ratio)
    if price is None:
        raise UserError(
            f"no price gives the spot of {name} with its present ratio and par: they changed since the last poke",
            "choose another block",
        )
    state = MakerState(
        ink={ACCOUNT: ink} if ink else {},
        art={ACCOUNT: art} if art else {},
        params={"liquidation_ratio": ratio, "par": par},
        rates={0: rate},
    )
    market = subject.market(
        [subject.asset(COLLATERAL, subject.contract("gem"), 18), subject.asset(DAI, subject.contract("dai"), 18)]
    )
    return StoredAccount(
        market,
        state,
        {COLLATERAL: price, DAI: WAD} if spot else {DAI: WAD},
        (
            Input("vault: ink and art", f"{vat}, mapping urns"),
            Input(f"rate and spot of {name}", f"{vat}, mapping ilks"),
            Input(f"ratio of {name}, par", f"{spotter}, mapping ilks and slot 3"),
            Input("price of the collateral", "what the last poke turned into the spot", price),
        ),
    )


def _price(spot: int, par: int, ratio: int) -> int | None:
    """Wad: the least price whose spot this is; None where there is none."""
    price = -(-(-(-spot * ratio // RAY) * par) // (RAY * 10**9))
    return next((each for each in (price, price + 1) if spot_down(each, par, ratio) == spot), None)
