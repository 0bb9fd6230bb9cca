"""What ``--verify`` asks is each protocol's own: from canonical tables alone, and what a contract would say."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from backtest.lake import Lake
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.maker import MAKER
from backtest.protocols.registry import PROTOCOLS
from tests.support.maker_logs import CONFIG, ILK, VAT, address
from tests.support.vault_fetch import fetched, script


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return fetched(script(), tmp_path_factory.mktemp("maker"))


def test_the_vat_is_asked_for_urns_and_the_ilk(lake: Lake) -> None:
    """The script keeps the book that the Vat would keep."""
    made = script()
    made.chain()

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return lake.read(f"canonical/{name}", CONFIG.name, columns=list(columns))

    names = {row["account_id"]: row["account"] for row in tables("accounts", ["account_id", "account"]).to_pylist()}
    people = {account: name for account, name in names.items() if name in map(address, ("alice", "bob", "carol"))}
    claims = list(MAKER.claims(CONFIG, tables, [60], people))
    held = {(claim.function, claim.arguments[1:], claim.place): claim.value for claim in claims}
    ilk = int.from_bytes(ILK, "big")
    assert {(claim.address, claim.block, claim.arguments[0]) for claim in claims} == {(VAT, 60, ilk)}
    for who in ("alice", "bob", "carol"):
        urn = (int(address(who), 16),)
        assert held[("urns(bytes32,address)", urn, 0)] == made.ink[who]
        assert held[("urns(bytes32,address)", urn, 1)] == made.art[who]
    assert held[("ilks(bytes32)", (), 0)] == sum(made.art.values())
    before = {claim.what: claim.value for claim in MAKER.claims(CONFIG, tables, [10], people)}
    assert before[f"art of {address('alice')}"] == 5_000 * 10**18


def test_every_protocol_says_what_its_contracts_return() -> None:
    for protocol in PROTOCOLS.values():
        assert type(protocol).claims is not LendingProtocol.claims
