"""Which logs of which contracts make the history of an ilk, or of several, and which contracts those are.

The Vat, the Jug, the Spotter, Cats, Flips and price feeds log calls (LogNote, ``EventSpec.note``); Dog, Clip and Abacus
have events. The market names Vat, Jug, Spotter, Cats and Dog; Flips, Clips, their Abacus and the price feed are those
that these are told to use.
Vaults of the CdpManager are urns like others: which number a vault has, no log says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.errors import UserError
from backtest.foreign import shown
from backtest.model import EventSpec
from backtest.protocols.interface import RawEvents
from backtest.protocols.vaults.logs import address_text, word

_ILK_FILE = "file(bytes32 ilk, bytes32 what, uint256 data)"
_FILE = "file(bytes32 what, uint256 data)"
_ILK_FILE_ADDRESS = "file(bytes32 ilk, bytes32 what, address data)"
_DATA = frozenset({"data"})


def _vat(name: str, signature: str, wide: frozenset[str] = frozenset()) -> EventSpec:
    return EventSpec(name, signature, "vat", wide, key="ilk", note="arguments")


def _note(name: str, signature: str, emitter: str, wide: frozenset[str] = frozenset()) -> EventSpec:
    return EventSpec(name, signature, emitter, wide, note="sender")


EVENTS: tuple[EventSpec, ...] = (
    # dss src/vat.sol
    _vat("VatInit", "init(bytes32 ilk)"),
    _vat("VatFile", _ILK_FILE, _DATA),
    _vat("VatFrob", "frob(bytes32 ilk, address urn, address v, address w, int256 dink, int256 dart)"),
    _vat("VatFork", "fork(bytes32 ilk, address src, address dst, int256 dink, int256 dart)"),
    _vat("VatGrab", "grab(bytes32 ilk, address urn, address v, address w, int256 dink, int256 dart)"),
    _vat("VatFold", "fold(bytes32 ilk, address u, int256 rate)"),
    # src/jug.sol
    _note("JugInit", "init(bytes32 ilk)", "jug"),
    _note("JugFile", _ILK_FILE, "jug"),
    _note("JugFileBase", _FILE, "jug"),
    # src/spot.sol
    _note("SpotterFile", _ILK_FILE, "spotter"),
    _note("SpotterFilePar", _FILE, "spotter"),
    _note("SpotterFilePip", _ILK_FILE_ADDRESS, "spotter"),
    EventSpec("Poke", "Poke(bytes32 ilk, bytes32 val, uint256 spot)", "spotter", frozenset({"spot"})),
    # src/cat.sol 1.0.2 and 1.1.0
    _note("CatFile", _ILK_FILE, "cat", _DATA),
    _note("CatFileBox", _FILE, "cat", _DATA),
    _note("CatFileFlip", _ILK_FILE_ADDRESS, "cat"),
    EventSpec(
        "Bite",
        "Bite(bytes32 indexed ilk, address indexed urn, uint256 ink, uint256 art, uint256 tab, address flip,"
        " uint256 id)",
        "cat",
        frozenset({"tab"}),
    ),
    # src/flip.sol
    _note("FlipFile", _FILE, "flip"),
    _note("FlipTend", "tend(uint256 id, uint256 lot, uint256 bid)", "flip", frozenset({"bid"})),
    _note("FlipDent", "dent(uint256 id, uint256 lot, uint256 bid)", "flip", frozenset({"bid"})),
    _note("FlipDeal", "deal(uint256 id)", "flip"),
    _note("FlipTick", "tick(uint256 id)", "flip"),
    _note("FlipYank", "yank(uint256 id)", "flip"),
    EventSpec(
        "FlipKick",
        "Kick(uint256 id, uint256 lot, uint256 bid, uint256 tab, address indexed usr, address indexed gal)",
        "flip",
        frozenset({"bid", "tab"}),
    ),
    # src/dog.sol
    EventSpec("DogFile", "File(bytes32 indexed what, uint256 data)", "dog", _DATA),
    EventSpec("DogFileIlk", "File(bytes32 indexed ilk, bytes32 indexed what, uint256 data)", "dog", _DATA),
    EventSpec("DogFileClip", "File(bytes32 indexed ilk, bytes32 indexed what, address clip)", "dog"),
    EventSpec(
        "Bark",
        "Bark(bytes32 indexed ilk, address indexed urn, uint256 ink, uint256 art, uint256 due, address clip, uint256"
        " indexed id)",
        "dog",
        frozenset({"due"}),
    ),
    # src/clip.sol
    EventSpec("ClipFile", "File(bytes32 indexed what, uint256 data)", "clip", _DATA),
    EventSpec("ClipFileAddress", "File(bytes32 indexed what, address data)", "clip"),
    EventSpec(
        "ClipKick",
        "Kick(uint256 indexed id, uint256 top, uint256 tab, uint256 lot, address indexed usr, address indexed kpr,"
        " uint256 coin)",
        "clip",
        frozenset({"tab", "coin"}),
    ),
    EventSpec(
        "ClipTake",
        "Take(uint256 indexed id, uint256 max, uint256 price, uint256 owe, uint256 tab, uint256 lot, address indexed"
        " usr)",
        "clip",
        frozenset({"max", "price", "owe", "tab"}),
    ),
    EventSpec(
        "ClipRedo",
        "Redo(uint256 indexed id, uint256 top, uint256 tab, uint256 lot, address indexed usr, address indexed kpr,"
        " uint256 coin)",
        "clip",
        frozenset({"tab", "coin"}),
    ),
    EventSpec("ClipYank", "Yank(uint256 id)", "clip"),
    # src/abaci.sol
    EventSpec("CalcFile", "File(bytes32 indexed what, uint256 data)", "calc", _DATA),
    # osm src/osm.sol
    EventSpec("LogValue", "LogValue(bytes32 val)", "osm"),
)


EVERY = "*"
"""Instead of an ilk's name: all that the logs tell."""


