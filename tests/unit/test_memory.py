import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastgate.observe import memory
from fastgate.observe.metrics import render

SECOND = 1_000_000_000


@pytest.fixture
def fd() -> Iterator[int]:
    fd = memory.create(2)
    yield fd
    os.close(fd)


def test_all_processes_see_the_same_tables_and_nothing_overlaps(fd: int) -> None:
    shared = [memory.open(fd, slot) for slot in (0, 1, memory.CONTROL, memory.SUPERVISOR)]
    assert [each.worker for each in shared] == [0, 1, memory.CONTROL, memory.SUPERVISOR]
    assert {each.workers for each in shared} == {2}
    first, second = shared[:2]
    limit = first.limits.entry(5, SECOND)
    bucket = first.buckets.entry(5, SECOND)
    deployment = first.deployments.entry(5, SECOND)
    first.limits.reserve(limit, SECOND, -1, -1, -1, 10)
    first.buckets.take(bucket, SECOND, 10, 0, 10)
    first.deployments.begin(deployment)
    for each in shared:
        for _ in range(3):
            each.metrics(each.worker).counter("fastgate_worker_restarts_total").add(1)
    assert second.limits.entry(5, SECOND) == limit
    assert second.limits.tokens_used(limit, SECOND) == 10
    assert second.buckets.entry(5, SECOND) == bucket
    assert not second.buckets.take(bucket, SECOND, 10, 0, 1)
    assert second.deployments.entry(5, SECOND) == deployment
    assert second.deployments.in_flight(deployment) == 1


def test_releasing_a_worker_gives_back_all_that_it_had(fd: int) -> None:
    dead, supervisor = memory.open(fd, 0), memory.open(fd, memory.SUPERVISOR)
    limit = dead.limits.entry(5, SECOND)
    deployment = dead.deployments.entry(5, SECOND)
    dead.limits.reserve(limit, SECOND, -1, -1, -1, 0)
    dead.deployments.begin(deployment)
    dead.metrics(0).gauge("fastgate_connections").set(5)
    dead.metrics(0).counter("fastgate_worker_restarts_total").add(2)
    supervisor.release_worker(0)
    assert supervisor.limits.in_flight(limit) == 0
    assert supervisor.deployments.in_flight(deployment) == 0
    page = render(supervisor)
    assert b"\nfastgate_connections 0\n" in page
    assert b"\nfastgate_worker_restarts_total 2\n" in page


def test_what_is_not_used_costs_no_memory(fd: int) -> None:
    def used_bytes() -> int:
        return os.fstat(fd).st_blocks * 512

    assert used_bytes() <= mmap.PAGESIZE
    for slot in (0, 1, memory.CONTROL, memory.SUPERVISOR):
        shared = memory.open(fd, slot)
        shared.metrics(slot)
        shared.release_worker(0)
    key = 5
    shared.limits.entry(key, SECOND)
    assert os.fstat(fd).st_size > 20_000_000
    # The keys' pages are all read by releasing; of the entries, one was touched.
    assert used_bytes() < 450_000


def test_the_tables_have_the_promised_room(fd: int) -> None:
    shared = memory.open(fd, 0)
    tables = (shared.limits, shared.budgets, shared.buckets, shared.deployments)
    assert [table.capacity for table in tables] == [16_384, 16_384, 1_024, 1_024]


@pytest.mark.parametrize("workers", [0, -1, memory.MAX_WORKERS + 1])
def test_a_number_of_workers_there_are_no_slots_for_is_refused(workers: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to {memory.MAX_WORKERS} workers"):
        memory.create(workers)


@pytest.mark.parametrize("worker", [2, -1, 63, memory.SUPERVISOR + 1])
def test_a_slot_that_there_is_not_is_refused(fd: int, worker: int) -> None:
    with pytest.raises(ValueError, match="expected a worker below 2, CONTROL or SUPERVISOR"):
        memory.open(fd, worker)


def test_memory_of_another_version_is_refused(fd: int) -> None:
    os.pwrite(fd, b"\xff\xff\xff\xff", 8)
    with pytest.raises(ValueError, match="expected shared memory of version"):
        memory.open(fd, 0)


def test_a_child_that_inherits_the_descriptor_sees_the_memory(fd: int) -> None:
    script = (
        "import sys\n"
        "from fastgate.observe import memory\n"
        "shared = memory.open(int(sys.argv[1]), 1)\n"
        f"shared.limits.reserve(shared.limits.entry(5, {SECOND}), {SECOND}, -1, -1, -1, 10)\n"
        "shared.metrics(1).counter('fastgate_worker_restarts_total').add(4)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(fd)], pass_fds=[fd], check=True)
    shared = memory.open(fd, memory.SUPERVISOR)
    entry = shared.limits.entry(5, SECOND)
    assert shared.limits.tokens_used(entry, SECOND) == 10
    assert shared.limits.in_flight(entry) == 1
