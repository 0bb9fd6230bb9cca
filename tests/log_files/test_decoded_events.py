"""Tables of decoded events make the same market as the raw logs that they were decoded from; broken ones are one line
and change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.abi import parse_event
from backtest.errors import UserError
from backtest.fetch.decode import decode, topic0
from backtest.fetch.feeds import ADAPTER_EVENTS, FEED_EVENTS
from backtest.fetch.market_files import find_market
from backtest.lake import Lake
from backtest.log_files import LogImport, import_logs
from backtest.log_files.columns import Wrong
from backtest.log_files.decoded import KnownEvents, table_of
from backtest.log_files.gather import gather
from backtest.log_files.layouts import FittedLayout
from backtest.log_files.reading import files_in
from backtest.log_files.source import BinaryLogs
from backtest.model import EventSpec
from backtest.pools.events import EVENTS as POOL_EVENTS
from backtest.protocols.registry import PROTOCOLS, protocol_named
from backtest.reconstruct import reconstruct
from backtest.resources import resource
from tests.support import decoded_tables as d

MARKET = find_market(str(d.RECORDED / "market.toml"))
FACTS = d.RECORDED / "facts.toml"
BLOCKS = next((d.RECORDED / "cryo").glob("*__blocks__*.parquet"))
SPECS = [*protocol_named(MARKET.protocol).events, *FEED_EVENTS, *ADAPTER_EVENTS]
TO = 312


@pytest.fixture(scope="module")
def tables() -> dict[str, list[d.Row]]:
    return d.tables(d.recorded(), SPECS)


def _imported(lake: Lake, *paths: Path, **options: Any) -> LogImport:
    summary = import_logs(lake, MARKET, [*paths, BLOCKS], facts=FACTS, to_block=TO, **options)
    lake.refresh()
    return summary


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("raw") / "lake", create=True)
    _imported(lake, d.RECORDED / "cryo")
    reconstruct(lake, MARKET.name)
    lake.refresh()
    return lake


def _dune_csv(folder: Path, tables: dict[str, list[d.Row]]) -> None:
    for event, rows in tables.items():
        members = ["loanToken", "collateralToken", "oracle", "irm", "lltv"]
        made = [d.struct(row, "marketParams", members) for row in rows] if event == "CreateMarket" else rows
        d.write_csv(folder / f"morpho_blue_local.MorphoBlue_evt_{event}.csv", made)


def _parquet(folder: Path, tables: dict[str, list[d.Row]]) -> None:
    for event, rows in tables.items():
        renamed = [
            {name if name.startswith("evt_") else f"_{name}": value for name, value in row.items()} for row in rows
        ]
        for row in renamed:
            row["contract_address"] = row.pop("_contract_address")
        d.write_parquet(folder / f"evt_{event.lower()}.parquet", renamed)


def _unnamed_lines(folder: Path, tables: dict[str, list[d.Row]]) -> None:
    """No name tells the event: its columns do. Where those of several events are alike, the name has to."""
    alike = {"SupplyCollateral", "WithdrawCollateral", "Supply", "Repay", "Withdraw", "Borrow"}
    for number, (event, rows) in enumerate(tables.items()):
        name = f"x_evt_{event}.json" if event in alike else f"{number}.json"
        (folder / name).write_text("".join(json.dumps(d.texts(row)) + "\n" for row in rows))


def _one_file(folder: Path, tables: dict[str, list[d.Row]]) -> None:
    """Rows of all events in one file, without the emitting contract where the market's file names it."""
    names = list(dict.fromkeys(name for rows in tables.values() for row in rows for name in row))
    rows = [{"kind": event, **dict.fromkeys(names, ""), **d.texts(row)} for event in tables for row in tables[event]]
    Random(3).shuffle(rows)
    d.write_csv(folder / "all.csv", rows)


OWN = """
description = "a table of all events"
[events]
block_number = "evt_block_number"
transaction_index = "evt_tx_index"
log_index = "evt_index"
transaction_hash = "evt_tx_hash"
address = "contract_address"
event = "kind"
"""


