"""A node's logs to canonical tables: frobs, forks and grabs of an ilk or of several, accumulators, prices and
parameters, exact throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.auctions.dutch import EXPONENTIAL, LINEAR, STAIRSTEP
from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.folding import Running
from backtest.protocols.interface import RawEvents
from backtest.protocols.maker.events import EVENTS, ilks_of, is_several, owners
from backtest.protocols.maker.imported import UNKNOWN
from backtest.protocols.maker.ledger import Ledger
from backtest.protocols.vaults.ledger import closing
from backtest.protocols.vaults.logs import address_text, integer, name
from backtest.units import RAY, WAD

Row = Mapping[str, Any]

# Event to what its ``what`` means here: parameter, and by what its number is divided (rad to wad).
_FILED: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "VatFile": {"dust": ("dust", RAY), "line": ("line", RAY)},
    "JugFile": {"duty": ("duty", 1)},
    "JugFileBase": {"base": ("base", 1)},
    "SpotterFile": {"mat": ("liquidation_ratio", 1)},
    "SpotterFilePar": {"par": ("par", 1)},
    "CatFile": {"chop": ("liquidation_penalty", 1), "lump": ("lump", 1), "dunk": ("dunk", RAY)},
    "CatFileBox": {"box": ("box", RAY)},
    "FlipFile": {"beg": ("beg", 1), "ttl": ("ttl", 1), "tau": ("tau", 1)},
    "DogFile": {"Hole": ("global_hole", RAY)},
    "DogFileIlk": {"chop": ("liquidation_penalty", 1), "hole": ("hole", RAY)},
    "ClipFile": {
        "buf": ("buf", 1),
        "tail": ("tail", 1),
        "cusp": ("cusp", 1),
        "chip": ("chip", 1),
        "tip": ("tip", RAY),
        "stopped": ("stopped", 1),
    },
    "CalcFile": {"tau": ("calc_tau", 1), "step": ("step", 1), "cut": ("cut", 1)},
}
# Events that the tables need. Of the others (bids, takes) one may be undecodable.
_NEEDED = (
    *_FILED,
    "VatInit",
    "VatFrob",
    "VatFork",
    "VatGrab",
    "VatFold",
    "JugInit",
    "Poke",
    "Bite",
    "Bark",
    "ClipKick",
)
_WHOLE = frozenset({"base", "par", "box", "global_hole"})
"""Parameters of the contracts as a whole."""
_COLUMNS = {spec.name: event_schema(spec).names for spec in EVENTS if spec.name in _NEEDED}
_MOST = 10**38 - 1
SEGMENT_ROWS = 1 << 18


def fold_logs(config: MarketConfig, raw: RawEvents, running: Running | None = None) -> Iterator[tuple[str, pa.Table]]:
    """Canonical tables from raw logs, with ``running`` of those behind what it has seen. RulesError, naming its block,
    where a log that is needed could not be decoded, or where a vault would fall below zero: then logs are missing.
    """
    for row in raw.table("Quarantine").to_pylist():
        if row["event"] in _NEEDED:
            raise RulesError(
                f"block {row['block_number']}, log {row['log_index']}: a {row['event']} log of"
                f" {address_text(row['address'])} could not be decoded ({row['reason']}), so vaults after it are"
                " unknown",
                "look at it in raw/maker/Quarantine; correct the market's contracts, or report it",
            )
    folding = (running or Running()).begin(lambda: _Logs(config))
    folding.owners = owners(raw) if folding.several else {}
    for segment in raw.segments(SEGMENT_ROWS, _COLUMNS):
        folding.take(segment)
    yield from folding.tables()


class _Logs:
    """One fold in progress."""

    def __init__(self, config: MarketConfig) -> None:
        self._config = config
        self._ilks = ilks_of(config.parameters)
        self.several = is_several(config.parameters)
        self.owners: Mapping[bytes, tuple[bytes, ...]] = {}
        """With several ilks: whose Flip, Clip or Abacus a contract is."""
        self._ledgers: dict[bytes, Ledger] = {}
        for ilk in self._ilks:
            self._ledger(ilk)

    def _ledger(self, ilk: bytes) -> Ledger:
        """The ledger of an ilk, made where it is met first."""
        if ilk not in self._ledgers:
            contracts, whole = self._config.contracts, name(ilk)
            symbol = whole.partition("-")[0]
            if self.several:
                first = next(iter(self._ledgers.values()), None)
                sides = (whole.lower(), whole), (f"dai-{whole.lower()}", f"DAI-{whole}")
                self._ledgers[ilk] = Ledger(self._config, *sides, beside=first, own=whole)
            else:
                sides = (contracts.get("gem", symbol.lower()), symbol), (contracts.get("dai", "dai"), "DAI")
                self._ledgers[ilk] = Ledger(self._config, *sides)
        return self._ledgers[ilk]

    def _of(self, row: Row) -> Ledger:
        return self._ledger(row["ilk"])

    def _filed(self, row: Row, parameter: str) -> list[tuple[Ledger, bool]]:
        """The ledgers whose parameter a setting is, and whether it is one of the market as a whole."""
        if not self.several:
            return [(next(iter(self._ledgers.values())), True)]
        if "ilk" in row:
            return [(self._of(row), False)]
        if parameter in _WHOLE:
            return [(each, True) for each in list(self._ledgers.values())[:1]]
        mine = (ilk for ilk in self.owners.get(row["address"], ()) if not self._ilks or ilk in self._ilks)
        return [(self._ledger(ilk), False) for ilk in mine]

    def take(self, segment: Mapping[str, pa.Table]) -> None:
        """Folds the logs of some blocks."""
        rows = []
        for event in _NEEDED:
            if (table := segment.get(event)) is not None:
                own = "ilk" in table.column_names
                rows += [
                    (event, row) for row in table.to_pylist() if not own or not self._ilks or row["ilk"] in self._ilks
                ]
        self._rows = sorted(rows, key=lambda found: found[1]["seq"])
        self._closing = closing(self._rows, "VatGrab", ("Bite", "Bark"), "ilk", "urn")
        self._keepers = {
            (row["block_number"], row["transaction_index"], row["address"], int(row["id"])): row["kpr"]
            for event, row in self._rows
            if event == "ClipKick"
        }
        handlers: dict[str, Callable[[Row], None]] = {
            "VatInit": lambda row: self._of(row).open(row),
            "VatFrob": self._frob,
            "VatFork": self._fork,
            "VatGrab": self._grab,
            "VatFold": self._fold,
            "JugInit": self._jug_init,
            "Poke": self._poke,
            "Bite": self._bite,
            "Bark": self._bark,
            "ClipKick": lambda row: None,
        }
        for event, row in self._rows:
            if event in _FILED:
                self._file(event, row)
            else:
                handlers[event](row)

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """What came of the logs since this was asked for before."""
        first = next(iter(self._ledgers.values()), None)
        if first is None:
            raise RulesError("no ilk has come into being in these logs", "fetch the market from its start")
        yield from first.tables()

    # -- configuration
    # ---------------------------------------------------------------------------------------------------

    def _file(self, event: str, row: Row) -> None:
        known = _FILED[event].get(name(row["what"]))
        if known is None:
            return
        parameter, unit = known
        value = integer(row["data"]) // unit
        if parameter == "liquidation_penalty" and value >= RAY:  # Cat 1.0 keeps a ray
            value //= RAY // WAD
        for ledger, whole in self._filed(row, parameter):
            ledger.param(row, parameter, min(value, _MOST), whole=whole)
            if event == "CalcFile":
                # which Abacus it is shows by its settings: only one has a step, only one a tau
                kind = {"calc_tau": LINEAR, "step": STAIRSTEP}.get(parameter, ledger.params.get("calc", EXPONENTIAL))
                if ledger.params.get("calc") != kind:
                    ledger.param(row, "calc", kind)

    def _jug_init(self, row: Row) -> None:
        """dss ``src/jug.sol`` ``init``: a duty of one ray, no fee."""
        self._of(row).param(row, "duty", RAY)

    def _poke(self, row: Row) -> None:
        """dss ``src/spot.sol`` ``poke``: the price feed's value, and the spot of the Vat; a spot of zero: the feed has
        no price.
        """
        price = int.from_bytes(row["val"], "big") if integer(row["spot"]) else None
        ledger = self._of(row)
        ledger.price(row, ledger.collateral, price or None, source=None, method="feed", exact=True)

    def _fold(self, row: Row) -> None:
        """dss ``src/vat.sol`` ``fold``: rate += arg."""
        ledger = self._of(row)
        ledger.set_rate(row, ledger.rate + int(row["rate"]))

    # -- vaults
    # ----------------------------------------------------------------------------------------------------------

    def _frob(self, row: Row) -> None:
        dink, dart = int(row["dink"]), int(row["dart"])
        action = "borrow" if dart > 0 else "withdraw" if dink < 0 else "repay" if dart < 0 else "supply"
        self._move(row, row["urn"], dink, dart, action)

    def _fork(self, row: Row) -> None:
        dink, dart = int(row["dink"]), int(row["dart"])
        self._move(row, row["src"], -dink, -dart, "transfer")
        self._move(row, row["dst"], dink, dart, "transfer")

    def _grab(self, row: Row) -> None:
        """A seizure: a liquidation if a bite or bark closes it, else the shutdown's (``src/end.sol``)."""
        seq = self._closing.get(row["seq"])
        action = "shutdown" if seq is None else "liquidation"
        self._move(row, row["urn"], int(row["dink"]), int(row["dart"]), action, seq)

    def _move(self, row: Row, urn: bytes, dink: int, dart: int, action: str, seq: int | None = None) -> None:
        self._of(row).moved(row, address_text(urn), dink, dart, action, action_seq=seq)

    def _bite(self, row: Row) -> None:
        self._liquidation(row, integer(row["tab"]), UNKNOWN)

    def _bark(self, row: Row) -> None:
        keeper = self._keepers.get((row["block_number"], row["transaction_index"], row["clip"], int(row["id"])))
        self._liquidation(row, integer(row["due"]), UNKNOWN if keeper is None else address_text(keeper))

    def _liquidation(self, row: Row, due: int, liquidator: str) -> None:
        """``due`` rad, without penalty. Who called a bite no log says."""
        ledger = self._of(row)
        ledger.liquidation(
            row,
            ledger.vault(address_text(row["urn"])),
            ledger.account(liquidator),
            due // RAY,
            int(row["ink"]),
            int(row["art"]),
        )
