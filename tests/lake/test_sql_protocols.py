"""Each protocol's SQL is a folder of its own: what common SQL makes of them, wide arithmetic, and all protocols in one
lake held against their rules over random markets.
"""

from __future__ import annotations

import random
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backtest.errors import LakeError
from backtest.lake import Lake, queries
from backtest.model import AccountId, Asset, AssetId, Market, ParamChange, PositionChange, Side
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET, MAX_RATE_AT_TARGET, MIN_RATE_AT_TARGET
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, apply, index_update, open_state
from backtest.protocols.registry import PROTOCOLS
from backtest.resources import resource
from backtest.units import RAY, WAD
from tests.support.lake_tables import CONFIG, account, write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow

Rows = dict[str, list[dict[str, Any]]]
YEAR = 31_536_000
WITHOUT = {"llamma"}
"""Its health takes roots and products of 256-bit integers, which SQL has not: no rows, and ``info`` says so."""
FOLDERS = {name.replace("-", "_") for name in PROTOCOLS.keys() - WITHOUT}

# -- folders -----------------------------------------------------------------------------------------------------------


def test_every_protocol_has_a_folder_and_common_sql_names_none() -> None:
    root = resource("queries")
    assert {path.name for path in (root / queries.PROTOCOLS).iterdir()} == FOLDERS
    assert [name for name in PROTOCOLS if not queries.valued_in_sql(name)] == sorted(WITHOUT)
    words = re.compile(
        r"aave|compound.v2|morpho|maker|\b(vat|ilk|urn|dai|pool_revision|emode\w+|lltv)\b", re.IGNORECASE
    )
    common = [path for folder in queries.FOLDERS for path in (root / folder).glob("*.sql")]
    assert len(common) > 80
    named = {path.name: words.findall(path.read_text()) for path in common if words.search(path.read_text())}
    assert named == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The queries with the folder of a protocol that nobody knows: what Maker's says, under another name."""
    copy = tmp_path / "queries"
    shutil.copytree(resource("queries"), copy)
    shutil.copytree(copy / "protocols/maker", copy / "protocols/new_one")
    for path in (copy / "protocols/new_one").iterdir():
        path.write_text(path.read_text().replace("'maker'", "'new-one'").replace("maker_", "new_one_"))
    return copy


def test_a_new_folder_is_found_and_its_rows_are_common_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "resource", lambda name: folder)
    path = tmp_path / "lake"
    write(path, vaults(seed=5), msgspec.structs.replace(VAULTS, name="new", protocol="new-one"))
    lake = write(path, vaults(seed=6), VAULTS)
    rows = lake.sql(
        "SELECT market, count(health_wad) FROM health(NULL, [90]) GROUP BY market ORDER BY market"
    ).fetchall()
    assert [name for name, _ in rows] == ["new", "vaults"]
    assert all(count > 20 for _, count in rows)
    assert ("new-one", 20) in lake.sql("SELECT protocol, revision FROM protocol_rules").fetchall()


def test_a_folder_that_lacks_a_part_or_a_column_is_named(folder: Path) -> None:
    health = folder / "protocols/new_one/health.sql"
    text = health.read_text()
    health.unlink()
    with pytest.raises(LakeError, match=r"queries/protocols/new_one: no health.sql"):
        queries.load(folder, {"aave-v3"})
    health.write_text(text.replace("--   near_one:", "--   nearly:"))
    with pytest.raises(LakeError, match=r"new_one/health.sql: no column 'near_one'"):
        queries.load(folder)


def test_a_lake_plans_only_what_it_has_rows_for() -> None:
    def mentioned(protocols: set[str] | None) -> set[str]:
        (query,) = [query for query in queries.load(protocols=protocols) if query.name == "health"]
        return {name for name in FOLDERS if f"{name}_health(" in query.select}

    assert mentioned({"maker", "a sketch"}) == {"maker"}
    assert mentioned({"a sketch"}) == mentioned(set()) == mentioned(None) == FOLDERS


# -- wide arithmetic ---------------------------------------------------------------------------------------------------


