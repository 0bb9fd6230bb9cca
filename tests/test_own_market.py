"""What docs/own-market.md says is not supported is what the code refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.errors import RulesError, UserError
from backtest.imports import folding_imports
from backtest.markets import parse_market
from backtest.protocols.aave_v3.rules import RULES, rules_for
from backtest.protocols.aave_v3.tokens import rounding
from backtest.protocols.maker import MAKER
from backtest.protocols.registry import PROTOCOLS

PAGE = (Path(__file__).parent.parent / "docs/own-market.md").read_text(encoding="utf-8")
SAID = " ".join(PAGE.partition("## What is not supported")[2].split())


def test_protocols_and_revisions() -> None:
    names = {
        "aave-v2",
        "aave-v3",
        "compound-v2",
        "compound-v3",
        "euler-v2",
        "fraxlend",
        "gearbox-v3",
        "geb",
        "liquity-v1",
        "liquity-v2",
        "llamma",
        "morpho-blue",
        "maker",
        "silo-v2",
    }
    assert set(PROTOCOLS) == names
    assert f"a pool revision above {max(RULES)} or a token revision that is none of Aave's stops" in SAID
    with pytest.raises(RulesError, match=r"is unknown.*\(Aave V3.0 to 3.7\)"):
        rules_for(max(RULES) + 1, 5)
    with pytest.raises(RulesError, match="no known rule"):
        rounding("debt", 7, 1, False, "at block 5")
    assert "(3.0 to 3.7)" in PAGE


def test_imports_recomputed_rates_and_pools() -> None:
    assert list(folding_imports()) == ["maker"]
    assert "Exports** of another protocol than Maker" in SAID
    with pytest.raises(UserError, match="recomputed"):
        MAKER.open(None, recompute=True)  # type: ignore[arg-type]
    market = PAGE.partition("## Pools")[2].partition("```toml")[2].partition("```")[0]
    with pytest.raises(UserError, match="pools"):
        parse_market(market.replace("[[pools]]", '[[pools]]\nkind = "uniswap-v2"', 1), "x")
    assert "Pools** are Uniswap v3's" in SAID
