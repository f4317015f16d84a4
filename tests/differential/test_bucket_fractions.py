"""The tables against what they promise, written down with lists and fractions.

The oracles keep every single use with its time and know nothing of rings, slots or fixed point.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from fastgate._core.bucket import BucketTable, LimitTable
from fastgate._core.table import Region

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
ADMITTED, REQUESTS, TOKENS, PARALLEL = range(4)

# Steps that land on, just before and just after the edges of seconds, and of the minute.
steps = st.one_of(
    st.integers(0, 3 * SECOND),
    st.sampled_from([0, 1, SECOND - 1, SECOND, 59 * SECOND, MINUTE - 1, MINUTE, 61 * SECOND]),
    st.integers(0, 4 * MINUTE),
)


@dataclass
class Reservation:
    at_ns: int
    worker: int
    tokens: int
    uses: list[tuple[int, int]] = field(default_factory=list)
    """Tokens charged: when, how many."""
    cancelled: bool = False


class Minute:
    """What is admitted when every use counts until its second is 61 seconds old."""

    def __init__(self) -> None:
        self.made: list[Reservation] = []
        self.running: list[Reservation] = []

    def requests(self, now_ns: int) -> int:
        return sum(counts(r.at_ns, now_ns) for r in self.made if not r.cancelled)

    def tokens(self, now_ns: int) -> int:
        return sum(n for r in self.made for at_ns, n in r.uses if counts(at_ns, now_ns))

    def reserve(
        self, now_ns: int, worker: int, limits: tuple[int, int, int], tokens: int
    ) -> tuple[int, Reservation | None]:
        rpm, tpm, parallel = limits
        if rpm >= 0 and self.requests(now_ns) + 1 > rpm:
            return REQUESTS, None
        if tpm >= 0 and self.tokens(now_ns) + max(tokens, 1) > tpm:
            return TOKENS, None
        if parallel >= 0 and len(self.running) + 1 > parallel:
            return PARALLEL, None
        made = Reservation(now_ns, worker, tokens, [(now_ns, tokens)])
        self.made.append(made)
        self.running.append(made)
        return ADMITTED, made

    def settle(self, reservation: Reservation, now_ns: int, delta: int) -> None:
        self.running.remove(reservation)
        if counts(reservation.at_ns, now_ns):
            reservation.uses.append((reservation.at_ns, delta))
        elif delta > 0:
            reservation.uses.append((now_ns, delta))

    def cancel(self, reservation: Reservation) -> None:
        self.running.remove(reservation)
        reservation.cancelled = True
        reservation.uses.clear()


def counts(at_ns: int, now_ns: int) -> bool:
    return now_ns // SECOND - at_ns // SECOND <= 60


@settings(max_examples=300)
@given(st.data())
def test_a_limit_table_admits_what_the_list_admits(data: st.DataObject) -> None:
    region = Region(bytearray(LimitTable.bytes_for(3)))
    tables = [LimitTable(region, worker) for worker in range(3)]
    limits = data.draw(st.tuples(st.integers(-1, 5), st.integers(-1, 60), st.integers(-1, 4)))
    minute = Minute()
    now = data.draw(st.integers(0, 10**12))
    entry = tables[0].entry(7, now)
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(steps)
        worker = data.draw(st.integers(0, 2))
        table = tables[worker]
        # An idle entry may not be kept by anyone, so each use looks it up.
        assert table.entry(7, now) == entry
        action = data.draw(st.sampled_from(["reserve", "reserve", "settle", "cancel", "release"]))
        own = [r for r in minute.running if r.worker == worker]
        if action == "reserve":
            tokens = data.draw(st.integers(0, 30))
            expected, _ = minute.reserve(now, worker, limits, tokens)
            assert table.reserve(entry, now, *limits, tokens) == expected
        elif action == "release":
            tables[(worker + 1) % 3].release_worker(worker)
            minute.running = [r for r in minute.running if r.worker != worker]
        elif own and action == "settle":
            reservation = data.draw(st.sampled_from(own))
            delta = data.draw(st.integers(-reservation.tokens, 30))
            minute.settle(reservation, now, delta)
            table.settle(entry, now, reservation.at_ns, delta)
        elif own:
            reservation = data.draw(st.sampled_from(own))
            minute.cancel(reservation)
            table.cancel(entry, now, reservation.at_ns, reservation.tokens)
        assert table.requests_used(entry, now) == minute.requests(now)
        assert table.tokens_used(entry, now) == minute.tokens(now)
        assert table.in_flight(entry) == len(minute.running)


@settings(max_examples=300)
@given(st.integers(1, 6), st.lists(steps, min_size=1, max_size=60))
def test_no_60_seconds_hold_more_than_the_limit(limit: int, waits: list[int]) -> None:
    table = LimitTable(Region(bytearray(LimitTable.bytes_for(1))))
    now = SECOND
    admitted: list[int] = []
    for wait in waits:
        now += wait
        entry = table.entry(7, now)
        if table.reserve(entry, now, limit, -1, -1, 0) == ADMITTED:
            admitted.append(now)
            assert sum(now - at <= MINUTE for at in admitted) <= limit
        else:
            # And no one is refused who would have been right a second later.
            assert sum(now - at < MINUTE + SECOND for at in admitted) >= limit


@settings(max_examples=200)
@given(st.integers(1, 50), st.lists(st.tuples(steps, st.integers(1, 20)), max_size=20))
def test_a_limits_wait_is_exact(limit: int, uses: list[tuple[int, int]]) -> None:
    table = LimitTable(Region(bytearray(LimitTable.bytes_for(1))))
    now = SECOND
    for wait, tokens in uses:
        now += wait
        entry = table.entry(7, now)
        if table.reserve(entry, now, -1, limit, -1, tokens) == ADMITTED:
            continue
        wait = table.wait_ns(entry, now, TOKENS, limit, tokens)
        if tokens > limit:
            assert wait == -1
            continue
        assert table.reserve(entry, now + wait - 1, -1, limit, -1, tokens) == TOKENS
        now += wait
        entry = table.entry(7, now)
        assert table.reserve(entry, now, -1, limit, -1, tokens) == ADMITTED


class Bucket:
    """A token bucket in fractions."""

    def __init__(self, capacity: Fraction, refill_per_s: Fraction, now_ns: int) -> None:
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.level = capacity
        self.at_ns = now_ns

    def refill(self, now_ns: int) -> None:
        gained = self.refill_per_s * Fraction(now_ns - self.at_ns, SECOND)
        self.level = min(self.capacity, self.level + gained)
        self.at_ns = now_ns

    def take(self, now_ns: int, amount: Fraction) -> bool:
        self.refill(now_ns)
        if amount > self.level:
            return False
        self.level = min(self.capacity, self.level - amount)
        return True

    def wait_ns(self, now_ns: int, amount: Fraction) -> int:
        self.refill(now_ns)
        if amount <= self.level:
            return 0
        if amount > self.capacity or not self.refill_per_s:
            return -1
        return ceil((amount - self.level) * SECOND / self.refill_per_s)


# Millionths are what the table resolves; a double holds them exactly enough up to 2^33 of them.
millionths = st.one_of(
    st.integers(0, 10**7), st.integers(0, 2**33), st.sampled_from([1, 333_333, 10**6])
)


@settings(max_examples=500)
@given(
    capacity=millionths,
    rate=millionths,
    uses=st.lists(
        st.tuples(st.one_of(steps, st.integers(0, 10**4)), st.integers(-(10**6), 2**33)),
        max_size=60,
    ),
)
def test_a_bucket_holds_what_the_fractions_hold(
    capacity: int, rate: int, uses: list[tuple[int, int]]
) -> None:
    table = BucketTable(Region(bytearray(BucketTable.bytes_for(1))))
    now = SECOND
    entry = table.entry(7, now)
    given_as = (capacity / 10**6, rate / 10**6)
    bucket = Bucket(Fraction(capacity, 10**6), Fraction(rate, 10**6), now)
    for wait, amount in uses:
        now += wait
        wanted = Fraction(amount, 10**6)
        if amount >= 0:
            expected_ns = bucket.wait_ns(now, wanted)
            assert table.wait_ns(entry, now, *given_as, amount / 10**6) == expected_ns
            if 0 < expected_ns < 10**15:
                assert not table.take(entry, now + expected_ns - 1, *given_as, amount / 10**6)
                now += expected_ns
        assert table.take(entry, now, *given_as, amount / 10**6) == bucket.take(now, wanted)
        # What is left, to the millionth.
        left = int(bucket.level * 10**6)
        assert table.wait_ns(entry, now, *given_as, left / 10**6) == 0
        assert table.wait_ns(entry, now, *given_as, (left + 1) / 10**6) != 0
