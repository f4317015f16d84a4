"""What a request pays for its limits and budgets: one scope, and as many as teams of teams have."""

from __future__ import annotations

from collections.abc import Callable

from fastgate._core.bucket import LimitTable
from fastgate._core.budget import BudgetTable
from fastgate._core.scopes import Held, Scopes, reserve, settle
from fastgate._core.table import Region

NOW_NS = 1_000_000_000_000
DAY = 20_000
ROOMY = 10**12


def _taken(n_limits: int, n_budgets: int) -> Callable[[], object]:
    limits = LimitTable(Region(bytearray(LimitTable.bytes_for(64))))
    budgets = BudgetTable(Region(bytearray(BudgetTable.bytes_for(64))))
    scopes = Scopes(
        [(10 + n, ROOMY, ROOMY, ROOMY, 1_000) for n in range(n_limits)],
        [(10 + n, ROOMY, 0) for n in range(n_budgets)],
    )

    def run() -> None:
        held = Held()
        assert reserve(limits, budgets, scopes, held, NOW_NS, DAY, 50, 1_000) == 0
        settle(limits, budgets, held, NOW_NS, DAY, 60, 900)

    return run


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "reserve and settle, 1 limit": lambda: _taken(1, 0),
    "reserve and settle, 5 limits and 3 budgets": lambda: _taken(5, 3),
}
