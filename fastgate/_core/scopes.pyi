from typing import final

from fastgate._core.bucket import LimitTable
from fastgate._core.budget import BudgetTable

@final
class Scopes:
    """The limits and budgets that a request must fit. Immutable."""

    n_limits: int
    n_budgets: int

    def __new__(
        cls,
        limits: list[tuple[int, int, int, int, int]],
        budgets: list[tuple[int, int, int]],
    ) -> Scopes:
        """Take limits as (key, requests/min, tokens/min, tokens/day, places in flight), -1: none;
        and budgets as (key, nano-dollars, what was spent of them).

        Raises ValueError for more than 16 of either, and for a key that stands twice.
        """

@final
class Held:
    """What one request holds of its scopes; made new for each."""

    scopes: Scopes | None
    """None: nothing is held."""
    refused: int
    """Which limit or budget refused, by its place in the scopes."""
    reserved_ns: int
    day: int
    tokens: int
    nano: int

    def __new__(cls) -> Held: ...

def reserve(
    limits: LimitTable,
    budgets: BudgetTable,
    scopes: Scopes,
    held: Held,
    now_ns: int,
    day: int,
    tokens: int,
    max_nano: int,
) -> int:
    """Reserve a request, `tokens`, a place in flight and `max_nano` in all scopes, or nothing.

    Returns 0: admitted; 1, 2, 3, 4: refused by requests or tokens a minute, places in flight,
    tokens a day; 5: by a budget; 6: this machine's share of one is used up; 7: a table is full.
    `day`: since 1970. A budget that is spent refuses whatever a request costs; `max_nano` -1:
    nobody knows.
    """

def settle(
    limits: LimitTable,
    budgets: BudgetTable,
    held: Held,
    now_ns: int,
    day: int,
    tokens_used: int,
    spent_nano: int,
) -> None:
    """Give back places and what was not used. -1: tokens stay as reserved, nothing was spent.

    Nothing happens the second time.
    """

def cancel(limits: LimitTable, budgets: BudgetTable, held: Held, now_ns: int, day: int) -> None:
    """Take the reservation back wholly: the request never went out."""

def charge(budgets: BudgetTable, held: Held, nano: int) -> None:
    """Add to what was spent of all budgets, and leave the reservation as it is."""
