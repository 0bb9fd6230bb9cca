"""Logs of one Maker ilk as the contracts write them, built from the ABI: a script of calls becomes a chain that a node
serves.

``Script`` keeps a book of its own, by the formulas of the reference, so that what it logs is what the contracts would
have logged.
"""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from backtest.markets import MarketConfig
from tests.support.synthetic import CHAIN_ID, Chain, MadeBlocks, MadeLog

WAD, RAY = 10**18, 10**27
RAD = WAD * RAY


def address(name: str) -> str:
    return "0x" + keccak(text=name)[-20:].hex()


_NAMES = ("vat", "jug", "spot", "cat", "dog", "flip", "clip", "calc", "osm")
VAT, JUG, SPOTTER, CAT, DOG, FLIP, CLIP, CALC, OSM = (address(f"maker {name}") for name in _NAMES)
GOVERNANCE = address("governance")
CONFIG = MarketConfig(
    name="vaults",
    protocol="maker",
    chain_id=CHAIN_ID,
    start_block=1,
    base_decimals=18,
    parameters={"ilk": "ETH-B"},
    contracts={
        "vat": VAT,
        "jug": JUG,
        "spotter": SPOTTER,
        "cat_1_1": CAT,
        "dog": DOG,
        "gem": address("gem"),
        "dai": address("dai"),
    },
)


