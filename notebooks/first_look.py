# %% [markdown]
# # A first look at a lake
#
# Run `backtest demo` first: this reads its lake in `backtest-demo/lake`. Cells are separated by `# %%`; editors such as
# VS Code, PyCharm and Jupyter (with jupytext) open the file as a notebook, and `python notebooks/first_look.py` runs it
# as a program.

# %%
import altair as alt

from backtest import Competitive, Lake, Override, Scenario, run

lake = Lake("backtest-demo/lake")
market = lake.sql("SELECT market FROM liquidations LIMIT 1").fetchall()[0][0]
lake.sql("SELECT name, liquidations, repaid_base, deficit_base FROM run_summary ORDER BY name").df()

# %% [markdown]
# Which accounts are close to liquidation when the price is lowest? State is asked for at the end of a block.

# %%
lowest = lake.sql(
    f"SELECT arg_min(block_number, price) FROM prices JOIN assets USING (market, asset_id) WHERE market = '{market}'"
    " AND symbol = 'WETH'"
).fetchall()[0][0]
close = lake.sql(
    f"SELECT account, health, debt_base / 1e8 AS debt_usd FROM health(NULL, [{lowest}]) WHERE market = '{market}' AND"
    " health < 1.1"
)
print(len(close.df()), "accounts below 1.1 at block", lowest)

# %% [markdown]
# What if the bonus of WETH had been 10 %? The run is stored beside the others; the same run again is read, not
# replayed. It ends where the demo's baseline ends, so that the two can be compared.

# %%
to_block = lake.sql("SELECT to_block FROM runs WHERE name = 'baseline'").fetchall()[0][0]
scenario = Scenario(
    name="WETH bonus 10 %",
    liquidators=Competitive(),
    to_block=to_block,
    overrides=(Override(parameter="liquidation_bonus", asset="WETH", value=11_000),),
)
stored = run(lake, market, scenario)
lake.refresh()
print(stored.summary["liquidations"], "liquidations;", len(stored.notes), "assumptions and warnings")

# %% [markdown]
# Debt liquidated by collateral, baseline against the new run.

# %%
rows = lake.sql(
    "SELECT runs.name AS run, symbol, sum(repaid_base) / 1e8 AS repaid_usd FROM run_liquidations JOIN runs USING"
    " (run_id) JOIN assets ON assets.asset = collateral_asset AND assets.market = runs.market WHERE runs.name IN"
    f" ('baseline', '{scenario.name}') GROUP BY ALL"
).df()
chart = (
    alt.Chart(rows)
    .mark_bar()
    .encode(x=alt.X("repaid_usd", title="Debt repaid (USD)"), y="symbol", yOffset="run", color="run")
)
print(chart.to_json()[:60], "...")
