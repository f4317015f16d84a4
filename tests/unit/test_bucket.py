import math
import struct

import pytest

from fastgate._core.bucket import BucketTable, DeploymentTable, LimitTable
from fastgate._core.table import CONTROL, Region

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
ADMITTED, REQUESTS, TOKENS, PARALLEL = range(4)


@pytest.fixture
def table() -> LimitTable:
    return LimitTable(Region(bytearray(LimitTable.bytes_for(8))))


@pytest.fixture
def buckets() -> BucketTable:
    return BucketTable(Region(bytearray(BucketTable.bytes_for(8))))


@pytest.fixture
def deployments() -> DeploymentTable:
    return DeploymentTable(Region(bytearray(DeploymentTable.bytes_for(8))))


def lock_offset(table: type, capacity: int, entry: int) -> int:
    """Return where an entry's lock word stands in its region."""
    entry_bytes = (table.bytes_for(16) - table.bytes_for(8)) // 8 - 8
    return table.bytes_for(capacity) - (capacity - entry) * entry_bytes


class TestLimits:
    def test_all_of_a_minute_can_be_used_at_once_and_no_more(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        answers = [table.reserve(entry, MINUTE, 3, -1, -1, 0) for _ in range(5)]
        assert answers == [ADMITTED] * 3 + [REQUESTS] * 2
        assert table.requests_used(entry, MINUTE) == 3

    def test_a_use_counts_until_more_than_60_s_have_gone(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        late_in_its_second = MINUTE + SECOND - 1
        assert table.reserve(entry, late_in_its_second, 1, -1, -1, 0) == ADMITTED
        # 59.000000001 s later, in a second whose number is 60 higher.
        assert table.reserve(entry, 2 * MINUTE, 1, -1, -1, 0) == REQUESTS
        assert table.reserve(entry, 2 * MINUTE + SECOND - 1, 1, -1, -1, 0) == REQUESTS
        assert table.reserve(entry, 2 * MINUTE + SECOND, 1, -1, -1, 0) == ADMITTED

    def test_a_limit_of_zero_admits_nothing_and_one_below_zero_is_none(
        self, table: LimitTable
    ) -> None:
        entry = table.entry(5, MINUTE)
        assert table.reserve(entry, MINUTE, 0, -1, -1, 0) == REQUESTS
        assert table.reserve(entry, MINUTE, -1, 0, -1, 0) == TOKENS
        assert table.reserve(entry, MINUTE, -1, -1, 0, 0) == PARALLEL
        for _ in range(1000):
            assert table.reserve(entry, MINUTE, -1, -1, -1, 10**9) == ADMITTED

    @pytest.mark.parametrize(
        ("limits", "refusal"),
        [((2, 100, 2), REQUESTS), ((9, 20, 2), TOKENS), ((9, 100, 2), PARALLEL)],
    )
    def test_a_refused_request_takes_nothing(
        self, table: LimitTable, limits: tuple[int, int, int], refusal: int
    ) -> None:
        entry = table.entry(5, MINUTE)
        for _ in range(2):
            assert table.reserve(entry, MINUTE, *limits, 10) == ADMITTED
        for _ in range(5):
            assert table.reserve(entry, MINUTE, *limits, 10) == refusal
        assert table.requests_used(entry, MINUTE) == 2
        assert table.tokens_used(entry, MINUTE) == 20
        assert table.in_flight(entry) == 2

    def test_tokens_not_known_yet_need_room_for_one(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        assert table.reserve(entry, MINUTE, -1, 10, -1, 0) == ADMITTED
        table.settle(entry, MINUTE, MINUTE, 10)
        assert table.reserve(entry, MINUTE, -1, 10, -1, 0) == TOKENS

    def test_settling_corrects_the_second_of_the_reservation(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        table.reserve(entry, MINUTE, -1, 100, -1, 50)
        later = MINUTE + 30 * SECOND
        table.settle(entry, later, MINUTE, -20)
        assert table.tokens_used(entry, later) == 30
        assert table.in_flight(entry) == 0
        table.reserve(entry, later, -1, 100, -1, 10)
        table.settle(entry, later + SECOND, later, 25)
        assert table.tokens_used(entry, later + SECOND) == 65
        assert table.tokens_used(entry, MINUTE + 61 * SECOND) == 35
        assert table.tokens_used(entry, later + 61 * SECOND) == 0

    def test_settling_after_the_window_charges_now_and_gives_nothing_back(
        self, table: LimitTable
    ) -> None:
        entry = table.entry(5, MINUTE)
        for _ in range(2):
            table.reserve(entry, MINUTE, -1, 1000, -1, 50)
        later = MINUTE + 61 * SECOND
        table.reserve(entry, later, -1, 1000, -1, 5)
        table.settle(entry, later, MINUTE, -50)
        assert table.tokens_used(entry, later) == 5
        table.settle(entry, later, MINUTE, 7)
        assert table.tokens_used(entry, later) == 12
        assert table.tokens_used(entry, later + 60 * SECOND) == 12
        assert table.tokens_used(entry, later + 61 * SECOND) == 0

    def test_cancelling_takes_the_whole_reservation_back(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        assert table.reserve(entry, MINUTE, 1, 10, 1, 10) == ADMITTED
        table.cancel(entry, MINUTE + SECOND, MINUTE, 10)
        assert table.requests_used(entry, MINUTE + SECOND) == 0
        assert table.tokens_used(entry, MINUTE + SECOND) == 0
        assert table.reserve(entry, MINUTE + SECOND, 1, 10, 1, 10) == ADMITTED

    def test_cancelling_after_the_window_takes_nothing_of_others(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        later = MINUTE + 61 * SECOND
        table.reserve(entry, MINUTE, 10, 100, -1, 10)
        table.reserve(entry, later, 10, 100, -1, 10)
        table.cancel(entry, later, MINUTE, 10)
        assert table.requests_used(entry, later) == 1
        assert table.tokens_used(entry, later) == 10
        assert table.in_flight(entry) == 1

    def test_the_count_in_flight_never_falls_below_zero(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        table.reserve(entry, MINUTE, -1, -1, 1, 0)
        table.release_worker(0)
        # The request of a worker that was thought dead ends all the same.
        table.settle(entry, MINUTE, MINUTE, 0)
        assert table.in_flight(entry) == 0
        assert table.reserve(entry, MINUTE, -1, -1, 1, 0) == ADMITTED

    def test_a_clock_that_lags_behind_is_charged_to_the_newest_second(
        self, table: LimitTable
    ) -> None:
        entry = table.entry(5, MINUTE)
        assert table.reserve(entry, MINUTE, 2, 20, -1, 10) == ADMITTED
        lagging = MINUTE - 1
        assert table.reserve(entry, lagging, 2, 20, -1, 10) == ADMITTED
        assert table.reserve(entry, lagging, 2, 20, -1, 10) == REQUESTS
        table.settle(entry, lagging, lagging, -10)
        assert table.tokens_used(entry, MINUTE) == 10
        assert table.tokens_used(entry, MINUTE + 60 * SECOND) == 10
        table.cancel(entry, MINUTE, MINUTE, 10)
        assert table.tokens_used(entry, MINUTE) == 0
        assert table.requests_used(entry, MINUTE) == 1

    def test_waiting_is_exact_and_never_for_what_can_not_fit(self, table: LimitTable) -> None:
        entry = table.entry(5, MINUTE)
        assert table.wait_ns(entry, MINUTE, REQUESTS, 3, 1) == 0
        for i in range(3):
            table.reserve(entry, MINUTE + i * SECOND + 7, 3, -1, -1, 20)
        now = MINUTE + 5 * SECOND
        wait = table.wait_ns(entry, now, REQUESTS, 3, 1)
        assert wait == MINUTE + 61 * SECOND - now
        assert table.wait_ns(entry, now, TOKENS, 60, 30) == MINUTE + 62 * SECOND - now
        assert table.wait_ns(entry, now, TOKENS, 60, 61) == -1
        assert table.wait_ns(entry, now, REQUESTS, 0, 1) == -1
        assert table.wait_ns(entry, now, REQUESTS, -1, 1) == 0
        assert table.wait_ns(entry, now, PARALLEL, 0, 1) == 0
        assert table.reserve(entry, now + wait - 1, 3, -1, -1, 0) == REQUESTS
        assert table.reserve(entry, now + wait, 3, -1, -1, 0) == ADMITTED

    def test_waiting_right_after_boot_does_not_look_before_time_zero(
        self, table: LimitTable
    ) -> None:
        entry = table.entry(5, 0)
        assert table.reserve(entry, 0, 1, -1, -1, 0) == ADMITTED
        assert table.wait_ns(entry, SECOND, REQUESTS, 1, 1) == 60 * SECOND

    def test_in_flight_is_counted_over_all_workers(self) -> None:
        region = Region(bytearray(LimitTable.bytes_for(8)))
        tables = [LimitTable(region, worker) for worker in (0, 1, 63, CONTROL)]
        entry = tables[0].entry(5, MINUTE)
        answers = [tables[i % 4].reserve(entry, MINUTE, -1, -1, 6, 0) for i in range(8)]
        assert answers == [ADMITTED] * 6 + [PARALLEL] * 2
        tables[0].release_worker(1)
        assert tables[3].in_flight(entry) == 4

    @pytest.mark.parametrize("entry", [-1, 8, 2**40])
    def test_an_entry_out_of_range_is_refused_or_counts_nothing(
        self, table: LimitTable, entry: int
    ) -> None:
        with pytest.raises(IndexError, match="in a table of 8"):
            table.reserve(entry, MINUTE, -1, -1, -1, 0)
        table.settle(entry, MINUTE, MINUTE, 5)
        table.cancel(entry, MINUTE, MINUTE, 5)
        assert table.requests_used(entry, MINUTE) == 0
        assert table.tokens_used(entry, MINUTE) == 0
        assert table.in_flight(entry) == 0
        assert table.wait_ns(entry, MINUTE, REQUESTS, 0, 1) == 0


class TestCrashes:
    def test_releasing_takes_over_a_dead_workers_lock_and_adds_up_anew(self) -> None:
        memory = bytearray(LimitTable.bytes_for(8))
        table = LimitTable(Region(memory), 0)
        entry = table.entry(5, MINUTE)
        for i in range(10):
            table.reserve(entry, MINUTE + i * SECOND, 100, -1, -1, 3)
        at = lock_offset(LimitTable, 8, entry)
        assert memory[at : at + 4] == bytes(4)
        # Worker 2 died inside, after it had counted a request in a slot and not in the sum.
        struct.pack_into("<I", memory, at, 3)
        sum_at = memory.index(struct.pack("<qq", 69, 10), at) + 8
        struct.pack_into("<q", memory, sum_at, 9)
        table.release_worker(1)
        assert struct.unpack_from("<I", memory, at) == (3,)
        table.release_worker(2)
        assert struct.unpack_from("<I", memory, at) == (0,)
        now = MINUTE + 10 * SECOND
        assert table.requests_used(entry, now) == 10
        assert table.tokens_used(entry, now) == 30
        for i in range(62):
            used = table.requests_used(entry, now + i * SECOND)
        assert used == 0

    def test_releasing_opens_the_tables_lock(self) -> None:
        memory = bytearray(LimitTable.bytes_for(8))
        table = LimitTable(Region(memory), 0)
        struct.pack_into("<I", memory, 0, 3)
        table.release_worker(2)
        assert table.entry(5, MINUTE) >= 0

    def test_a_bucket_keeps_its_old_state_when_a_take_is_cut_short(self) -> None:
        memory = bytearray(BucketTable.bytes_for(8))
        table = BucketTable(Region(memory), 0)
        entry = table.entry(5, MINUTE)
        assert table.take(entry, MINUTE, 10, 0, 4)
        at = lock_offset(BucketTable, 8, entry)
        current = struct.unpack_from("<I", memory, at + 24)[0]
        # Worker 2 died while it wrote the state that is not current.
        struct.pack_into("<I", memory, at, 3)
        memory[at + 32 + 24 * (1 - current) :][:8] = b"\xff" * 8
        table.release_worker(2)
        assert not table.take(entry, MINUTE, 10, 0, 6.000001)
        assert table.take(entry, MINUTE, 10, 0, 6)


class TestTokenBuckets:
    def test_a_new_bucket_is_full_and_refills_up_to_its_capacity(
        self, buckets: BucketTable
    ) -> None:
        entry = buckets.entry(5, MINUTE)
        assert [buckets.take(entry, MINUTE, 3, 0.5, 1) for _ in range(4)] == [1, 1, 1, 0]
        assert buckets.wait_ns(entry, MINUTE, 3, 0.5, 1) == 2 * SECOND
        assert not buckets.take(entry, MINUTE + 2 * SECOND - 1, 3, 0.5, 1)
        assert buckets.take(entry, MINUTE + 2 * SECOND, 3, 0.5, 1)
        much_later = 100 * MINUTE
        assert [buckets.take(entry, much_later, 3, 0.5, 1) for _ in range(4)] == [1, 1, 1, 0]

    def test_thirds_of_a_token_do_not_drift(self, buckets: BucketTable) -> None:
        entry = buckets.entry(5, 0)
        assert buckets.take(entry, 0, 1, 3, 1)
        # At 3 tokens a second, a million seconds are three million tokens, to the last one.
        taken = 0
        for second in range(0, 1_000_000, 997):
            now = (second + 997) * SECOND
            while buckets.take(entry, now, 3 * 997, 3, 997):
                taken += 997
        assert taken == 3 * (999_991 // 997 + 1) * 997 + 0

    def test_what_can_never_be_had_is_not_waited_for(self, buckets: BucketTable) -> None:
        entry = buckets.entry(5, MINUTE)
        assert buckets.wait_ns(entry, MINUTE, 3, 1, 3) == 0
        assert buckets.wait_ns(entry, MINUTE, 3, 1, 3.000001) == -1
        buckets.take(entry, MINUTE, 3, 0, 3)
        assert buckets.wait_ns(entry, MINUTE, 3, 0, 1) == -1
        assert not buckets.take(entry, 10**18, 3, 0, 1)

    def test_a_negative_amount_is_given_back(self, buckets: BucketTable) -> None:
        entry = buckets.entry(5, MINUTE)
        assert buckets.take(entry, MINUTE, 10, 0, 10)
        assert buckets.take(entry, MINUTE, 10, 0, -4)
        assert not buckets.take(entry, MINUTE, 10, 0, 5)
        assert buckets.take(entry, MINUTE, 10, 0, 4)
        assert buckets.take(entry, MINUTE, 10, 0, -1000)
        assert not buckets.take(entry, MINUTE, 10, 0, 11)
        assert buckets.take(entry, MINUTE, 10, 0, 10)

    @pytest.mark.parametrize("strange", [math.inf, 1e300])
    def test_huge_numbers_are_cut_not_wrapped(self, buckets: BucketTable, strange: float) -> None:
        entry = buckets.entry(5, MINUTE)
        assert buckets.take(entry, MINUTE, strange, strange, 10**12)
        assert buckets.take(entry, MINUTE + 1, strange, strange, 10**12)
        assert not buckets.take(entry, MINUTE + 1, 10, 1, strange)
        assert buckets.wait_ns(entry, MINUTE, strange, 1e-6, strange) > 0

    def test_a_number_that_is_none_counts_as_zero(self, buckets: BucketTable) -> None:
        entry = buckets.entry(5, MINUTE)
        assert not buckets.take(entry, MINUTE, math.nan, 1, 1)
        assert buckets.take(entry, MINUTE, 1, math.nan, 1)
        assert buckets.wait_ns(entry, 2 * MINUTE, 1, math.nan, 1) == -1

    def test_a_bucket_that_is_not_full_again_is_kept(self) -> None:
        table = BucketTable(Region(bytearray(BucketTable.bytes_for(1))))
        entry = table.entry(5, MINUTE)
        table.take(entry, MINUTE, 1000, 1, 1000)
        full_at = MINUTE + 1000 * SECOND
        assert table.entry(6, full_at - 1) == -1
        assert table.entry(6, full_at + 1_000_000_000) == entry
        assert table.take(entry, full_at + SECOND, 1000, 1, 1000)

    @pytest.mark.parametrize("entry", [-1, 8])
    def test_an_entry_out_of_range_is_refused(self, buckets: BucketTable, entry: int) -> None:
        with pytest.raises(IndexError, match="in a table of 8"):
            buckets.take(entry, MINUTE, 1, 1, 1)
        assert buckets.wait_ns(entry, MINUTE, 1, 1, 1) == 0


class TestDeployments:
    def test_in_flight_is_counted_over_all_workers(self) -> None:
        region = Region(bytearray(DeploymentTable.bytes_for(8)))
        a, b = DeploymentTable(region, 0), DeploymentTable(region, 1)
        entry = a.entry(5, MINUTE)
        for _ in range(3):
            a.begin(entry)
            b.begin(entry)
        a.end(entry)
        assert a.in_flight(entry) == b.in_flight(entry) == 5
        a.release_worker(1)
        assert a.in_flight(entry) == 2
        b.end(entry)
        assert a.in_flight(entry) == 2

    def test_outcomes_count_for_a_minute(self, deployments: DeploymentTable) -> None:
        entry = deployments.entry(5, MINUTE)
        deployments.count(entry, MINUTE, True)
        deployments.count(entry, MINUTE + 10 * SECOND, False)
        deployments.count(entry, MINUTE + 10 * SECOND, False)
        now = MINUTE + 60 * SECOND
        assert (deployments.failures(entry, now), deployments.successes(entry, now)) == (1, 2)
        now += SECOND
        assert (deployments.failures(entry, now), deployments.successes(entry, now)) == (0, 2)
        now += 10 * SECOND
        assert (deployments.failures(entry, now), deployments.successes(entry, now)) == (0, 0)

    def test_a_cooldown_is_seen_by_all_and_keeps_the_entry(self) -> None:
        region = Region(bytearray(DeploymentTable.bytes_for(1)))
        a, b = DeploymentTable(region, 0), DeploymentTable(region, 1)
        entry = a.entry(5, MINUTE)
        assert b.cooling_until_ns(entry) == 0
        a.cool_down(entry, 90 * MINUTE)
        assert b.cooling_until_ns(entry) == 90 * MINUTE
        b.release_worker(0)
        assert b.entry(6, 90 * MINUTE - 1) == -1
        assert b.entry(6, 91 * MINUTE) == entry
        assert b.cooling_until_ns(entry) == 0

    def test_a_deployment_beyond_the_table_counts_nothing(
        self, deployments: DeploymentTable
    ) -> None:
        deployments.begin(-1)
        deployments.count(-1, MINUTE, True)
        deployments.cool_down(-1, MINUTE)
        deployments.end(-1)
        assert deployments.in_flight(-1) == 0
        assert deployments.failures(-1, MINUTE) == deployments.successes(-1, MINUTE) == 0
        assert deployments.cooling_until_ns(-1) == 0