def ilks_of(parameters: Mapping[str, str]) -> tuple[bytes, ...]:
    """The market's ilks in their order, empty for all that logs tell; UserError where its description names none, or
    one that is no bytes32 of ASCII text, or one twice.
    """
    if "ilk" not in parameters:
        raise UserError("this Maker market names no ilk", 'add [parameters] ilk = "ETH-A" to its description')
    given = parameters["ilk"]
    if given == EVERY:
        return ()
    names = [each.strip() for each in given.split(",")]
    for ilk in names:
        if not ilk.isascii() or not 0 < len(ilk) <= 32:
            raise UserError(f"'{shown(ilk, 60)}' is no ilk", 'give up to 32 letters, digits and signs, such as "ETH-A"')
    if twice := next((ilk for ilk in names if names.count(ilk) > 1), None):
        raise UserError(f"ilk {shown(twice, 60)} is named twice", "leave one of them out")
    return tuple(map(word, names))


def ilk_of(parameters: Mapping[str, str]) -> bytes:
    """The ilk of a market of one; UserError where there are several."""
    ilks = ilks_of(parameters)
    if len(ilks) != 1:
        raise UserError("this Maker market is of several ilks", "take a market of the one ilk that is meant")
    return ilks[0]


def is_several(parameters: Mapping[str, str]) -> bool:
    """Whether a market is of several ilks, however many of them have come into being."""
    return len(ilks_of(parameters)) != 1


def discover(contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
    """Every contract of the ilk that is known after reading ``raw``, by role."""
    found = {role: set(addresses) for role, addresses in contracts.items()}
    found.setdefault("cat", set()).update(
        *(addresses for role, addresses in contracts.items() if role.startswith("cat_"))
    )
    for role, address in _named(raw, ilks_of(raw.parameters)):
        found.setdefault(role, set()).add(address)
    return {role: frozenset(addresses) for role, addresses in found.items() if addresses}


def _named(raw: RawEvents, ilks: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """(role, address) of contracts that others were told to use."""
    for event, what, role, column in (
        ("CatFileFlip", "flip", "flip", "data"),
        ("DogFileClip", "clip", "clip", "clip"),
        ("SpotterFilePip", "pip", "osm", "data"),
    ):
        for row in raw.table(event).to_pylist():
            if (not ilks or row["ilk"] in ilks) and row["what"] == word(what):
                yield role, address_text(row[column])
    for row in raw.table("ClipFileAddress").to_pylist():
        if row["what"] == word("calc"):
            yield "calc", address_text(row["data"])


def owners(raw: RawEvents) -> Mapping[bytes, tuple[bytes, ...]]:
    """The ilks whose Flip, Clip or Abacus each contract is, by address."""
    found: dict[bytes, dict[bytes, None]] = {}
    for event, what, column in (("CatFileFlip", "flip", "data"), ("DogFileClip", "clip", "clip")):
        for row in raw.table(event).to_pylist():
            if row["what"] == word(what):
                found.setdefault(row[column], {})[row["ilk"]] = None
    for row in raw.table("ClipFileAddress").to_pylist():
        if row["what"] == word("calc"):
            found.setdefault(row["data"], {}).update(found.get(row["address"], {}))
    return {address: tuple(ilks) for address, ilks in found.items()}
