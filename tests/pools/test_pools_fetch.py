"""A market with pools, from a local node to a replay: history before the market's first block, state and prices against
the chain, decisions.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from msgspec import structs

from backtest.cli import main
from backtest.errors import FetchError, UserError
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake, checks
from backtest.markets import PoolConfig
from backtest.model import MarketPrice, PoolChange, PriceUpdate
from backtest.pools.uniswap_v3 import PoolState, swap
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.book import Book
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline, run
from backtest.scenario import Competitive, Costs, Scenario, Slippage
from tests.chain import morpho
from tests.chain.node import Node
from tests.chain.pools import ChainPool, deploy_exchange
from tests.support.pooled_market import NAME, Played, around, played, tick_of

__all__ = ["played"]  # a fixture


@pytest.fixture(scope="module")
def lake(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The market first without its pools, then with them."""
    made = Lake(tmp_path_factory.mktemp("pooled") / "lake", create=True)
    bare = played.deployment.market_config(NAME)
    with Rpc(played.deployment.node.url, workers=4) as rpc:
        fetch(made, bare, rpc, to_block=played.last - 10, finality=0)
        fetch(made, played.config, rpc, to_block=played.last, finality=0)
        assert made.market_config(NAME).pools == played.config.pools
        digest = made.digest(NAME)
        again = fetch(made, bare, rpc, to_block=played.last, finality=0)
        assert again.rows == {}
        assert made.digest(NAME) == digest
        assert made.market_config(NAME).pools == played.config.pools  # a description that names none takes none away
    made.refresh()
    summary = reconstruct(made, NAME)
    assert any(
        note.startswith("swaps of pools made again:") and note.endswith("all as the rules say")
        for note in summary.notes
    ), summary.notes
    made.refresh()
    return made


def book_at(lake: Lake, block: int) -> Book:
    market, timeline = load_market(lake, NAME), load_timeline(lake, NAME)
    book = Book.open(AAVE_V3, market)
    for transaction in timeline.transactions(block):
        for event in transaction:
            if isinstance(event, PriceUpdate | MarketPrice | PoolChange):
                book.apply(event)
    return book


def test_pools_are_where_the_chain_has_them(played: Played, lake: Lake) -> None:
    for block in [played.deployment.start_block, *played.samples, played.last]:
        book = book_at(lake, block)
        for number, pool in enumerate((played.weth, played.wbtc, played.mid)):
            if pool.created >= block:
                assert number not in book.pools
                continue
            state = book.pools[number]
            assert (state.sqrt_price, state.tick, state.liquidity) == pool.read(block)
    latest = book_at(lake, played.last).pools
    for number, pool in enumerate((played.weth, played.wbtc, played.mid)):
        held: PoolState = latest[number]
        assert {tick: (held.gross[tick], held.net[tick]) for tick in held.ticks} == pool.ticks(held.ticks)
        assert set(held.ticks) == {edge for place, amount in pool.positions.items() if amount for edge in place}


def worth(pool: ChainPool, block: int, base: str, decimals: tuple[int, int], quote: float) -> float:
    """What a whole base token is worth by the pool, its other token being worth ``quote``."""
    raw = (pool.read(block)[0] / 2**96) ** 2
    raw = raw if pool.contract.call("token0").lower() == base else 1 / raw
    return raw * 10.0 ** (decimals[0] - decimals[1]) * quote


def test_market_prices_are_mid_prices_in_base_currency(played: Played, lake: Lake) -> None:
    tokens = {symbol: reserve.asset.address.lower() for symbol, reserve in played.deployment.reserves.items()}
    (mid,) = {played.mid.contract.call(f"token{side}").lower() for side in (0, 1)} - {tokens["USDC"]}
    for block in [*played.samples, played.last]:
        book = book_at(lake, block)
        usdc = played.deployment.prices(block)["USDC"]
        symbols = {asset.symbol: asset.id for asset in book.market.assets}
        weth = worth(played.weth, block, tokens["WETH"], (18, 6), usdc)
        wbtc = worth(played.wbtc, block, tokens["WBTC"], (8, 12), worth(played.mid, block, mid, (12, 6), usdc))
        assert book.traded == {
            symbols["WETH"]: pytest.approx(weth, rel=1e-9),
            symbols["WBTC"]: pytest.approx(wbtc, rel=1e-9),
        }
        assert (
            book.prices.market[symbols["WETH"]]
            == book.traded[symbols["WETH"]]
            == book.prices.execution[symbols["WETH"]]
        )
        assert book.prices.market[symbols["USDC"]] == book.oracle[symbols["USDC"]] == usdc


