"""A session's lake: SQL's holdings and health are the rules', to the last integer; the lake passes its checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocols.euler_v2.session import CONFIG, folded, lake_rows, played
from tests.support.lake_tables import write
from tests.support.sql_engine import assert_sql_is_the_engine, spread

pytestmark = pytest.mark.slow


def test_sql_is_the_rules(tmp_path: Path) -> None:
    system = played(1)
    lake = write(tmp_path / "lake", lake_rows(system, folded(system)), CONFIG)
    compared = assert_sql_is_the_engine(lake, CONFIG.name, spread(lake, CONFIG.name, 24))
    assert compared.owing > 200
    assert compared.unsafe > 5
    assert compared.holdings > 400
