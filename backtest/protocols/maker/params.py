"""The parameters of one ilk in canonical tables: names, units, and what holds where the history does not say.

Everything here is a plain integer of at most 38 digits. Amounts that the contracts keep as rad (dust, line, dunk, box,
hole, tip) are DAI
wad here: governance sets them in whole DAI. A penalty is a wad in all versions (Cat 1.0 keeps a ray).

=====================  ==============  ==============================================================================
name                   unit            contract
=====================  ==============  ==============================================================================
liquidation_ratio      ray             Spotter ``mat`` (1.3e27 = 130 %)
liquidation_penalty    wad             Cat and Dog ``chop`` (1.13e18 = 13 %)
par                    ray             Spotter ``par``
duty                   ray a second    Jug ``duty``
base                   ray a second    Jug ``base``
stability_fee          ray a year      imports only: the yearly fee (0.06e27) that ``duty`` compounds to
dust, line             DAI wad         Vat
lump                   collateral wad  Cat 1.0: the most collateral of one lot
dunk, box              DAI wad         Cat 1.1 and 1.2: the most debt of one lot, and of all lots under auction, penalty
included hole, global_hole      DAI wad         Dog ``ilk.hole`` and ``Hole``
beg                    wad             Flip: least step of a bid (1.05e18)
ttl, tau               seconds         Flip: life of a bid, and of an auction
buf                    ray             Clip: starting price over the oracle's
tail                   seconds         Clip: until an auction must be reset
cusp                   ray             Clip: share of the starting price below which it must be reset
chip                   wad             Clip: share of the debt that is paid to whoever starts an auction
tip                    DAI wad         Clip: what is paid to whoever starts an auction
stopped                level           Clip: 1 no kick, 2 no redo either, 3 no take either
calc                   kind            Abacus: 0 linear, 1 stairstep exponential, 2 exponential
calc_tau               seconds         LinearDecrease: until the price is zero
step                   seconds         StairstepExponentialDecrease
cut                    ray             both exponential ones: factor of a step, or of a second
liquidation_system     version         10 Cat 1.0, 11 Cat 1.1 and 1.2, 20 Dog 2.0
osm_delay              seconds         OSM ``hop``: how much older than the market's the oracle price is
raised, raised_freely  DAI rad         replays only: by how much ``raising`` changes; freely: it bounds nothing now
raising                DAI rad         replays only: all open auctions are to raise, penalty included (Cat ``litter``,
Dog ``Dirt``) =====================  ==============
==============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.auctions.dutch import STAIRSTEP
from backtest.units import RAY, WAD

CAT_1_0, CAT_1_1, DOG_2_0 = 10, 11, 20
SYSTEMS: Mapping[int, str] = {CAT_1_0: "cat-1.0", CAT_1_1: "cat-1.1", DOG_2_0: "dog-2.0"}

RAY_BPS, WAD_BPS = RAY // 10_000, WAD // 10_000

UNITS: Mapping[str, int] = {
    "liquidation_ratio": RAY_BPS,
    "liquidation_penalty": WAD_BPS,
    "liquidation_system": 1,
    "dust": WAD,
    "line": WAD,
    "lump": WAD,
    "dunk": WAD,
    "box": WAD,
    "hole": WAD,
    "global_hole": WAD,
    "beg": WAD_BPS,
    "ttl": 1,
    "tau": 1,
    "buf": RAY_BPS,
    "tail": 1,
    "cusp": RAY_BPS,
    "chip": WAD_BPS,
    "tip": WAD,
    "calc": 1,
    "calc_tau": 1,
    "step": 1,
    "cut": RAY_BPS,
}
"""What a scenario may override: basis points for ratios (13000 = 130 %, cut 9900 = 0.99), else whole DAI, whole tokens,
seconds or a code. The value here is the stored units of one of those.
"""

SAID = (
    "One for the whole ilk: a ratio of 130 % is 13000, a penalty of 13 % 11300, a cut of 0.99 9900; tokens are DAI, of"
    " `lump` collateral; `liquidation_system` is 10 (Cat 1.0), 11 (Cat 1.1 and 1.2) or 20 (Dog); `calc` 0 linear, 1"
    " stairstep, 2 exponential."
)

IMPORTED = frozenset({*UNITS, "par", "duty", "base", "stability_fee", "stopped", "osm_delay"})
"""Names that ``raw/import/Parameter`` may hold; others belong to contracts that no rule here reads."""

DEFAULTS: Mapping[str, int] = {
    "par": RAY,
    "base": 0,
    "dust": 0,
    "lump": 50 * WAD,
    "dunk": 50_000 * WAD,
    "box": 15_000_000 * WAD,
    "beg": 105 * WAD // 100,
    "ttl": 3 * 3600,
    "tau": 48 * 3600,
    "buf": 13 * RAY // 10,
    "tail": 8_400,
    "cusp": 4 * RAY // 10,
    "chip": 0,
    "tip": 0,
    "stopped": 0,
    "calc": STAIRSTEP,
    "calc_tau": 6 * 3600,
    "step": 90,
    "cut": 99 * RAY // 100,
    "osm_delay": 3600,
    "liquidation_system": CAT_1_1,
}
"""What a replay takes where the history does not say. beg, ttl and tau are the constructor's (dss ``src/flip.sol``);
the rest are choices of this project of the usual size, so that the price of a 2.0 auction halves in 6,210 seconds; all
can be set by a scenario.
"""

ASSUMPTIONS: tuple[str, ...] = (
    (
        "Maker: settings that the history lacks are taken as box 15,000,000 DAI, dunk 50,000 DAI, lump 50, beg 1.05,"
        " ttl 3 h, tau 48 h, buf 1.3, tail 8,400 s, cusp 0.4, a stairstep of 0.99 every 90 s, tip and chip 0; a"
        " scenario may set them."
    ),
    (
        "Maker: limits on all auctions (box, Hole) see those of the market's ilks only. An ilk's debt ceiling (line) is"
        " enforced on users in a market of several ilks only, that of all (Line) nowhere."
    ),
    (
        "Maker: a change of the liquidation ratio holds at once; the Spotter takes it up at its next poke, within the"
        " hour."
    ),
    "Maker: collateral that an auction gives back goes to the owner outside the vault, as in Flip and Clip.",
    "Maker: one DAI is worth one unit of the base currency.",
)


def fault(values: Mapping[str, int]) -> str | None:
    """Why the contracts' own checks would refuse these values (stored units); None: they pass.

    dss ``src/dog.sol`` ``file`` ("file-chop-lt-WAD"), ``src/abaci.sol`` ``file`` ("cut-gt-RAY").
    """
    if values.get("liquidation_penalty", WAD) < WAD:
        return "a penalty below 100 %"
    if values.get("cut", RAY) > RAY:
        return "a cut above one"
    if values.get("liquidation_system", CAT_1_1) not in SYSTEMS:
        return "no such system of liquidations: 10, 11 or 20"
    return None
