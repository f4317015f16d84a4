from typing import final

from fastgate._core.table import Region, Table

@final
class LimitTable(Table):
    """Requests a minute, tokens a minute and requests in flight of each key."""

    def __new__(cls, region: Region, worker: int = 0) -> LimitTable: ...
    @staticmethod
    def bytes_for(entries: int) -> int:
        """Return the size of a region for so many entries."""
    def reserve(
        self,
        entry: int,
        now_ns: int,
        requests_per_min: int,
        tokens_per_min: int,
        parallel: int,
        tokens: int,
    ) -> int:
        """Reserve one request, `tokens` tokens and one place in flight, or nothing.

        A limit of -1: none. Returns 0: admitted; 1, 2, 3: refused by requests, tokens, places in
        flight. A request needs room for one token even if `tokens` is 0 (not known yet). Raises
        IndexError when there is no such entry.
        """
    def settle(self, entry: int, now_ns: int, reserved_ns: int, token_delta: int) -> None:
        """Give back the place in flight; correct the tokens reserved by `token_delta`.

        When the second of `reserved_ns` has left the window, what is missing is charged now, what
        was too much is forgotten.
        """
    def cancel(self, entry: int, now_ns: int, reserved_ns: int, tokens: int) -> None:
        """Take back a reservation wholly: the request never went out."""
    shares: int
    """Machines that share limits; 0: there are no leases. An entry begins with that part."""
    def tokens_of_day(self, entry: int, day: int) -> int: ...
    def requests_used(self, entry: int, now_ns: int) -> int: ...
    def tokens_used(self, entry: int, now_ns: int) -> int: ...
    def in_flight(self, entry: int) -> int:
        """Return how many requests are in flight, over all workers."""
    def wait_ns(self, entry: int, now_ns: int, refusal: int, limit: int, amount: int) -> int:
        """Return how long until `amount` fits under `limit` if nobody else takes it; -1: never.

        `refusal` is what `reserve` returned. 0 for places in flight: when one gets free is not
        known.
        """

@final
class BucketTable(Table):
    """Token buckets. Amounts and rates count to the millionth; nothing else is rounded."""

    def __new__(cls, region: Region, worker: int = 0) -> BucketTable: ...
    @staticmethod
    def bytes_for(entries: int) -> int:
        """Return the size of a region for so many entries."""
    def take(
        self, entry: int, now_ns: int, capacity: float, refill_per_s: float, amount: float
    ) -> int:
        """Take `amount` from the bucket (1), or nothing when it holds less (0).

        A new bucket is full. A negative amount is given back. Raises IndexError when there is no
        such entry.
        """
    def wait_ns(
        self, entry: int, now_ns: int, capacity: float, refill_per_s: float, amount: float
    ) -> int:
        """Return how long until the bucket holds `amount` if nobody else takes it; -1: never."""

@final
class DeploymentTable(Table):
    """What workers know together about each deployment.

    An entry belongs to the process that asked for it until that dies. An index of -1 (table full)
    counts nothing.
    """

    def __new__(cls, region: Region, worker: int = 0) -> DeploymentTable: ...
    @staticmethod
    def bytes_for(entries: int) -> int:
        """Return the size of a region for so many entries."""
    def begin(self, entry: int) -> None:
        """Count one more attempt in flight."""
    def end(self, entry: int) -> None:
        """Count one attempt in flight less."""
    def in_flight(self, entry: int) -> int:
        """Return how many attempts are in flight, over all workers."""
    def count(self, entry: int, now_ns: int, failed: bool) -> None:
        """Count the outcome of an attempt."""
    def successes(self, entry: int, now_ns: int) -> int:
        """Return the successes of the last 60 s."""
    def failures(self, entry: int, now_ns: int) -> int:
        """Return the failures of the last 60 s."""
    def cool_down(self, entry: int, until_ns: int) -> None:
        """Take the deployment out of use until then; 0: put it back."""
    def cooling_until_ns(self, entry: int) -> int:
        """Return when the deployment is used again; 0: it was never out of use."""
