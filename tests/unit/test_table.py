import mmap
import struct

import pytest

from fastgate._core.bucket import DeploymentTable, LimitTable
from fastgate._core.table import CONTROL, MAX_WORKERS, SUPERVISOR, Region, Table

SECOND = 1_000_000_000
IDLE = 120 * SECOND


def memory_of(entries: int) -> bytearray:
    return bytearray(LimitTable.bytes_for(entries))


def test_a_region_has_to_lie_in_the_buffer_aligned_and_writable() -> None:
    with pytest.raises(ValueError, match="100 bytes at 8 do not lie in a buffer of 64"):
        Region(bytearray(64), 8, 100)
    with pytest.raises(ValueError, match="do not lie in a buffer"):
        Region(bytearray(64), 65)
    with pytest.raises(ValueError, match="aligned to 8 bytes"):
        Region(bytearray(64), 4)
    with pytest.raises(BufferError, match="writable"):
        Region(bytes(64))
    with pytest.raises(BufferError, match="contiguous"):
        Region(memoryview(bytearray(64))[::2])
    assert Region(bytearray(64), 8).size == 56
    assert Region(bytearray(64), 8, 16).size == 16


def test_a_region_keeps_its_buffer_from_being_closed() -> None:
    mapped = mmap.mmap(-1, mmap.PAGESIZE)
    region = Region(mapped)
    with pytest.raises(BufferError):
        mapped.close()
    del region
    mapped.close()


def test_capacity_is_what_the_region_has_room_for() -> None:
    for entries in range(1, 40):
        size = LimitTable.bytes_for(entries)
        assert LimitTable(Region(bytearray(size))).capacity == entries
        assert LimitTable(Region(bytearray(size + 64))).capacity == entries
        if entries > 1:
            assert LimitTable(Region(bytearray(size - 1))).capacity == entries - 1
    with pytest.raises(ValueError, match="no room for an entry"):
        LimitTable(Region(bytearray(LimitTable.bytes_for(1) - 1)))


def test_a_slot_is_a_workers_controls_or_the_supervisors() -> None:
    region = Region(memory_of(1))
    for worker in (0, MAX_WORKERS - 1, CONTROL, SUPERVISOR):
        assert LimitTable(region, worker).worker == worker
    for worker in (-1, SUPERVISOR + 1):
        with pytest.raises(ValueError, match="expected a worker below 66"):
            LimitTable(region, worker)


def test_a_table_of_no_kind_has_bare_entries() -> None:
    table = Table(Region(bytearray(64 + 64 + 64 * 8)))
    assert table.capacity == 8
    assert {table.entry(key, SECOND) for key in range(10, 18)} == set(range(8))
    table.release_worker(0)
    assert table.entry(10, SECOND) >= 0


def test_a_key_has_one_entry_for_all_workers() -> None:
    region = Region(memory_of(64))
    tables = [LimitTable(region, worker) for worker in range(3)]
    keys = [key * 0x0123456789ABCDEF % 2**64 for key in range(1, 61)]
    first = {key: tables[key % 3].entry(key, SECOND) for key in keys}
    assert sorted(first.values()) == sorted(set(first.values()))
    for table in tables:
        assert {key: table.entry(key, SECOND) for key in keys} == first


@pytest.mark.parametrize("key", [0, 1, 2, 2**63, 2**64 - 3])
def test_any_key_is_a_key(key: int) -> None:
    table = LimitTable(Region(memory_of(4)))
    entry = table.entry(key, SECOND)
    assert entry >= 0
    assert table.entry(key, SECOND) == entry
    assert table.entry(77, SECOND) != entry


def test_a_full_table_has_no_entry_for_another_key() -> None:
    table = LimitTable(Region(memory_of(8)))
    entries = {table.entry(key, SECOND) for key in range(10, 18)}
    assert entries == set(range(8))
    assert table.entry(99, SECOND) == -1
    assert table.entry(99, SECOND + IDLE - 1) == -1
    assert table.entry(10, SECOND) >= 0


