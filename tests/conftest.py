"""Fixtures: the network is loopback only, and the test chain (one node per worker and market, started when first asked
for).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

import pytest
from pytest_socket import socket_allow_hosts

from tests.chain.aave import deploy_v30, deploy_v36
from tests.chain.contracts import ChainUnavailable, anvil_binary
from tests.chain.deployment import Deployment
from tests.chain.market import START, Record, Version, run
from tests.chain.node import Node


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "chain: needs the local node; set by itself on tests that use a fixture of the test chain"
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of the test chain, and keep the tests of one played market, and those of one demo, on one worker
    (under ``--dist loadgroup``).
    """
    for item in items:
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        if "chain_packages" in fixtures:
            item.add_marker("chain")
        for shared in sorted(fixtures & {"market_v30", "market_v36", "market_upgraded", "market_calm", "workplace"})[
            :1
        ]:
            item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(scope="session")
def chain_packages() -> None:
    """Node and contracts are installed; else the test is skipped with the reason, and fails where CI is set."""
    try:
        anvil_binary()
    except ChainUnavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no test chain: {reason}")


@pytest.fixture(scope="session")
def session_node(chain_packages: None) -> Iterator[Node]:
    with Node() as node:
        yield node


@pytest.fixture
def anvil(session_node: Node) -> Iterator[Node]:
    """An empty chain: whatever the test does is reverted after it."""
    snapshot = session_node.snapshot()
    yield session_node
    session_node.revert(snapshot)


@pytest.fixture(scope="session")
def _deployed_v30(chain_packages: None) -> Iterator[Deployment]:
    with Node() as node:
        yield deploy_v30(node)


@pytest.fixture(scope="session")
def _deployed_v36(chain_packages: None) -> Iterator[Deployment]:
    with Node() as node:
        yield deploy_v36(node)


def _reverted_after(deployment: Deployment) -> Iterator[Deployment]:
    snapshot = deployment.node.snapshot()
    yield copy.deepcopy(deployment, {id(deployment.node): deployment.node})
    deployment.node.revert(snapshot)


@pytest.fixture
def fresh_v30(_deployed_v30: Deployment) -> Iterator[Deployment]:
    """A market of 3.0 in which nothing happened yet; the test may do what it likes with it."""
    yield from _reverted_after(_deployed_v30)


@pytest.fixture
def fresh_v36(_deployed_v36: Deployment) -> Iterator[Deployment]:
    """As ``fresh_v30``, of 3.6."""
    yield from _reverted_after(_deployed_v36)


def _played(version: Version, *, calm: bool = False) -> Iterator[Record]:
    with Node(timestamp=START) as node:
        yield run(node, version, calm=calm)


@pytest.fixture(scope="session")
def market_v30(chain_packages: None) -> Iterator[Record]:
    """The whole script of ``tests/chain/market.py`` on 3.0. Shared by the tests of a worker: read it, send nothing."""
    yield from _played("3.0")


@pytest.fixture(scope="session")
def market_v36(chain_packages: None) -> Iterator[Record]:
    """As ``market_v30``, on 3.6."""
    yield from _played("3.6")


@pytest.fixture(scope="session")
def market_upgraded(chain_packages: None) -> Iterator[Record]:
    """As ``market_v30``, upgraded to 3.6 in the middle of the crash."""
    yield from _played("upgraded")


@pytest.fixture(scope="session")
def market_calm(chain_packages: None) -> Iterator[Record]:
    """The script on 3.6 under flat prices: no liquidations, nothing refused."""
    yield from _played("3.6", calm=True)
