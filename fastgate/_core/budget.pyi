from typing import final

from fastgate._core.table import Region, Table

@final
class BudgetTable(Table):
    """What was spent of each budget, and what requests in flight may still cost. Nano-dollars.

    An entry that does not exist (-1) reads as 0, and what is written to it is lost.
    """

    shares: int
    """Machines that share budgets; 0: there are no leases. An entry begins with that part of it."""

    def __new__(cls, region: Region, worker: int = 0) -> BudgetTable: ...
    @staticmethod
    def bytes_for(entries: int) -> int:
        """Return the size of a region for so many entries."""
    def seed(self, entry: int, base_nano: int) -> None:
        """Set what was spent, of an entry of which that is not known."""
    def post(self, entry: int, amount_nano: int, base_nano: int) -> None:
        """Take over what the database says; `amount_nano` of what was settled here is in it."""
    def charge(self, entry: int, nano: int) -> None:
        """Add what was settled without a reservation."""
    def spent_nano(self, entry: int) -> int: ...
    def unposted_nano(self, entry: int) -> int: ...
    def reserved_nano(self, entry: int) -> int: ...
    def grant(self, entry: int, delta_nano: int) -> int:
        """Add to the lease, or (negative) take back of it what no request holds; return what was
        added or taken.
        """
    def lease_nano(self, entry: int) -> int:
        """Return what may still be held or spent here; -1: there are no leases."""
    def end_leases(self, entry: int) -> None: ...
    def take_wanted(self, entry: int) -> int:
        """Return the most that was refused for want of a lease since this was last called."""
