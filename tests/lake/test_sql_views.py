"""The queries: headers that are true, results worked out by hand from tiny tables, and checks that can fail."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest import result_tables, tables
from backtest.errors import LakeError
from backtest.lake import Lake, checks, queries, sandbox
from backtest.lake.sql import _names
from tests.support.lake_tables import CONFIG, MARKET, RAY, account, supplies, table, write
from tests.support.sql_book import book

QUERIES = {query.name: query for query in queries.load()}
ARGUMENTS = {
    "at_block": "5",
    "blocks": "[5]",
    "accounts": "NULL",
    "k": "3",
    "at_time": "'2020-03-12'",
    "of_protocol": "'aave-v3'",
}
CONSTANT = {
    "aave_v2_rules",
    "aave_v3_rules", "compound_v2_rules", "compound_v3_rules", "euler_v2_rules", "fraxlend_rules", "gearbox_v3_rules",
    "geb_rules", "liquity_v1_rules", "liquity_v2_rules", "morpho_blue_rules", "maker_rules", "protocol_rules",
    "silo_v2_rules", "student_t",
}  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("empty") / "lake", create=True)


# -- headers
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_header_says_what_each_query_is(empty: Lake, name: str) -> None:
    """Purpose and grain in words; every column of the result is described, in order, and no other."""
    query = QUERIES[name]
    assert len(query.purpose) > 10
    assert query.grain
    if query.scalar:
        arguments = ", ".join(["5::HUGEINT"] * len(query.parameters))
        relation = empty.sql(f"SELECT typeof({name}({arguments})) AS kind")
        assert query.grain.startswith(relation.fetchall()[0][0])
        return
    if query.folder == "checks":
        relation = empty.session().cursor(query.select).sql(query.select)
    else:
        call = (
            f"{name}({', '.join(ARGUMENTS[parameter] for parameter in query.parameters)})" if query.parameters else name
        )
        relation = empty.sql(f"SELECT * FROM {call}")
    assert relation.columns == list(query.columns)
    assert relation.fetchall() == [] or name in CONSTANT


def test_a_header_that_lacks_something_is_refused() -> None:
    with pytest.raises(LakeError, match="has no 'Grain:'"):
        queries.parse("x", "marts", "-- Purpose: x\n-- Columns:\n--   a: one\nSELECT 1 AS a")
    with pytest.raises(LakeError, match="has no 'Parameters:'"):
        queries.parse("x", "macros", "-- Purpose: x\n-- Grain: y\n-- Columns:\n--   a: one\nSELECT 1 AS a")


def test_queries_are_ordered_by_what_they_mention(tmp_path: Path) -> None:
    for name, text in {"a": "FROM b", "b": "FROM c", "c": "SELECT 1 AS n"}.items():
        (tmp_path / "marts").mkdir(exist_ok=True)
        (tmp_path / f"marts/{name}.sql").write_text(f"-- Purpose: p\n-- Grain: g\n-- Columns:\n--   n: one\n{text}")
    assert [query.name for query in queries.load(tmp_path)] == ["c", "b", "a"]
    (tmp_path / "marts/c.sql").write_text("-- Purpose: p\n-- Grain: g\n-- Columns:\n--   n: one\nFROM a")
    with pytest.raises(LakeError, match="in a circle"):
        queries.load(tmp_path)


# -- by hand
# ---------------------------------------------------------------------------------------------------------------


def test_what_queries_read_stands_after_from_or_join(empty: Lake) -> None:
    """A session makes what a query names before it asks; by the words of a shipped one, by the tree of a user's."""
    session = empty.session()
    for query in QUERIES.values():
        parsed = sandbox.check(
            session.connection, f"SELECT {query.select}" if query.scalar else query.select, session.macros
        )
        read, called = _names(query.statement)
        assert parsed.tables & QUERIES.keys() <= read, query.name
        assert parsed.functions & QUERIES.keys() <= called, query.name


