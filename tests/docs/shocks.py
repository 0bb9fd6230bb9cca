"""Write the table of docs/stress.md that holds models against five assets in November 2022: ``python -m
tests.docs.shocks``.

Reads the five-minute bars of ``crash_2022_11`` (Binance spot, FTX among them) of the real data, which do not ship.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from backtest.shocks import Panel
from backtest.shocks.draws import stream
from backtest.shocks.models import (
    Bootstrap,
    Copula,
    Filtered,
    Jumps,
    PriceModel,
    Regimes,
    ScaledHistory,
)
from backtest.shocks.statistics import table_of
from tests.support.import_exports import real

PAGE = Path(__file__).parents[2] / "docs/stress.md"
START, END = "<!-- statistics: written by tests/docs/shocks.py -->", "<!-- end of statistics -->"
ASSETS = ("BTC", "ETH", "SOL", "CRV", "AAVE")
STEP, DAY, PATHS = 300, 288, 400
MODELS: dict[str, PriceModel] = {
    "filtered": Filtered(start="usual"),
    "bootstrap": Bootstrap(),
    "history": ScaledHistory(),
    "regimes": Regimes(start="calm"),
    "jumps": Jumps(),
    "copula": Copula(),
}
SHOWN = {
    "deviation": "deviation, %",
    "kurtosis": "excess kurtosis",
    "hill": "tail index",
    "clustering": "clustering",
    "tail_dependence": "tail dependence on BTC",
    "fall_half_hour_99": "fall in 30 min, one day in 100, %",
    "fall_half_hour_most": "most, %",
}


def panel() -> Panel:
    """Closes of the month, as log returns."""
    bars = pq.read_table(real("crashes/crash_2022_11") / "binance_spot_5m.parquet").to_pandas()
    closes = bars.pivot(index="time", columns="symbol", values="close")[[f"{asset}USDT" for asset in ASSETS]].dropna()
    returns = np.diff(np.log(closes.to_numpy()), axis=0)
    return Panel(ASSETS, STEP, 1_669_852_800, returns, np.ones(len(ASSETS), np.bool_))


def statistics(of: Panel, model: PriceModel) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    """By asset and statistic: the data's and the model's, of a day a path."""
    fit = model.fit(of)
    drawn = [model.draw(fit, stream(1, "docs", number), DAY).returns for number in range(PATHS)]
    return {(one.asset, one.statistic): (one.data, one.model) for one in table_of(of, drawn)}


def table() -> str:
    """Medians over the assets; data first."""
    of = panel()
    lines = [f"| | {' | '.join(SHOWN.values())} |", "|---" * (len(SHOWN) + 1) + "|"]
    for place, (name, model) in enumerate(MODELS.items()):
        found = statistics(of, model)
        if not place:
            lines.append(_line("**data**", found, 0))
        lines.append(_line(f"`{name}`", found, 1))
    return "\n".join(lines)


def _line(title: str, found: dict[tuple[str, str], tuple[float | None, float | None]], side: int) -> str:
    cells = []
    for statistic, words in SHOWN.items():
        assets = ASSETS[1:] if statistic == "tail_dependence" else ASSETS
        values = [value for asset in assets if (value := found[asset, statistic][side]) is not None]
        middle = float(np.median(values)) * (100 if words.endswith("%") else 1)
        cells.append(f"{middle:.3g}" if abs(middle) >= 0.005 else "0.00")
    return f"| {title} | {' | '.join(cells)} |"


if __name__ == "__main__":
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{head}{START}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