def test_a_sale_brings_what_the_contracts_pay(played: Played, lake: Lake) -> None:
    book = book_at(lake, played.last)
    symbols = {asset.symbol: asset.id for asset in book.market.assets}
    usdc, price = played.deployment.reserves["USDC"].asset.address.lower(), book.oracle[symbols["USDC"]]
    for amount in (10**15, 10**18, 40 * 10**18, 10**24):
        down = played.weth.contract.call("token1").lower() == usdc
        (theirs,) = played.weth.probes([(down, amount, None)])
        sale = book.sale_down(symbols["WETH"], amount)
        assert theirs is not None
        assert sale is not None
        assert (sale.sold, sale.proceeds) == (theirs.amount_in, theirs.amount_out * price // 10**6)
    (first,) = played.wbtc.probes(
        [(played.wbtc.contract.call("token0") == played.deployment.reserves["WBTC"].asset.address, 10**6, None)]
    )
    assert first is not None
    (second,) = played.mid.probes([(played.mid.contract.call("token1").lower() == usdc, first.amount_out, None)])
    assert second is not None
    sale = book.sale_down(symbols["WBTC"], 10**6)
    assert sale is not None
    assert (sale.sold, sale.proceeds) == (first.amount_in, second.amount_out * price // 10**6)
    assert book.sale_down(symbols["WETH"], 0) == type(sale)(0, 0)
    assert book.sale_down(symbols["DAI"], 10**18) is None


def test_depth_in_sql_is_that_of_the_rules(played: Played, lake: Lake) -> None:
    state, fixed = book_at(lake, played.last).pools, load_market(lake, NAME).pools
    rows = lake.sql(
        f"SELECT pool_id, fall, price, sold, received, slippage FROM pool_depth_at({played.last}) ORDER BY pool_id,"
        " fall"
    ).fetchall()
    assert [row[:2] for row in rows] == [(pool, fall) for pool in range(3) for fall in (0.01, 0.02, 0.05, 0.1)]
    for number, fall, price, sold, received, slippage in rows:
        pool, down = fixed[number], fixed[number].quote == 1
        root = state[number].sqrt_price
        done = swap(
            state[number], down, 2**200, round(root * math.sqrt(1 - fall) if down else root / math.sqrt(1 - fall))
        )
        units = 10.0 ** pool.decimals[1 - pool.quote], 10.0 ** pool.decimals[pool.quote]
        assert sold == pytest.approx(done.amount_in / units[0], rel=1e-5)
        assert received == pytest.approx(done.amount_out / units[1], rel=1e-5)
        raw = (root / 2**96) ** (2 if down else -2)
        assert price == pytest.approx(raw * units[0] / units[1], rel=1e-9)
        assert slippage == pytest.approx(1 - received / sold / price)
        assert pool.fee / 1e6 < slippage < fall + pool.fee / 1e6
    assert lake.sql(f"SELECT count(*) FROM pool_depth_at({played.deployment.start_block})").fetchall() == [(4,)]


def test_liquidators_wait_for_the_market_price(played: Played, lake: Lake) -> None:
    """The oracle makes the borrower liquidatable while the pool pays less than the bonus covers; a swap back makes it
    pay, without any update.
    """
    stored = run(lake, NAME, Scenario(name="c", liquidators=Competitive()))
    (row,) = stored.tables["run_liquidations"].slice(0, 1).to_pylist()
    assert row["block_number"] == played.dear > played.fell
    assert row["profit_base"] > 0
    text = " ".join(stored.notes)
    assert f"WETH (uniswap-v3 {played.weth.contract.address.lower()})" in text
    assert "The market price of USDC, DAI, wstETH, LINK is the oracle's." in text
    assert re.search(
        r"WBTC: no pool told a market price in \d+\.\d% of the window; the oracle's stands in\.", text
    )  # its pools came later
    plain, screened = (
        replay(
            AAVE_V3,
            load_market(lake, NAME),
            load_timeline(lake, NAME),
            Scenario(liquidators=Competitive()),
            screened=flag,
        )
        for flag in (False, True)
    )
    assert plain.liquidations == screened.liquidations
    late = Scenario(liquidators=Competitive(), from_block=played.fell)
    short = replay(AAVE_V3, load_market(lake, NAME), load_timeline(lake, NAME), late)  # its past condensed
    assert [(r.clock, r.profit_base) for r in short.liquidations] == [
        (r.clock, r.profit_base) for r in plain.liquidations
    ]
    only = Scenario(liquidators=Competitive(looks="price-update"))
    assert not replay(AAVE_V3, load_market(lake, NAME), load_timeline(lake, NAME), only).liquidations


def test_the_lake_keeps_its_invariants(played: Played, lake: Lake) -> None:
    assert [finding.check for finding in checks.run(lake) if not finding.passed] == []
    timeline = load_timeline(lake, NAME)
    assert timeline.first_block == played.deployment.start_block > played.weth.created


def test_the_command(played: Played, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a market file with pools to tables that agree with the chain, at once."""
    config = played.config
    lines = [
        f'name = "{NAME}"',
        'protocol = "aave-v3"',
        f"chain_id = {config.chain_id}",
        f"start_block = {config.start_block}",
        "[contracts]",
    ]
    lines += [f'{role} = "{address}"' for role, address in config.contracts.items()]
    for pool in config.pools:
        lines += ["[[pools]]", f'address = "{pool.address}"', f'prices = "{pool.prices}"']
        lines += [f"start_block = {pool.start_block}"] if pool.start_block else []
    (tmp_path / "market.toml").write_text("\n".join(lines))
    words = [
        "fetch",
        "aave-v3",
        "--market",
        str(tmp_path / "market.toml"),
        "--rpc",
        played.deployment.node.url,
        "--finality",
        "0",
        "--verify",
    ]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--to-block", str(played.last), "--lake", str(tmp_path / "lake")])
    told = capsys.readouterr().out
    assert caught.value.code == 0
    assert "uniswap-v3 logs" in told
    assert "all agree" in told
    made = Lake(tmp_path / "lake")
    tables = ("pools", "pool_events", "market_prices", "prices", "events", "blocks")
    assert all(made.read(f"canonical/{name}", NAME).equals(lake.read(f"canonical/{name}", NAME)) for name in tables)


def test_prices_of_a_market_with_more_digits(anvil: Node, tmp_path: Path) -> None:
    """Morpho Blue: the base currency is the loan token, and prices have more decimals than base units."""
    market = morpho.deploy(anvil)
    pair = market.pairs["weth-usdc"]
    exchange = deploy_exchange(anvil, pair.loan, pair.collateral)
    pool = exchange.pool(pair.collateral, pair.loan, 500, tick_of(pair.collateral, pair.loan, 1_987.0, (18, 6)))
    around(pool, 300, 10**20)
    config = structs.replace(
        market.market_config("weth-usdc"),
        pools=(PoolConfig(address=pool.contract.address, prices=pair.collateral.address, start_block=pool.created),),
    )
    lake = Lake(tmp_path / "lake", create=True)
    with Rpc(anvil.url, workers=4) as rpc:
        fetch(lake, config, rpc, finality=0)
    lake.refresh()
    reconstruct(lake, config.name)
    lake.refresh()
    fixed, timeline = load_market(lake, config.name), load_timeline(lake, config.name)
    book = Book.open(MORPHO_BLUE, fixed)
    for transaction in timeline.transactions():
        for event in transaction:
            if isinstance(event, PriceUpdate | MarketPrice | PoolChange):
                book.apply(event)
    collateral = next(asset.id for asset in fixed.assets if asset.asset == pair.collateral.address.lower())
    assert set(book.traded) == {collateral}
    assert book.traded[collateral] == pytest.approx(
        worth(pool, anvil.block_number, pair.collateral.address.lower(), (18, 6), 1.0) * 10**24, rel=1e-9
    )
    assert book.traded[collateral] == pytest.approx(book.oracle[collateral], rel=0.01)  # the oracle says 2000
    sale = book.sale_down(collateral, 10**18)
    assert sale is not None
    assert sale.proceeds == pytest.approx(1_987 * 10**18, rel=0.01)


def test_slippage_is_what_the_pool_would_have_taken(played: Played, lake: Lake) -> None:
    """Selling into the pool: the first liquidation earns what the contract pays at the block's end for the collateral,
    less the debt.
    """
    scenario = Scenario(liquidators=Competitive(), costs=Costs(slippage=(Slippage(model="pools"),)))
    stored = run(lake, NAME, scenario)
    row = stored.tables["run_liquidations"].to_pylist()[0]
    book = book_at(lake, row["block_number"])
    symbols = {asset.symbol: asset.id for asset in book.market.assets}
    sale = book.sale_down(symbols["WETH"], int(row["seized"]))
    assert sale is not None
    assert row["profit_base"] == sale.proceeds - book.cost_up(symbols["USDC"], int(row["repaid"])) > 0
    assert sale.proceeds < book.proceeds_down(symbols["WETH"], int(row["seized"]))
    assert any(note.startswith("Slippage of every other asset: pools") for note in stored.notes)


def test_the_chain_agrees(played: Played, lake: Lake) -> None:
    with Rpc(played.deployment.node.url, workers=4) as rpc:
        report = verify(lake, NAME, rpc)
    assert report.mismatches == []
    assert {"price", "tick", "active liquidity", "gross liquidity", "net liquidity"} <= set(report.compared)


def test_what_is_wrong_with_a_pool_is_said(played: Played, lake: Lake) -> None:
    node = played.deployment.node

    def tried(*pools: PoolConfig) -> None:
        with Rpc(node.url, workers=4) as rpc:
            fetch(
                lake,
                structs.replace(played.deployment.market_config(NAME), pools=pools),
                rpc,
                to_block=played.last,
                finality=0,
            )

    before = lake.digest(NAME)
    with pytest.raises(FetchError, match="is no pool of Uniswap v3"):
        tried(PoolConfig(address=played.deployment.pool.address, prices="WETH"))
    with pytest.raises(UserError, match=r"trades .* prices = 'DAI' names neither"):
        tried(PoolConfig(address=played.weth.contract.address, prices="DAI"))
    with pytest.raises(UserError, match="is not the only one that prices"):
        tried(
            PoolConfig(address=played.weth.contract.address, prices="USDC"),
            PoolConfig(address=played.mid.contract.address, prices="USDC"),
        )
    assert (lake.digest(NAME), lake.market_config(NAME).pools) == (before, played.config.pools)
