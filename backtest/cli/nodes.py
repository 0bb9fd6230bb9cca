"""``--rpc`` of every verb: which providers to ask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.fetch.rpc import Rpc

RPC_VARIABLE = "BACKTEST_RPC"

Nodes = Annotated[list[str] | None, Parameter(negative=())]
"""Given once or several times: an address each, or a TOML file of providers."""


def node_of(
    rpc: Sequence[str] | None, workers: int = 16, timeout: float = 30.0, *, attempts: int = 8, max_backoff: float = 30.0
) -> Rpc:
    """The providers of ``--rpc``, else those of the environment variable, which spaces separate. UserError where none
    is given.
    """
    from backtest.fetch.providers import providers_of
    from backtest.fetch.rpc import Rpc

    words = list(rpc or os.environ.get(RPC_VARIABLE, "").split())
    if not words:
        raise UserError("no node given", f"add --rpc http://..., or set {RPC_VARIABLE}")
    return Rpc(providers_of(words), workers=workers, timeout=timeout, attempts=attempts, max_backoff=max_backoff)
