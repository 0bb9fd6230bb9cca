"""What is wrong with a question is said before a node is asked anything."""

from __future__ import annotations

from typing import Any, cast

import pytest

from backtest.errors import UserError
from backtest.lake import Lake
from backtest.prove import prove
from backtest.resources import resource

NO_NODE = cast(Any, None)


@pytest.mark.parametrize(
    ("account", "block", "said"),
    [("0x7099", 400, "'0x7099' is a name, not an address"), ("0x" + "7" * 40, -1, "--block -1; give 0 or more")],
    ids=["account", "block"],
)
def test_before_the_node(account: str, block: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        prove(Lake(resource("sample") / "lake"), "sample-crash", account, NO_NODE, block=block)