@pytest.mark.parametrize("form", [_dune_csv, _parquet, _unnamed_lines, _one_file], ids=lambda form: form.__name__)
def test_decoded_events_make_the_market_that_raw_logs_make(
    tmp_path: Path, raw: Lake, tables: dict[str, list[d.Row]], form: Callable[[Path, Any], None]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    form(folder, tables)
    options = {}
    if form is _one_file:
        (tmp_path / "own.toml").write_text(
            OWN + '[blocks]\nblock_number = "block_number"\ntimestamp = "timestamp"\n'
            'block_hash = "block_hash"\nparent_hash = "parent_hash"\nbase_fee = "base_fee_per_gas"\n'
        )
        options["mapping"] = str(tmp_path / "own.toml")
    lake = Lake(tmp_path / "lake", create=True)
    summary = _imported(lake, folder, **options)
    assert summary.read == sum(map(len, tables.values()))
    reconstruct(lake, MARKET.name)
    lake.refresh()
    assert lake.datasets(MARKET.name) == raw.datasets(MARKET.name)
    for dataset in raw.datasets(MARKET.name):
        assert lake.digest(MARKET.name, dataset) == raw.digest(MARKET.name, dataset), dataset
        if dataset.startswith("canonical/"):
            assert lake.read(dataset, MARKET.name).equals(raw.read(dataset, MARKET.name)), dataset
    assert lake.digest(MARKET.name) == raw.digest(MARKET.name)


def test_the_markets_own_file_tells_the_contract_where_the_rows_do_not(
    tmp_path: Path, raw: Lake, tables: dict[str, list[d.Row]]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    named = {spec.name for spec in SPECS if spec.emitter in MARKET.contracts}
    for event, rows in tables.items():
        d.write_csv(
            folder / f"evt_{event}.csv", list(map(_without("contract_address"), rows)) if event in named else rows
        )
    lake = Lake(tmp_path / "lake", create=True)
    _imported(lake, folder)
    assert lake.digest(MARKET.name) == raw.digest(MARKET.name)


def test_events_that_the_market_does_not_need_are_counted(tmp_path: Path, tables: dict[str, list[d.Row]]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    _dune_csv(folder, tables)
    place = {name: value for name, value in tables["CreateMarket"][0].items() if name.startswith(("evt_", "contract"))}
    d.write_csv(folder / "MorphoBlue_evt_FlashLoan.csv", [{**place, "caller": b"\1" * 20, "assets": 5}] * 3)
    summary = _imported(Lake(tmp_path / "lake", create=True), folder)
    assert "read by nothing: 3 rows of MorphoBlue_evt_FlashLoan.csv" in summary.notes


# -- broken tables
# ---------------------------------------------------------------------------------------------------------------------


def _without(name: str) -> Callable[[d.Row], d.Row]:
    return lambda row: {column: value for column, value in row.items() if column != name}


@pytest.mark.parametrize(
    ("event", "change", "said"),
    [
        ("Borrow", {"assets": "1.5"}, "evt_Borrow.csv, row 1: assets '1.5' has more than 0 decimals"),
        ("Borrow", {"assets": ""}, "row 1: assets is missing"),
        ("Borrow", {"assets": "-1"}, "row 1: assets -1 is out of the range of uint256"),
        ("Borrow", {"assets": str(1 << 256)}, "is out of the range of uint256"),
        ("Borrow", {"assets": "９"}, "assets '９' is not a decimal number"),
        ("Borrow", {"assets": "12 ETH"}, "assets '12 ETH' is not a decimal number"),
        ("Borrow", {"onBehalf": "0x12"}, "row 1: onBehalf '0x12' is not 20 bytes"),
        ("Borrow", {"onBehalf": ""}, "row 1: onBehalf is missing"),
        ("Borrow", {"evt_tx_hash": "0x12"}, "transaction hash '0x12' is not 32 bytes"),
        ("Borrow", {"evt_tx_index": ""}, "transaction index is missing"),
        ("Borrow", {"evt_block_number": "-4"}, "block number '-4'"),
        ("Borrow", {"contract_address": ""}, "address is missing"),
        ("Borrow", _without("onBehalf"), "has an argument onBehalf, for which it has no column"),
        ("Borrow", _without("evt_tx_index"), "nearest is dune, which has evt_tx_index too"),
        ("CreateMarket", _without("lltv"), "has an argument lltv, for which it has no column"),
    ],
)
def test_broken_tables_are_one_line_and_change_nothing(
    tmp_path: Path, tables: dict[str, list[d.Row]], event: str, change: Any, said: str
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    rows = [d.texts(row) for row in tables[event]]
    rows = [change(row) for row in rows] if callable(change) else [{**rows[0], **change}, *rows[1:]]
    d.write_csv(folder / f"evt_{event}.csv", rows)
    lake = Lake(tmp_path / "lake", create=True)
    with pytest.raises(UserError) as error:
        _imported(lake, folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert lake.markets() == []


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("", "marketParams is not JSON"),
        ("{", "marketParams is not JSON"),
        ("[]", "marketParams has no loanToken"),
        ('{"loanToken": null}', "marketParams has no loanToken"),
        ('{"loanToken": "0x12"}', "loanToken '0x12' is not 20 bytes"),
    ],
)
def test_broken_structs_are_one_line(tmp_path: Path, tables: dict[str, list[d.Row]], params: str, said: str) -> None:
    row = d.struct(tables["CreateMarket"][0], "marketParams", ["loanToken", "collateralToken", "oracle", "irm", "lltv"])
    line = json.dumps(d.texts({**row, "marketParams": params}))
    (tmp_path / "evt_CreateMarket.json").write_text(f"{line}\n{line}\n")
    with pytest.raises(UserError, match=said):
        _imported(Lake(tmp_path / "lake", create=True), tmp_path / "evt_CreateMarket.json")


def test_a_float_is_no_argument(tmp_path: Path, tables: dict[str, list[d.Row]]) -> None:
    rows = [{**row, "assets": float(row["assets"])} for row in tables["Borrow"]]
    d.write_parquet(tmp_path / "evt_Borrow.parquet", rows)
    with pytest.raises(UserError, match=r"assets '.*' is a float, which is not exact: export it as text"):
        _imported(Lake(tmp_path / "lake", create=True), tmp_path / "evt_Borrow.parquet")


def test_columns_of_several_events_need_a_name(tmp_path: Path, tables: dict[str, list[d.Row]]) -> None:
    d.write_csv(tmp_path / "rows.csv", tables["Supply"])
    with pytest.raises(UserError, match=r"those of several events .*name the file after its event"):
        _imported(Lake(tmp_path / "lake", create=True), tmp_path / "rows.csv")
    key = ("evt", "contract")
    rows = [{name: value for name, value in row.items() if name.startswith(key)} for row in tables["Supply"]]
    d.write_csv(tmp_path / "rows.csv", rows)
    with pytest.raises(UserError, match="nothing says which event its rows are of"):
        _imported(Lake(tmp_path / "lake", create=True), tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('description = ""', "neither \\[logs\\] nor \\[events\\]"),
        (OWN.replace('log_index = "evt_index"\n', ""), "missing required field `log_index`"),
        (OWN + "argments = 1\n", "unknown field `argments`"),
        (OWN + "[arguments.Supply]\nassets = 3\n", "Expected `str`, got `int`"),
    ],
)
def test_broken_mappings_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        _imported(Lake(tmp_path / "lake", create=True), d.RECORDED / "cryo", mapping=str(tmp_path / "own.toml"))


def test_arguments_may_have_other_names(tmp_path: Path, raw: Lake, tables: dict[str, list[d.Row]]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for event, rows in tables.items():
        renamed = [{{"onBehalf": "depositor"}.get(name, name): value for name, value in row.items()} for row in rows]
        d.write_csv(folder / f"evt_{event}.csv", renamed)
    names = "".join(f'[arguments.{event}]\nonBehalf = "Depositor"\n' for event in tables)
    blocks = '[blocks]\nblock_number = "block_number"\ntimestamp = "timestamp"\nblock_hash = "block_hash"\n'
    blocks += 'parent_hash = "parent_hash"\nbase_fee = "base_fee_per_gas"\n'
    (tmp_path / "own.toml").write_text(OWN.replace('event = "kind"\n', "") + names + blocks)
    lake = Lake(tmp_path / "lake", create=True)
    _imported(lake, folder, mapping=str(tmp_path / "own.toml"))
    assert lake.digest(MARKET.name) == raw.digest(MARKET.name)


# -- the law: what was encoded decodes to the same
# ---------------------------------------------------------------------------------------------------------------------

EVENTS = [
    spec
    for spec in {topic0(s): s for p in PROTOCOLS.values() for s in [*p.events, *FEED_EVENTS, *POOL_EVENTS]}.values()
    if spec.note is None
]


def _values(kind: str) -> st.SearchStrategy[Any]:
    if kind == "address":
        return st.binary(min_size=20, max_size=20)
    if kind == "bool":
        return st.booleans()
    if kind == "string":
        return st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
    if kind == "bytes":
        return st.binary(max_size=70)
    if kind == "bytes32[]":
        return st.lists(st.binary(min_size=32, max_size=32), max_size=3)
    if kind.startswith("bytes"):
        return st.binary(min_size=int(kind[5:]), max_size=int(kind[5:]))
    bits = int(kind.lstrip("uint") or 256)
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "i" else st.integers(0, (1 << bits) - 1)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_event_is_encoded_as_the_abi_says(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(EVENTS))
    abi = parse_event(spec.signature)
    kinds = {a.name: "bytes32" if a.indexed and a.dynamic else a.type for a in abi.arguments}
    row = {a.name: data.draw(_values(kinds[a.name])) for a in abi.arguments}
    as_text = data.draw(st.booleans())
    batch = {name: _column(kinds[name], value, as_text) for name, value in row.items()}
    made = table_of(KnownEvents([spec], {}), list(row), FittedLayout("", "events", {}), {}, f"evt_{abi.name}.csv", "")
    assert made is not None
    topics, count, encoded = made.encoded(batch, 1)
    wanted = [encode([kinds[a.name]], [row[a.name]]) for a in abi.indexed]
    assert count == 1 + len(wanted)
    assert [topic.tobytes() for topic in topics] == wanted + [bytes(32)] * (3 - len(wanted))
    assert encoded[0].as_py() == encode([a.type for a in abi.data], [row[a.name] for a in abi.data])


def _column(kind: str, value: Any, as_text: bool) -> Any:
    if kind == "bytes32[]":
        words = ["0x" + word.hex() for word in value]
        return pa.array([f"[{' '.join(words)}]"]) if as_text else pa.array([value], pa.list_(pa.binary()))
    if isinstance(value, bytes):
        return pa.array(["0x" + value.hex()]) if as_text else pa.array([value], pa.binary())
    if isinstance(value, int) and not isinstance(value, bool) and (as_text or not -(1 << 63) <= value < 1 << 63):
        return pa.array([str(value)])
    return pa.array([value])


@given(st.text(max_size=90), st.sampled_from(["uint256", "int24", "address", "bytes32", "bool", "bytes", "bytes32[]"]))
def test_whatever_stands_in_a_column_is_encoded_or_wrong(text: str, kind: str) -> None:
    spec = EventSpec("Odd", f"Odd({kind} value)", "x")
    made = table_of(KnownEvents([spec], {}), ["value"], FittedLayout("", "events", {}), {}, "evt_Odd.csv", "")
    assert made is not None
    said = _outcome(lambda: made.encoded({"value": pa.array([text])}, 1))
    assert said is None or (said.row == 0 and "\n" not in str(said))


def _outcome(encode_: Callable[[], Any]) -> Wrong | None:
    try:
        encode_()
    except Wrong as wrong:
        return wrong
    return None


def test_every_event_of_the_bundled_market_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    """The raw datasets of a market of Aave V3.6's own bytecode, as decoded tables, and through the decoder again."""
    lake, market = Lake(resource("sample") / "lake"), "sample-crash"
    config = lake.market_config(market)
    specs = protocol_named(config.protocol).events
    kept: dict[str, pa.Table] = {}
    (tmp_path / "files").mkdir()
    for spec in specs:
        dataset = f"raw/{config.protocol}/{spec.name}"
        if dataset not in lake.datasets(market):
            continue
        kept[dataset] = lake.read(dataset, market)
        abi = parse_event(spec.signature)
        columns = {
            "contract_address": kept[dataset]["address"],
            "evt_tx_hash": kept[dataset]["transaction_hash"],
            "evt_tx_index": kept[dataset]["transaction_index"],
            "evt_index": kept[dataset]["log_index"],
            "evt_block_number": kept[dataset]["block_number"],
        }
        for argument in abi.arguments:
            column = kept[dataset][argument.column]
            if argument.name in spec.wide:
                column = pa.array([str(int.from_bytes(value, "big")) for value in column.to_pylist()])
            columns[argument.name] = column
        pq.write_table(pa.table(columns), tmp_path / f"files/{spec.name}_evt_{abi.name}.parquet")
    (tmp_path / "spool").mkdir()
    topics = [bytes.fromhex(topic0(spec)[2:]) for spec in specs]
    gathered = gather(files_in([tmp_path / "files"]), topics, tmp_path / "spool", decoded=KnownEvents(specs, {}))
    assert gathered.read == sum(len(table) for table in kept.values()) > 1_000
    found: dict[str, list[pa.Table]] = {}
    for part in gathered.logs.parts(0, 1 << 40):
        for dataset, table in decode(BinaryLogs.of(part, gathered), specs, config.protocol).items():
            found.setdefault(dataset, []).append(table)
    assert len(kept) > 20
    assert found.keys() == kept.keys()
    for dataset, table in kept.items():
        assert pa.concat_tables(found[dataset]).equals(table.cast(found[dataset][0].schema)), dataset
