from __future__ import annotations

from fastgate.config.schema import Config
from fastgate.config.snapshot import Snapshot
from fastgate.gateway.catalog import Catalog


def test_names_that_lead_nowhere_leave_nothing_behind() -> None:
    catalog = Catalog(Snapshot(Config()), None)
    assert [catalog.plan(f"made-up-{number}") for number in range(100)] == [None] * 100
    assert not catalog.plans
