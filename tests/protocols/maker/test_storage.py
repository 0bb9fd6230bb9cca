"""A vault read from storage that a compiler laid out, with numbers worked by hand; and what no poke can have left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import UserError
from backtest.fetch.rpc import Rpc
from backtest.markets import MarketConfig
from backtest.protocols.maker.events import ilk_of
from backtest.protocols.maker.rules import spot_down
from backtest.protocols.maker.storage import _price
from backtest.units import RAY, WAD
from tests.chain.contracts import own
from tests.chain.node import Node
from tests.support.storage_reads import from_storage

URN, GEM, DAI = (f"0x{number:040x}" for number in (161, 9, 13))
ILK = b"ETH-A".ljust(32, b"\0")


def _config(vat: str, spotter: str) -> MarketConfig:
    return MarketConfig(
        name="vaults",
        protocol="maker",
        chain_id=31337,
        start_block=1,
        contracts={"vat": vat, "spotter": spotter, "gem": GEM, "dai": DAI},
        base_decimals=18,
        parameters={"ilk": "ETH-A"},
    )


def test_a_vault_from_storage(anvil: Node) -> None:
    """Ten of 1,500 at 150 % carry 10,000; 8,000 at a rate of 1.02 are 8,160: health 10,000 / 8,160."""
    code = own("MakerLayout.sol")
    vat = anvil.deploy(code["VatLayout"])
    spotter = anvil.deploy(code["SpotterLayout"], vat.address, RAY)
    rate, ink, art = 102 * RAY // 100, 10 * WAD, 8_000 * WAD
    anvil.send(vat.transaction("set", ILK, rate, 1_000 * RAY, URN, ink, art))
    anvil.send(spotter.transaction("set", ILK, 3 * RAY // 2))
    config = _config(vat.address, spotter.address)
    with Rpc(anvil.url) as rpc:
        found = from_storage(rpc, config, URN, anvil.block_number)
        figures: dict[str, Any] = {each.name: each.value for each in found.figures or ()}
        assert figures == {
            "ink": ink,
            "art": art,
            "rate": rate,
            "spot": 1_000 * RAY,
            "debt": art * rate,
            "health_factor": 10_000 * WAD * WAD // (8_160 * WAD),
        }
        assert found.prices == {GEM: 1_500 * WAD, DAI: WAD}
        assert all(each.view is None for each in found.inputs)
        anvil.send(spotter.transaction("set", ILK, 7 * RAY // 5 + 1))
        with pytest.raises(UserError, match="they changed since the last poke"):
            from_storage(rpc, config, URN, anvil.block_number)
        with pytest.raises(UserError, match="there is no contract"):
            from_storage(rpc, _config(DAI, spotter.address), URN, anvil.block_number)
        other = anvil.deploy(code["VatLayout"])
        with pytest.raises(UserError, match="the vat of spotter"):
            from_storage(rpc, _config(other.address, spotter.address), URN, anvil.block_number)


@given(st.integers(0, 10**26), st.integers(9 * RAY // 10, 11 * RAY // 10), st.integers(RAY, 4 * RAY))
def test_a_spot_gives_the_price_back(price: int, par: int, ratio: int) -> None:
    assert _price(spot_down(price, par, ratio), par, ratio) == price


@pytest.mark.parametrize("ilk", ["", "é", "X" * 33], ids=["empty", "not-ascii", "too-long"])
def test_what_is_no_ilk_is_refused(ilk: str) -> None:
    with pytest.raises(UserError, match="is no ilk"):
        ilk_of({"ilk": ilk})