@pytest.mark.parametrize(
    "text",
    [
        "FROM bad_debt",
        'SELECT * FROM (TABLE main."Bad_Debt")',
        "EXPLAIN SELECT * FROM runs, bad_debt",
        "DESCRIBE bad_debt",
        "SELECT (SELECT count(*) FROM bad_debt)",
        "SELECT mul_div_up(7, 2, 3)",
        "SELECT count(*) FROM positions_at(NULL, '2020-03-12')",
    ],
)
def test_what_a_statement_names_is_made_however_it_names_it(tmp_path: Path, text: str) -> None:
    answer = Lake(tmp_path, create=True).sql(text)
    assert answer.columns


def test_a_column_with_the_name_of_a_view_makes_none(tmp_path: Path) -> None:
    session = Lake(tmp_path, create=True).session()
    before = len(session._waiting)
    session.sql("WITH own AS (SELECT 1 AS bad_debt, 2 AS positions) SELECT bad_debt, positions FROM own")
    assert len(session._waiting) == before


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return write(tmp_path_factory.mktemp("book") / "lake", book())


def test_balances_at_a_block(lake: Lake) -> None:
    """Scaled balances are sums; native ones grow with the index from the last time it was stored.

    Block 5 is a year after block 2. WETH collateral at 5 % simple: 1.05. USDC debt at 10 % by 3.6's polynomial, x =
    0.1: 1 + x + x (x/2 + x (x/6)) = 1.1051666..., times the stored 1.25: 720 scaled are 994.65 USDC.
    """
    rows = lake.sql("SELECT account_id, symbol, collateral_scaled, debt_scaled FROM balances_at(1)").fetchall()
    assert rows == [(0, "WETH", Decimal(10 * 10**18), Decimal(0))]
    rows = lake.sql(
        "SELECT account_id, symbol, collateral_scaled, debt_scaled, collateral, debt, collateral_usd, debt_usd FROM"
        " balances_at(5) ORDER BY ALL"
    )
    alice, bob_debt, bob = rows.fetchall()
    assert alice == (
        0,
        "WETH",
        Decimal(6 * 10**18),
        Decimal(0),
        pytest.approx(6.3e18),
        0.0,
        pytest.approx(6_300.0),
        0.0,
    )
    assert bob_debt[:4] == (1, "USDC", Decimal(0), Decimal(720 * 10**6))
    assert bob_debt[5] == pytest.approx(720e6 * 1.25 * (1 + 0.1 + 0.1 * (0.05 + 0.1 * 0.1 / 6)))
    assert bob_debt[7] == pytest.approx(994.65)
    assert bob[:4] == (1, "WETH", Decimal(1_947_500_000_000_000_000), Decimal(0))


def test_scaled_balances_need_no_header_but_native_ones_do(lake: Lake) -> None:
    assert lake.sql(
        "SELECT DISTINCT collateral_scaled IS NULL, collateral IS NULL, debt_usd IS NULL FROM balances_at(6)"
    ).fetchall() == [(False, True, True)]


def test_health_by_hand(lake: Lake) -> None:
    """Block 2, Bob: 2 WETH at 2000, threshold 80 %: 3200 against a debt of 1000: 3.2.

    Block 5: 1.9475 WETH with 5 % interest is 2.044875 at 1000, threshold 82.5 %: 1687.021875 against 994.65 (rounded up
    to a millionth of a dollar and then to a base unit): 1.6961. Alice has no debt, and no flag, so nothing counts.
    """
    columns = "block_number, account, collateral_base, debt_base, health, missing, prices_exact"
    rows = lake.sql(f"SELECT {columns} FROM health(['{account(0xB0B)}'], [2, 5]) ORDER BY 1")
    two, five = rows.fetchall()
    assert two == (2, account(0xB0B), Decimal(4_000 * 10**8), Decimal(1_000 * 10**8), 3.2, None, True)
    assert five[2] == Decimal(204_487_500_000)
    assert five[3] in (Decimal(99_465_000_000), Decimal(99_465_000_100))
    assert five[4] == pytest.approx(1687.021875 / 994.65, rel=1e-8)
    assert lake.sql(
        f"SELECT collateral_base, debt_base, health, missing FROM health(['{account(0xA11CE)}'], [5])"
    ).fetchall() == [(Decimal(0), Decimal(0), None, "no debt")]


def test_prices_between_blocks_that_are_not_exact_are_said_to_be(lake: Lake) -> None:
    assert lake.sql(
        "SELECT block_number, prices_exact FROM health(NULL, [2, 3, 4]) WHERE account_id = 1 ORDER BY 1"
    ).fetchall() == [
        (2, True),
        (3, False),
        (4, True),
    ]


