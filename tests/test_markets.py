"""The market descriptions that ship with the package, and what a wrong one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from eth_utils.address import is_checksum_address

from backtest.errors import UserError
from backtest.markets import parse_market
from backtest.resources import resource

FILES = sorted(resource("markets").glob("*.toml"))
ROLES = {
    "aave-v2": {"provider", "pool", "configurator", "oracle"},
    "aave-v3": {"provider", "pool", "configurator", "oracle"},
    "compound-v3": {"comet"},
    "geb": {
        "safe_engine",
        "tax_collector",
        "oracle_relayer",
        "liquidation_engine_1",
        "liquidation_engine_2",
        "collateral",
        "coin",
    },
    "llamma": {"amm", "controller"},
    "morpho-blue": {"morpho", "pre_liquidation_factory", "vault_factory", "vault_factory_1_1"},
    "compound-v2": {"comptroller"},
    "fraxlend": {"pair"},
    "liquity-v1": {"trove_manager"},
    "liquity-v2": {"addresses_registry", "trove_manager"},
    "silo-v2": {"silo0", "silo1", "protected0", "protected1", "debt0", "debt1", "hook"},
    "maker": {"vat", "jug", "spotter", "cat_1_0", "cat_1_1", "dog", "gem", "dai"},
}
PARAMETERS = {
    "aave-v2": set(),
    "aave-v3": set(),
    "compound-v2": {"accrual", "periods_per_year", "revision"},
    "compound-v3": set(),
    "geb": {"collateral_type", "coin"},
    "llamma": {"revision"},
    "morpho-blue": {"id"},
    "fraxlend": set(),
    "liquity-v1": set(),
    "liquity-v2": set(),
    "silo-v2": set(),
    "maker": {"ilk"},
}


def test_the_chains_users_ask_for_are_there() -> None:
    assert {"ethereum-core", "arbitrum", "base", "optimism", "polygon"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_description_is_complete(file: Path) -> None:
    market = parse_market(file.read_text(), str(file))
    assert market.name == file.stem
    assert market.start_block > 0
    several = market.parameters.get("ilk") == "*"  # each of whose collaterals is another token
    assert set(market.contracts) == ROLES[market.protocol] - ({"gem"} if several else set())
    assert set(market.parameters) == PARAMETERS[market.protocol]
    assert len(set(market.contracts.values())) == len(market.contracts)
    assert market.description


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_addresses_carry_their_checksums(file: Path) -> None:
    addresses = re.findall(r"0x[0-9a-fA-F]{40}\b", file.read_text())
    assert len(addresses) == len(parse_market(file.read_text(), str(file)).contracts)
    assert [address for address in addresses if not is_checksum_address(address)] == []


def test_no_two_files_describe_the_same_market() -> None:
    markets = [parse_market(file.read_text(), str(file)) for file in FILES]
    places = {(m.chain_id, tuple(sorted(m.contracts.items())), tuple(sorted(m.parameters.items()))) for m in markets}
    pools = [(m.chain_id, m.contracts["pool"]) for m in markets if "pool" in m.contracts]
    assert (len(places), len(set(pools))) == (len(markets), len(pools))


GOOD = """
name = "mine"
protocol = "aave-v3"
chain_id = 1
start_block = 10
[contracts]
pool = "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2"
"""


def test_addresses_are_lower_case_once_parsed() -> None:
    assert parse_market(GOOD, "mine.toml").contracts["pool"] == "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("start_block = 10", "", "start_block"),
        ("start_block = 10", "start_blok = 10\nstart_block = 10", "start_blok"),
        ("start_block = 10", "start_block = -10", "start_block = -10; block numbers start at 0"),
        ("chain_id = 1", 'chain_id = "one"', "chain_id"),
        ("4fA4E2", "4fA4", "pool"),
        ("[contracts]", "[contracts", "mine.toml"),
    ],
)
def test_a_wrong_description_says_where(old: str, new: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_market(GOOD.replace(old, new), "mine.toml")
