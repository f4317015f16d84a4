"""Tables used by several real processes at once, some of which are killed."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastgate._core.bucket import BucketTable, LimitTable
from fastgate._core.table import Region

SECOND = 1_000_000_000

HAMMER = """
import mmap, os, sys
from fastgate._core.bucket import BucketTable, LimitTable
from fastgate._core.table import Region
fd, worker = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(fd, 0)
half = len(memory) // 2
limits = LimitTable(Region(memory, 0, half), worker)
buckets = BucketTable(Region(memory, half), worker)
"""

EXACT = (
    HAMMER
    + """
entry, bucket = limits.entry(5, 10**10), buckets.entry(5, 10**10)
print("ready", flush=True)
sys.stdin.readline()
admitted = taken = 0
for i in range(200_000):
    now = 10**10 + i * 1000
    if limits.reserve(entry, now, 500_003, 5_000_000, -1, 9) == 0:
        admitted += 1
        limits.settle(entry, now, now, 0)
    taken += buckets.take(bucket, 10**10, 500_009, 0, 1)
print(admitted, taken)
"""
)

CLAIMS = (
    HAMMER
    + """
keys = [key * 0x9E3779B97F4A7C15 % 2**64 for key in range(2, limits.capacity + 2)]
print("ready", flush=True)
sys.stdin.readline()
entries = {key: limits.entry(key, 10**10) for key in keys[worker * 7 :] + keys[: worker * 7]}
assert sorted(entries.values()) == list(range(limits.capacity))
print(*(entries[key] for key in keys))
"""
)

ENDLESS = (
    HAMMER
    + """
print("ready", flush=True)
now = int(sys.stdin.readline())
while True:
    for _ in range(1000):
        now += 10**8
        entry, bucket = limits.entry(5, now), buckets.entry(5, now)
        if limits.reserve(entry, now, 100, 10_000, -1, 9) == 0:
            limits.settle(entry, now, now, 3)
        limits.reserve(entry, now, 1000, -1, -1, 0)
        buckets.take(bucket, now, 10, 5, 1)
    print(now, flush=True)
"""
)


@pytest.fixture
def shared() -> Iterator[int]:
    """A file descriptor of memory for a LimitTable and a BucketTable, half each."""
    fd = os.memfd_create("test")
    os.truncate(fd, 256 * mmap.PAGESIZE)
    yield fd
    os.close(fd)


def start(script: str, fd: int, worker: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(fd), str(worker)],
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return child


def say(child: subprocess.Popen[str], words: str = "go") -> None:
    assert child.stdin is not None
    child.stdin.write(f"{words}\n")
    child.stdin.flush()


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_four_processes_together_are_admitted_exactly_the_limit(shared: int) -> None:
    children = [start(EXACT, shared, worker) for worker in range(4)]
    try:
        assert [line_of(child) for child in children] == ["ready"] * 4
        for child in children:
            say(child)
        counts = [tuple(map(int, line_of(child).split())) for child in children]
        assert [child.wait() for child in children] == [0] * 4
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert sum(admitted for admitted, _ in counts) == 500_003
    assert sum(taken for _, taken in counts) == 500_009
    memory = mmap.mmap(shared, 0)
    limits = LimitTable(Region(memory, 0, len(memory) // 2), 9)
    entry = limits.entry(5, 10**10)
    assert limits.requests_used(entry, 10**10) == 500_003
    assert limits.tokens_used(entry, 10**10) == 9 * 500_003
    assert limits.in_flight(entry) == 0


def test_four_processes_that_claim_at_once_agree_on_every_entry(shared: int) -> None:
    children = [start(CLAIMS, shared, worker) for worker in range(4)]
    try:
        assert [line_of(child) for child in children] == ["ready"] * 4
        for child in children:
            say(child)
        answers = {line_of(child) for child in children}
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert len(answers) == 1
    assert answers != {""}


def test_killing_a_worker_anywhere_costs_only_what_it_had(shared: int) -> None:
    memory = mmap.mmap(shared, 0)
    limits = LimitTable(Region(memory, 0, len(memory) // 2), 9)
    buckets = BucketTable(Region(memory, len(memory) // 2), 9)
    now = 10**10
    entry = limits.entry(5, now)
    for _ in range(3):
        limits.reserve(entry, now, -1, -1, -1, 0)
    for _ in range(8):
        child = start(ENDLESS, shared, 2)
        try:
            assert line_of(child) == "ready"
            say(child, str(now))
            said = [line_of(child)]
        finally:
            child.kill()
            with child:
                assert child.stdout is not None
                said += child.stdout.read().split()
        # A batch of the child's is 100 s of its time, and it was killed in the one after the last.
        now = max(map(int, said)) + 200 * SECOND
        assert limits.in_flight(entry) > 3
        limits.release_worker(2)
        buckets.release_worker(2)
        assert limits.entry(5, now) == entry
        assert limits.in_flight(entry) == 3
        # Only a sum that is that of the slots comes down to nothing.
        used = [limits.requests_used(entry, now - (300 - i) * SECOND) for i in range(300)]
        assert used[0] > 0
        assert used == sorted(used, reverse=True)
        assert used[-1] == limits.tokens_used(entry, now) == 0
        bucket = buckets.entry(5, now)
        assert [buckets.take(bucket, now, 10, 5, 1) for _ in range(11)] == [1] * 10 + [0]