def test_an_idle_entry_is_handed_on_zeroed() -> None:
    table = LimitTable(Region(memory_of(1)))
    entry = table.entry(5, SECOND)
    assert table.reserve(entry, SECOND, 10, 1000, -1, 500) == 0
    table.settle(entry, SECOND, SECOND, 0)
    assert table.entry(6, SECOND + IDLE - 1) == -1
    assert table.entry(6, SECOND + IDLE) == entry
    assert table.requests_used(entry, SECOND + IDLE) == 0
    assert table.tokens_used(entry, SECOND + IDLE) == 0
    assert table.entry(5, SECOND + IDLE) == -1


def test_looking_an_entry_up_keeps_it() -> None:
    table = LimitTable(Region(memory_of(1)))
    entry = table.entry(5, SECOND)
    # Within 60 s of its last use an entry is found without being touched.
    assert table.entry(5, 60 * SECOND) == entry
    assert table.entry(5, 100 * SECOND) == entry
    assert table.entry(6, SECOND + IDLE) == -1
    assert table.entry(6, 100 * SECOND + IDLE) == entry


def test_an_entry_with_a_request_in_flight_is_never_handed_on() -> None:
    table = LimitTable(Region(memory_of(1)))
    entry = table.entry(5, SECOND)
    table.reserve(entry, SECOND, -1, -1, -1, 0)
    day = 86_400 * SECOND
    assert table.entry(6, day) == -1
    table.settle(entry, day, SECOND, 0)
    assert table.entry(6, day + IDLE - 1) == -1
    assert table.entry(6, day + IDLE) == entry


def test_what_a_dead_worker_had_in_flight_keeps_no_entry() -> None:
    region = Region(memory_of(1))
    dead, living = LimitTable(region, 3), LimitTable(region, 4)
    entry = dead.entry(5, SECOND)
    dead.reserve(entry, SECOND, -1, -1, -1, 0)
    assert living.entry(6, SECOND + IDLE) == -1
    living.release_worker(3)
    assert living.entry(6, SECOND + IDLE) == entry


def test_idle_places_on_the_path_are_used_before_new_ones() -> None:
    table = LimitTable(Region(memory_of(64)))
    old = table.entry(5, SECOND)
    # The same key's path starts at the same place.
    for key in range(1000, 3000):
        entry = table.entry(key, SECOND + IDLE * (key - 998))
        assert entry >= 0
        if entry == old:
            return
    pytest.fail("2,000 keys, and none was given the idle entry")


def test_keys_stay_found_while_others_come_and_go() -> None:
    table = LimitTable(Region(memory_of(16)))
    now = SECOND
    kept = {}
    for key in (3, 4, 5):
        kept[key] = table.entry(key, now)
        table.reserve(kept[key], now, -1, -1, -1, 0)
    for round_number in range(200):
        now += IDLE
        for key in range(13):
            assert table.entry(100 + 13 * round_number + key, now) >= 0
        for key, entry in kept.items():
            assert table.entry(key, now) == entry
            assert table.in_flight(entry) == 1


def test_a_crash_while_an_entry_was_handed_on_loses_nothing_but_the_old_key() -> None:
    memory = memory_of(1)
    table = LimitTable(Region(memory))
    table.entry(5, SECOND)
    # The key as a process leaves it that dies between taking the entry and giving it out.
    struct.pack_into("<Q", memory, 64, 1)
    assert table.entry(6, 2 * SECOND) == 0
    assert table.entry(6, 2 * SECOND) == 0
    assert table.entry(5, 2 * SECOND) == -1


def test_releasing_a_slot_that_is_none_does_nothing() -> None:
    table = LimitTable(Region(memory_of(1)))
    entry = table.entry(5, SECOND)
    table.reserve(entry, SECOND, -1, -1, -1, 0)
    for worker in (-1, 66, 2**31 - 1):
        table.release_worker(worker)
    assert table.in_flight(entry) == 1


def test_deployments_belong_to_their_process_until_it_dies() -> None:
    region = Region(bytearray(DeploymentTable.bytes_for(1)))
    mine, yours = DeploymentTable(region, 0), DeploymentTable(region, 1)
    entry = mine.entry(5, SECOND)
    assert yours.entry(5, SECOND) == entry
    later = SECOND + 2 * IDLE
    assert yours.entry(6, later) == -1
    yours.release_worker(0)
    assert yours.entry(6, later) == -1
    yours.release_worker(1)
    assert yours.entry(6, later) == entry