def test_prices_and_parameters_as_they_stand(lake: Lake) -> None:
    assert lake.sql(
        "SELECT symbol, price, price_usd, exact, since_block FROM price_at(3) ORDER BY symbol"
    ).fetchall() == [
        ("USDC", Decimal(10**8), 1.0, True, 1),
        ("WETH", Decimal(1_500 * 10**8), 1_500.0, False, 3),
    ]
    query = "SELECT symbol, name, value, since_block FROM params_at({}) ORDER BY name"
    assert lake.sql(query.format(2)).fetchall() == [
        ("WETH", "liquidation_threshold", 8_000, 1),
        (None, "pool_revision", 10, 1),
    ]
    assert lake.sql(query.format(3)).fetchall() == [
        ("WETH", "liquidation_threshold", 8_250, 3),
        (None, "pool_revision", 10, 1),
    ]
    assert lake.sql(query.format(0)).fetchall() == []


def test_liquidations_have_names_and_the_price_just_before(lake: Lake) -> None:
    """The WETH price of 1000 came in the same block, one log earlier: 0.0525 WETH are 52.5."""
    row = lake.sql(
        "SELECT account, liquidator, debt_symbol, collateral_symbol, repaid, seized, repaid_usd, seized_usd FROM"
        " liquidations"
    ).fetchall()
    assert row == [
        (
            account(0xB0B),
            account(0xA11CE),
            "USDC",
            "WETH",
            Decimal(100 * 10**6),
            Decimal(525 * 10**14),
            pytest.approx(100.0),
            pytest.approx(52.5),
        ),
    ]
    # 1600000300 s are 2020-09-13 12:31:40 UTC.
    days = lake.sql(
        "SELECT CAST(day AS VARCHAR), debt_symbol, collateral_symbol, liquidations, accounts, unpriced FROM"
        " liquidations_by_day"
    ).fetchall()
    assert days == [("2020-09-13", "USDC", "WETH", 1, 1, 0)]


def test_near_liquidation_is_about_the_last_block(tmp_path: Path) -> None:
    data = book()
    data["prices"].append({**data["prices"][-1], "seq": 10, "log_index": 5, "price": 600 * 10**8})
    # 2.044875 WETH at 600, 82.5 %: 1012.213125 against 994.65: 1.0177.
    rows = (
        write(tmp_path / "lake", data)
        .sql("SELECT account_id, block_number, round(health, 4), near_one FROM near_liquidation")
        .fetchall()
    )
    assert rows == [(1, 5, 1.0177, False)]
    assert write(tmp_path / "other", book()).sql("FROM near_liquidation").fetchall() == []


