"""What the contracts are asked when a lake is compared with the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.claims import Claim, Tables

_CALLS = {"band_x": "bands_x(int256)", "band_y": "bands_y(int256)"}


def claims(
    config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
) -> Iterator[Claim]:
    """Of the AMM its active band and what every band holds (``AMM.bands_x``, ``bands_y``, ``active_band``); of accounts
    the bands that they are in (``AMM.read_user_tick_numbers``) and whether they have a loan
    (``Controller.loan_exists``).
    """
    amm, controller = (config.contracts.get(role) for role in ("amm", "controller"))
    if amm is None or controller is None:
        raise UserError(f"market '{config.name}' names no AMM and controller", "write contracts.amm and .controller")
    steps = tables("params", ["seq", "block_number", "category", "name", "value"]).to_pylist()
    settings = tables("setting_events", ["seq", "block_number", "account_id", "setting", "value"]).to_pylist()
    owed = tables("position_events", ["block_number", "account_id", "side", "delta"]).to_pylist()
    for block in blocks:
        told: dict[tuple[str, int | None], int] = {}
        for row in sorted(steps, key=lambda row: row["seq"]):
            if row["block_number"] <= block and row["name"] in (*_CALLS, "active_band"):
                told[row["name"], row["category"]] = int(row["value"])
        for (name, band), value in told.items():
            if name == "active_band":
                yield Claim(f"active band of {amm}", block, amm, "active_band()", value % 2**256)
            elif band is not None:
                call = _CALLS[name]
                yield Claim(f"{name} of {amm}", block, amm, call, value, (band % 2**256,))
        for account, name in accounts.items():
            debt = sum(
                int(row["delta"])
                for row in owed
                if row["account_id"] == account and row["side"] == "debt" and row["block_number"] <= block
            )
            who = (int(name, 16),)
            yield Claim(f"loan of {name}", block, controller, "loan_exists(address)", int(debt > 0), who)
            own = {
                row["setting"]: int(row["value"])
                for row in sorted(settings, key=lambda row: row["seq"])
                if row["account_id"] == account and row["block_number"] <= block
            }
            if debt > 0 and "first_band" in own:
                for place, setting in enumerate(("first_band", "last_band")):
                    what = f"{setting} of {name}"
                    call = "read_user_tick_numbers(address)"
                    yield Claim(what, block, amm, call, own[setting] % 2**256, who, place)