def text32(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


ILK, OTHER = text32("ETH-B"), text32("WBTC-A")


def _word(kind: str, value: Any) -> bytes:
    return encode([kind], [value])


def note(emitter: str, function: str, *values: Any, sender: str | None = None) -> MadeLog:
    """The anonymous log of a call: of the Vat without ``sender``, else of a contract with ``src/lib.sol``."""
    kinds = function[function.index("(") + 1 : -1].split(",")
    selector = keccak(text=function)[:4]
    call = (selector + b"".join(_word(kind, value) for kind, value in zip(kinds, values, strict=True))).ljust(
        224, b"\0"
    )
    topics = [selector.ljust(32, b"\0")]
    if sender is not None:
        topics.append(_word("address", sender))
    topics += [call[4 + 32 * at : 36 + 32 * at] for at in range(4 - len(topics))]
    data = (32).to_bytes(32, "big") + (224).to_bytes(32, "big") + call
    return MadeLog(emitter, tuple("0x" + topic.hex() for topic in topics), data.hex())


def event(emitter: str, signature: str, *values: Any) -> MadeLog:
    """An ordinary log: ``signature`` marks indexed arguments with a trailing ``!``."""
    name, inner = signature[:-1].split("(")
    kinds = inner.split(",")
    plain = [kind.rstrip("!") for kind in kinds]
    topics = [keccak(text=f"{name}({','.join(plain)})")]
    topics += [_word(kind.rstrip("!"), value) for kind, value in zip(kinds, values, strict=True) if kind.endswith("!")]
    data = b"".join(_word(kind, value) for kind, value in zip(kinds, values, strict=True) if not kind.endswith("!"))
    return MadeLog(emitter, tuple("0x" + topic.hex() for topic in topics), data.hex())


class Script(MadeBlocks):
    """Calls, a block at a time; a bite, which must be one transaction, starts at a multiple of three logs."""

    def __init__(self) -> None:
        super().__init__(note(VAT, "init(bytes32)", OTHER))
        self.rate = RAY
        self.ink: dict[str, int] = {}
        self.art: dict[str, int] = {}

    # -- configuration -----------------------------------------------------------------------------------------------

    def init(self) -> Script:
        return self.add(note(VAT, "init(bytes32)", ILK), note(JUG, "init(bytes32)", ILK, sender=GOVERNANCE))

    def file(self, emitter: str, what: str, value: int) -> Script:
        """A setting of the ilk (Vat, Jug, Spotter, Cat) or of a whole contract (Flip)."""
        if emitter == VAT:
            return self.add(note(VAT, "file(bytes32,bytes32,uint256)", ILK, text32(what), value))
        if emitter == FLIP:
            return self.add(note(FLIP, "file(bytes32,uint256)", text32(what), value, sender=GOVERNANCE))
        if emitter in (CLIP, CALC):
            return self.add(event(emitter, "File(bytes32!,uint256)", text32(what), value))
        if emitter == DOG:
            return self.add(event(DOG, "File(bytes32!,bytes32!,uint256)", ILK, text32(what), value))
        return self.add(note(emitter, "file(bytes32,bytes32,uint256)", ILK, text32(what), value, sender=GOVERNANCE))

    def file_all(self, emitter: str, what: str, value: int) -> Script:
        """A setting for all ilks: Cat box, Dog Hole."""
        if emitter == DOG:
            return self.add(event(DOG, "File(bytes32!,uint256)", text32(what), value))
        return self.add(note(emitter, "file(bytes32,uint256)", text32(what), value, sender=GOVERNANCE))

    def use(self, emitter: str, what: str, target: str) -> Script:
        if emitter == DOG:
            return self.add(event(DOG, "File(bytes32!,bytes32!,address)", ILK, text32(what), target))
        if emitter == CLIP:
            return self.add(event(CLIP, "File(bytes32!,address)", text32(what), target))
        return self.add(note(emitter, "file(bytes32,bytes32,address)", ILK, text32(what), target, sender=GOVERNANCE))

    def price(self, price: int, ratio: int) -> Script:
        """The feed moves on and the Spotter takes it up."""
        spot = price * 10**9 * RAY // RAY * RAY // ratio
        value = price.to_bytes(32, "big")
        return self.add(
            event(OSM, "LogValue(bytes32)", value), event(SPOTTER, "Poke(bytes32,bytes32,uint256)", ILK, value, spot)
        )

    # -- vaults ------------------------------------------------------------------------------------------------------

    def fold(self, delta: int) -> Script:
        self.rate += delta
        return self.add(note(VAT, "fold(bytes32,address,int256)", ILK, GOVERNANCE, delta))

    def frob(self, who: str, dink: int, dart: int) -> Script:
        self._change(who, dink, dart)
        urn = address(who)
        return self.add(
            note(VAT, "frob(bytes32,address,address,address,int256,int256)", ILK, urn, urn, urn, dink, dart)
        )

    def fork(self, src: str, dst: str, dink: int, dart: int) -> Script:
        self._change(src, -dink, -dart)
        self._change(dst, dink, dart)
        return self.add(
            note(VAT, "fork(bytes32,address,address,int256,int256)", ILK, address(src), address(dst), dink, dart)
        )

    def bite(self, who: str, dink: int, dart: int, chop: int, number: int = 1) -> Script:
        self.pad()._grab(who, dink, dart, CAT)
        due = dart * self.rate
        kick = event(
            FLIP,
            "Kick(uint256,uint256,uint256,uint256,address!,address!)",
            number,
            dink,
            0,
            due * chop // WAD,
            address(who),
            GOVERNANCE,
        )
        bite = event(
            CAT,
            "Bite(bytes32!,address!,uint256,uint256,uint256,address,uint256)",
            ILK,
            address(who),
            dink,
            dart,
            due,
            FLIP,
            number,
        )
        return self.add(kick, bite)

    def bark(self, who: str, dink: int, dart: int, chop: int, keeper: str, number: int = 1) -> Script:
        self.pad()._grab(who, dink, dart, DOG)
        due = dart * self.rate
        kick = event(
            CLIP,
            "Kick(uint256!,uint256,uint256,uint256,address!,address!,uint256)",
            number,
            2_000 * RAY,
            due * chop // WAD,
            dink,
            address(who),
            address(keeper),
            300 * RAD,
        )
        bark = event(
            DOG,
            "Bark(bytes32!,address!,uint256,uint256,uint256,address,uint256!)",
            ILK,
            address(who),
            dink,
            dart,
            due,
            CLIP,
            number,
        )
        return self.add(kick, bark)

    def _grab(self, who: str, dink: int, dart: int, by: str) -> None:
        self._change(who, -dink, -dart)
        self.add(
            note(
                VAT,
                "grab(bytes32,address,address,address,int256,int256)",
                ILK,
                address(who),
                by,
                GOVERNANCE,
                -dink,
                -dart,
            )
        )

    def _change(self, who: str, dink: int, dart: int) -> None:
        self.ink[who] = self.ink.get(who, 0) + dink
        self.art[who] = self.art.get(who, 0) + dart

    def chain(self) -> Chain:
        return Chain(self.block + 3, self.logs)