def test_runs_are_summed(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake", create=True)

    def row(name: str, **values: Any) -> pa.Table:
        """One row of a result table: zeros, empty text and false but for ``values``."""
        schema = result_tables.RESULTS[name]
        blank: dict[pa.DataType, Any] = {pa.string(): "", pa.bool_(): False}
        return table(schema, [{field.name: blank.get(field.type, 0) for field in schema} | {"market": MARKET} | values])

    with lake.writer() as writer:
        writer.set_market(CONFIG)
        writer.append_all(MARKET, {"results/runs": row("runs", run_id="a", liquidations=2)})
        writer.append_all(MARKET, {"results/runs": row("runs", run_id="b")})
        for ordinal in range(2):
            writer.append(
                MARKET,
                "results/run_liquidations",
                row("run_liquidations", run_id="a", ordinal=ordinal, repaid_base=10 + ordinal, seized_base=20),
            )
        writer.append(MARKET, "results/run_deficits", row("run_deficits", run_id="a", amount_base=9))
    rows = lake.sql(
        "SELECT run_id, liquidations, repaid_base, seized_base, deficit_base, bad_debt_base FROM run_summary ORDER BY"
        " run_id"
    ).fetchall()
    assert rows == [("a", 2, 21, 40, 9, None), ("b", 0, 0, 0, 0, None)]


def test_raw_events_and_quarantine_carry_their_market(tmp_path: Path) -> None:
    bad = {
        "block_number": 4,
        "transaction_index": 0,
        "log_index": 0,
        "transaction_hash": bytes(32),
        "address": bytes(20),
        "event": "Mint",
    }
    lake = Lake(tmp_path / "lake", create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        rows = table(
            tables.QUARANTINE,
            [{**bad, "reason": "too long", "topics": [], "data": b"", "log_index": n} for n in range(3)],
        )
        writer.commit(
            MARKET,
            {"raw/aave-v3/Supply": supplies([2]), "raw/aave-v3/Quarantine": rows},
            from_block=1,
            to_block=5,
            covers={"pool": (1, 5)},
        )
    assert lake.sql("SELECT * FROM quarantine").fetchall() == [(MARKET, "Mint", "too long", 3, 4, 4)]
    assert lake.sql("SELECT market, block_number, amount FROM raw.aave_v3_Supply").fetchall() == [
        (MARKET, 2, Decimal(7))
    ]
    assert lake.sql("FROM coverage").fetchall() == [(MARKET, "pool", 1, 5)]
    assert lake.sql("SELECT market, protocol, chain_id FROM markets").fetchall() == [(MARKET, "aave-v3", 31337)]


# -- checks
# ----------------------------------------------------------------------------------------------------------------


def test_a_sound_lake_passes_every_check(lake: Lake) -> None:
    found = list(checks.run(lake))
    assert [finding for finding in found if not finding.passed] == []
    assert {finding.check for finding in found} == {"files", "content", "coverage"} | {
        q.name for q in QUERIES.values() if q.folder == "checks"
    }


BROKEN: dict[str, tuple[str, int, dict[str, Any]]] = {
    "events__sequence": ("events", 5, {"log_index": 0}),
    "events__blocks_known": ("events", 5, {"timestamp": 1_600_000_101}),
    "balances__not_negative": ("position_events", 3, {"delta": -11 * 10**18}),
    "events__known_ids": ("position_events", 0, {"asset_id": 7}),
    "settings__sensible": ("setting_events", 0, {"value": 2}),
    "indexes__never_fall": ("indexes", 0, {"supply_index": RAY - 1}),
    "prices__positive": ("prices", 2, {"price": 0}),
    "prices__present": ("prices", 0, {"asset_id": 1}),
    "params__known_revisions": ("params", 0, {"value": 99}),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", sorted(BROKEN))
def test_checks_find_what_is_wrong(check: str, tmp_path: Path) -> None:
    name, row, change = BROKEN[check]
    data = copy.deepcopy(book())
    data[name][row].update(change)
    found = {finding.check: finding for finding in checks.run(write(tmp_path / "lake", data))}
    assert (found[check].violations or 0) >= 1
    assert found[check].examples[0]


def test_checks_of_totals_deficits_and_quarantine(tmp_path: Path) -> None:
    data = copy.deepcopy(book())
    data["position_events"][0]["delta"] = -(10**25)
    lost = {**data["liquidations"][0], "asset_id": 1, "amount": 5, "kind": "created", "liquidation_seq": 3}
    data["deficits"] = [lost, {**lost, "liquidation_seq": 10}, {**lost, "kind": "covered", "liquidation_seq": None}]
    lake = write(tmp_path / "lake", data)
    found = {finding.check: finding.violations for finding in checks.run(lake)}
    assert found["balances__totals_not_negative"] == 1
    assert found["deficits__name_liquidations"] == 1


def test_checks_of_files_see_bytes_rows_and_absence(tmp_path: Path) -> None:
    lake = write(tmp_path / "lake", book())
    with lake.writer() as writer:
        writer.commit(MARKET, {"raw/aave-v3/Supply": supplies([2])}, from_block=1, to_block=5)
    (raw,) = lake.files("raw/aave-v3/Supply")
    (blocks,) = lake.files("canonical/blocks")
    (prices,) = lake.files("canonical/prices")
    path = Path(raw.path)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    Path(prices.path).unlink()
    found = {finding.check: finding for finding in checks.run(lake)}
    assert found["files"].violations == 2
    assert "No such file" in found["files"].examples[0]
    assert found["content"].violations == 1
    assert found["prices__positive"].violations is None  # with a file missing no query runs, and that is not a pass
    assert not found["prices__positive"].passed
    assert blocks.path not in "".join(found["files"].examples)