def test_products_beyond_a_hugeint_are_divided_exactly(tmp_path: Path) -> None:
    """Random sizes and the edges of limbs; what is out of range is null, never wrong."""
    rng = random.Random(7)

    def operand(bits: int) -> int:
        edges = [0, 1, (1 << 55) - 1, 1 << 55, (1 << bits) - 1, WAD, RAY]
        return rng.choice(edges) if rng.random() < 0.2 else rng.randrange(1 << rng.randrange(1, bits + 1))

    rows = [(operand(110), operand(110), max(1, operand(113))) for _ in range(4_000)]
    values = ", ".join(f"({n}, {a}::HUGEINT, {b}::HUGEINT, {d}::HUGEINT)" for n, (a, b, d) in enumerate(rows))
    found = (
        Lake(tmp_path / "lake", create=True)
        .sql(
            "SELECT mul_div_down(a, b, d) AS down, mul_div_up(a, b, d) AS up, mul_div_half_up(a, b, d) AS half,"
            f" ray_mul_half_up(a, b) AS ray FROM (VALUES {values}) AS t(n, a, b, d) ORDER BY n"
        )
        .fetchall()
    )
    compared = 0
    for (a, b, d), (down, up, half, ray) in zip(rows, found, strict=True):
        if a * b // d < 1 << 108:
            assert (down, up, half) == (a * b // d, -(-a * b // d), (a * b + d // 2) // d), (a, b, d)
            compared += 1
        elif down is not None:
            assert down == a * b // d
        assert ray == ((a * b + RAY // 2) // RAY if a < 5 * 10**30 and b < 49 * 10**26 else None), (a, b)
    assert compared > 2_000
    out = "SELECT mul_div_down(1::HUGEINT << 111, 1, 1), mul_div_down(1, 1, 0), mul_div_up(5, NULL, 1)"
    assert Lake(tmp_path / "lake").sql(out).fetchall() == [(None, None, None)]


# -- random markets ----------------------------------------------------------------------------------------------------

VAULTS = msgspec.structs.replace(CONFIG, name="vaults", protocol="maker", base_decimals=18)


class Made:
    """Canonical rows, four logs a block of twelve seconds; ``pause`` lets time pass."""

    def __init__(self) -> None:
        self.rows: Rows = defaultdict(list)
        self.seq, self.block, self.time, self.log = -1, 1, 12, -1
        self.rows["blocks"].append({"block_number": 1, "timestamp": 12})

    def pause(self, seconds: int) -> None:
        self.block, self.time, self.log = self.block + 1, self.time + seconds, -1
        self.rows["blocks"].append({"block_number": self.block, "timestamp": self.time})

    def place(self) -> dict[str, int]:
        self.seq, self.log = self.seq + 1, self.log + 1
        return {"seq": self.seq, "block_number": self.block, "log_index": self.log, "timestamp": self.time}

    def add(self, table: str, **columns: Any) -> dict[str, int]:
        place = self.place()
        self.rows[table].append({**place, **columns})
        return place


def people(made: Made, symbols: list[tuple[str, int]], count: int) -> None:
    made.rows["accounts"] = [{"account_id": n, "account": account(n)} for n in range(count)]
    made.rows["assets"] = [
        {"asset_id": n, "asset": account(900 + n), "symbol": symbol, "decimals": decimals}
        for n, (symbol, decimals) in enumerate(symbols)
    ]


def vaults(seed: int) -> Rows:
    """Eighty vaults of one wei to ten million, at steps of accumulator, par, ratio and price."""
    rng, made = random.Random(seed), Made()
    people(made, [("ETH", 18), ("DAI", 18)], 80)
    rate = RAY
    made.add("params", name="liquidation_ratio", value=13 * RAY // 10)
    made.add("indexes", asset_id=1, supply_index=RAY, borrow_index=rate, supply_rate=0, borrow_rate=0)
    made.add("prices", asset_id=1, price=WAD, method="fixed", exact=False)
    for step in range(100):
        made.pause(rng.randrange(1, 10**5))
        if step % 7 == 3:
            rate += rng.randrange(RAY // 100)
            made.add("indexes", asset_id=1, supply_index=RAY, borrow_index=rate, supply_rate=0, borrow_rate=0)
        if step % 5 == 1:
            made.add("prices", asset_id=0, price=rng.randrange(500 * WAD, 5_000 * WAD), method="feed", exact=True)
        if step % 30 == 20:
            made.add("params", name="par", value=RAY + rng.randrange(-(10**24), 10**24))
            made.add("params", name="liquidation_ratio", value=rng.randrange(11 * RAY // 10, 2 * RAY))
        who = {"account_id": rng.randrange(80), "action": "borrow"}
        ink = rng.randrange(1, 10 ** rng.randrange(1, 26))
        for asset, side, delta in ((0, "collateral", ink), (1, "debt", rng.randrange(1, 1_500 * ink + 2))):
            made.add("position_events", **who, asset_id=asset, side=side, delta=delta, action_seq=made.seq)
    return made.rows


def shares(seed: int, curve: bool, loan: int, coins: int) -> tuple[Rows, dict[str, int]]:
    """A market of shares, as its fold writes it: lenders, borrowers, interest by the adaptive curve or as recorded, a
    fee, bad debt, a price with digits below a base unit, pauses of seconds and of years.
    """
    rng, made = random.Random(f"{seed} {curve}"), Made()
    people(made, [("LOAN", loan), ("COIN", coins)], 40)
    digits = 36 + loan - coins - 18
    assets = (Asset(LOAN, account(900), "LOAN", loan), Asset(COLLATERAL, account(901), "COIN", coins))
    state = open_state(Market(name="m", protocol="morpho-blue", chain_id=1, assets=assets, accounts=()))

    def param(name: str, value: int, asset: AssetId | None = None) -> None:
        place = made.add("params", name=name, value=value, asset_id=asset, category=None)
        apply(state, ParamChange(**place, name=name, value=value, asset=asset))

    def index() -> None:
        place = made.place()
        update = index_update(state.totals, place)
        apply(state, update)
        columns = ("supply_index", "borrow_index", "supply_rate", "borrow_rate")
        made.rows["indexes"].append({**place, "asset_id": LOAN, **{name: getattr(update, name) for name in columns}})

    def move(who: int, asset: AssetId, side: Side, delta: int, action: str, amount: int) -> None:
        columns = {"asset_id": asset, "side": side, "delta": delta, "action": action, "amount": amount}
        place = made.add("position_events", account_id=who, action_seq=made.seq, **columns)
        change = PositionChange(
            **place,
            account=AccountId(who),
            asset=asset,
            side=side,
            delta=delta,
            action=action,
            action_seq=place["seq"],
            amount=amount,
        )
        apply(state, change)

    def accrue() -> None:
        totals = state.totals
        if made.time == totals.updated:
            return
        if curve:
            rate, end = totals.rates(made.time)
            assert end is not None
            param("rate_at_target", end, LOAN)
        else:
            rate = totals.rate
        before = totals.supply_shares
        param("accrued", rate, LOAN)
        if totals.supply_shares > before:
            move(0, LOAN, "collateral", totals.supply_shares - before, "treasury", 0)
        if not curve:
            totals.rate = rng.randrange(1, 10**11)
        index()

    param("pool_revision", 1)
    param("share_decimals", 6, LOAN)
    param("liquidation_threshold", rng.choice([86, 915, 945]) * WAD // rng.choice([1_000]), COLLATERAL)
    param("fee_recipient", 0)
    param("fee", WAD // 10, LOAN)
    if curve:
        param("rate_at_target", rng.choice([INITIAL_RATE_AT_TARGET, MIN_RATE_AT_TARGET, MAX_RATE_AT_TARGET]), LOAN)
    param("created", 1)
    index()
    made.add("prices", asset_id=LOAN, price=WAD, price_rest=0, method="fixed", exact=True)
    worth = rng.randrange(10**3, 10**8)
    for step in range(60):
        made.pause(YEAR if step == 40 else rng.choice([1, 12, 4_000, 200_000]))
        if step % 4 == 0:
            price, rest = worth * WAD // 1_000 + rng.randrange(WAD // 1_000), rng.randrange(10**digits)
            made.add("prices", asset_id=COLLATERAL, price=price, price_rest=rest, method="feed", exact=True)
        who, totals = rng.randrange(1, 40), state.totals
        accrue()
        if step % 3 == 0 or totals.supply_assets < 10**loan:
            amount = rng.randrange(1, 10 ** (loan + rng.randrange(1, 7)))
            bought = amount * (totals.supply_shares + 10**6) // (totals.supply_assets + 1)
            move(who, LOAN, "collateral", bought, "supply", amount)
            index()
        elif step % 17 == 16 and totals.borrow_shares:
            owner = max(state.positions, key=lambda n: state.positions[n].borrow_shares)
            lost_shares = state.positions[owner].borrow_shares
            lost = min(totals.borrow_assets, totals.debt_up(lost_shares))
            move(owner, LOAN, "debt", -lost_shares, "liquidation", lost)
            place = made.place()
            setting = {"account_id": owner, "setting": "bad_debt", "asset_id": LOAN, "value": lost}
            made.rows["setting_events"].append(
                {**place, **setting, "action": "liquidation", "action_seq": place["seq"]}
            )
            totals.supply_assets -= lost
            index()
        else:
            room = totals.supply_assets - totals.borrow_assets
            amount = rng.randrange(1, max(2, room))
            owed = -(-amount * (totals.borrow_shares + 10**6) // (totals.borrow_assets + 1))
            coin = amount * 10**coins * 1_000 // (worth * 10**loan) + 1
            move(who, COLLATERAL, "collateral", coin * rng.randrange(90, 160) // 100 + 1, "supply", coin)
            move(who, LOAN, "debt", owed, "borrow", amount)
            index()
    made.pause(rng.choice([5_000, YEAR]))
    return made.rows, {"base_decimals": 18, "price_decimals": 18 + digits}


MARKETS = [
    (seed, curve, loan, coins) for seed in (1, 2) for curve in (True, False) for loan, coins in ((6, 18), (18, 8))
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Maker and Morpho Blue side by side."""
    path = tmp_path_factory.mktemp("all") / "lake"
    for seed in (1, 2):
        write(path, vaults(seed), msgspec.structs.replace(VAULTS, name=f"vaults-{seed}"))
    for number, made in enumerate(MARKETS):
        rows, decimals = shares(*made)
        write(path, rows, msgspec.structs.replace(CONFIG, name=f"shares-{number}", protocol="morpho-blue", **decimals))
    return Lake(path)


@pytest.mark.parametrize("name", ["vaults-1", "vaults-2", *(f"shares-{n}" for n in range(len(MARKETS)))])
def test_sql_is_the_engine_for_random_markets(lake: Lake, name: str) -> None:
    compared = assert_sql_is_the_engine(lake, name, spread(lake, name, 25))
    assert compared.owing > 40
    assert compared.unsafe > 0


def test_as_of_a_block_and_a_time_for_every_protocol(lake: Lake) -> None:
    """Thresholds and bonuses in one unit, and the state at a time is that of the last block before it."""
    rows = lake.sql(
        "SELECT market, liquidation_threshold_wad, liquidation_bonus_wad FROM reserves_at([2]) WHERE symbol IN ('ETH',"
        " 'COIN') ORDER BY market"
    ).fetchall()
    assert len(rows) == 2 + len(MARKETS)
    assert {row[1] for row in rows if row[0].startswith("vaults")} == {WAD * RAY // (13 * RAY // 10)}
    assert all(WAD < bonus <= 115 * WAD // 100 for name, _, bonus in rows if name.startswith("shares"))
    for name in ("vaults-1", "shares-0"):
        block, time = lake.sql(
            f"SELECT block_number, timestamp FROM blocks WHERE market = '{name}' ORDER BY 1 LIMIT 1 OFFSET 40"
        ).fetchall()[0]
        for moment in (f"make_timestamp({time * 1_000_000})", f"make_timestamp({time * 1_000_000 + 999_999})"):
            at = f"(SELECT block_number FROM block_at({moment}) WHERE market = '{name}')"
            for call in ("reserves_at([{}])", "holdings(NULL, [{}])", "health(NULL, [{}])", "balances_at({})"):
                one, other = (
                    lake.sql(f"SELECT * FROM {call.format(at)} WHERE market = '{name}' ORDER BY ALL").fetchall()
                    for at in (at, block)
                )
                assert one == other
                assert one
    assert lake.sql("SELECT count(*) FROM block_at('1970-01-01')").fetchall() == [(0,)]
