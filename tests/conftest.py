"""Fixtures: the network is loopback only, and the test chain (one node per worker and market, started when first asked for)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pytest_socket import socket_allow_hosts

from tests.chain.contracts import ChainUnavailable, install
from tests.chain.node import Node


def pytest_runtest_setup() -> None:
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def chain_packages() -> None:
    """The npm packages of the test chain are installed; else the test is skipped with the reason, and fails where CI is set."""
    try:
        install()
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
