"""The logs of one segment that move positions or bound actions, as columns in chain order, accounts and assets as
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.protocols.aave.addresses import Addresses
from backtest.protocols.aave.columns import address_set, address_words, integers, number_accounts, numbers_of
from backtest.protocols.aave_v3 import bundles
from backtest.protocols.aave_v3.bundles import Codes, Keys, Numbers, Shorts
from backtest.protocols.aave_v3.reserves import Listing

# Event, kind of row, column that names asset or token, account column, second account column.
SOURCES: tuple[tuple[str, int, str, str, str], ...] = (
    ("Mint", bundles.COLLATERAL, "address", "on_behalf_of", ""),
    ("Burn", bundles.COLLATERAL, "address", "from", ""),
    ("BalanceTransfer", bundles.TRANSFER, "address", "from", "to"),
    ("StableMint", bundles.STABLE, "address", "on_behalf_of", ""),
    ("StableBurn", bundles.STABLE, "address", "from", ""),
    ("ReserveUsedAsCollateralEnabled", bundles.FLAG_ON, "reserve", "user", ""),
    ("ReserveUsedAsCollateralDisabled", bundles.FLAG_OFF, "reserve", "user", ""),
    ("DeficitCreated", bundles.DEFICIT, "debt_asset", "user", ""),
    ("Supply", bundles.SUPPLY, "reserve", "on_behalf_of", ""),
    ("MintUnbacked", bundles.UNBACKED, "reserve", "on_behalf_of", ""),
    ("Withdraw", bundles.WITHDRAW, "reserve", "user", ""),
    ("Borrow", bundles.BORROW, "reserve", "on_behalf_of", ""),
    ("Repay", bundles.REPAY, "reserve", "user", ""),
    ("MintedToTreasury", bundles.TREASURY, "reserve", "", ""),
    ("DeficitCovered", bundles.COVER, "reserve", "caller", ""),
    ("UserEModeSet", bundles.EMODE, "", "user", ""),
    ("SwapBorrowRateMode", bundles.SWAP, "reserve", "user", ""),
    ("RebalanceStableBorrowRate", bundles.SWAP, "reserve", "user", ""),
    ("LiquidationCall", bundles.LIQUIDATION, "collateral_asset", "user", "liquidator"),
    ("ATokenInitialized", bundles.INITIALIZED, "underlying_asset", "treasury", ""),
)
TOKEN_SOURCES = ("Mint", "Burn", "BalanceTransfer")
STABLE_SOURCES = ("StableMint", "StableBurn")

_PLACE = ("block_number", "log_index")
_AMOUNTS: dict[str, tuple[str, ...]] = {
    "Mint": ("value", "balance_increase", "index"),
    "Burn": ("value", "balance_increase", "index"),
    "BalanceTransfer": ("value", "index"),
    "StableMint": ("amount", "current_balance", "balance_increase", "new_rate"),
    "StableBurn": ("amount", "current_balance", "balance_increase"),
    "Supply": ("amount",),
    "MintUnbacked": ("amount",),
    "Withdraw": ("amount",),
    "Borrow": ("amount",),
    "Repay": ("amount",),
    "MintedToTreasury": ("amount_minted",),
    "DeficitCreated": ("amount_created",),
    "DeficitCovered": ("amount_covered",),
    "UserEModeSet": ("category_id",),
    "LiquidationCall": (
        "transaction_hash",
        "debt_asset",
        "debt_to_cover",
        "liquidated_collateral_amount",
        "receive_a_token",
    ),
}
COLUMNS: dict[str, tuple[str, ...]] = {
    **{
        event: (*_PLACE, "transaction_index", *(column for column in columns if column), *_AMOUNTS.get(event, ()))
        for event, _, *columns in SOURCES
    },
    "ReserveInitialized": (*_PLACE, "asset"),
    "ReserveDataUpdated": (
        *_PLACE,
        "reserve",
        "liquidity_rate",
        "variable_borrow_rate",
        "liquidity_index",
        "variable_borrow_index",
    ),
}
"""What the fold reads of each event that it streams."""


@dataclass
class Frame:
    """Rows in chain order; ``source`` and ``source_row`` say where each comes from. Implements ``actions.Rows``."""

    seq: Keys
    block: Keys
    log: Numbers
    time: Keys
    tx: Keys
    kind: Codes
    asset: Shorts
    debt_asset: Shorts
    token: Shorts
    a: Numbers
    b: Numbers
    receives: Codes
    flags_after: Codes
    source: Codes
    source_row: Numbers

    def take(self, rows: npt.NDArray[Any]) -> Frame:
        """The rows of a mask or of positions."""
        return Frame(**{name: column[rows] for name, column in vars(self).items()})

    def of(self, event: str) -> npt.NDArray[np.bool_]:
        """Which rows come from this event."""
        mask: npt.NDArray[np.bool_] = self.source == next(
            number for number, source in enumerate(SOURCES) if source[0] == event
        )
        return mask


def build(segment: Mapping[str, pa.Table], listing: Listing, accounts: Addresses) -> Frame:
    """All rows of a segment, sorted by seq."""
    assets, tokens = listing.asset_set(), listing.token_set()
    stable_tokens = address_set([address for address, _ in listing.stable_tokens])
    token_asset = np.array([token.asset for token in listing.tokens], np.int16)
    token_kind = np.array(
        [bundles.DEBT if token.kind == "debt" else bundles.COLLATERAL for token in listing.tokens], np.int8
    )
    stable_asset = np.array([asset for _, asset in listing.stable_tokens], np.int16)
    parts: list[dict[str, Any]] = []
    for number, (event, kind, place, first, second) in enumerate(SOURCES):
        table = segment.get(event)
        if table is None or not table.num_rows:
            continue
        size = table.num_rows
        block = integers(table, "block_number")
        part = {
            "seq": integers(table, "seq"),
            "block": block,
            "log": table["log_index"].to_numpy(),
            "time": integers(table, "timestamp"),
            "tx": block << 20 | table["transaction_index"].to_numpy(),
            "kind": np.full(size, kind, np.int8),
            "debt_asset": np.full(size, -1, np.int16),
            "token": np.full(size, -1, np.int16),
            "receives": np.zeros(size, np.int8),
            "flags_after": np.zeros(size, np.int8),
            "source": np.full(size, number, np.int8),
            "source_row": np.arange(size, dtype=np.int32),
            "accounts": [address_words(table, column) if column else None for column in (first, second)],
        }
        if event in TOKEN_SOURCES:
            part["token"] = numbers_of(table, place, tokens, "token")
            part["asset"] = token_asset[part["token"]]
            if event != "BalanceTransfer":
                part["kind"] = token_kind[part["token"]]
        elif event in STABLE_SOURCES:
            part["asset"] = stable_asset[numbers_of(table, place, stable_tokens, "stable debt token")]
        else:
            part["asset"] = numbers_of(table, place, assets, "reserve") if place else np.full(size, -1, np.int16)
        if event == "LiquidationCall":
            part["debt_asset"] = numbers_of(table, "debt_asset", assets, "reserve")
            part["receives"] = table["receive_a_token"].to_numpy().astype(np.int8)
        parts.append(part)
    if not parts:
        return _empty()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "accounts"}
    columns["a"], columns["b"] = number_accounts(parts, accounts)
    return Frame(**columns).take(np.argsort(columns["seq"], kind="stable"))


def _empty() -> Frame:
    kinds = {Keys: np.int64, Numbers: np.int32, Shorts: np.int16, Codes: np.int8}
    return Frame(**{name: np.zeros(0, kinds[kind]) for name, kind in get_type_hints(Frame).items()})
