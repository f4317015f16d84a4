"""The one file of shared memory: what is in it, where, and how a process opens it.

The supervisor makes it (a memfd, so that nothing is left behind whatever happens), every child
inherits the file descriptor and maps the whole of it:

    header | limits | budgets | buckets | deployments | a metrics block for each worker, for
    control, for the supervisor

Each part starts on a page. The file is sparse: a table entry or a metric that was never used costs
no memory. All processes are started from the same code, so the header is a check against mistakes,
not a format.
"""

from __future__ import annotations

import mmap
import os
import struct

from fastgate._core.bucket import BucketTable, DeploymentTable, LimitTable
from fastgate._core.budget import BudgetTable
from fastgate._core.table import CONTROL, MAX_WORKERS, SUPERVISOR, Region
from fastgate.observe.metrics import BLOCK_BYTES, Registry, zero_gauges

__all__ = ["CONTROL", "MAX_WORKERS", "SUPERVISOR", "SharedMemory", "create", "open"]

# Keys and deployments that were active within two minutes: 22 MB if all were. LiteLLM's own
# in-memory caches hold 200 to 10,000 items.
_LIMIT_ENTRIES = 16_384
# As many as keys with limits: most budgets are a key's or its team's.
_BUDGET_ENTRIES = 16_384
# Token buckets smooth where an operator asks for it, and deployments are written down in a
# configuration file: a thousand of either is ten times the largest configuration we know of.
_BUCKET_ENTRIES = 1_024
_DEPLOYMENT_ENTRIES = 1_024

_HEADER = struct.Struct("<8sIII")
_MAGIC = b"fastgate"
# Counts up whenever the layout changes.
_VERSION = 2


class _Layout:
    """Where the parts are, for a number of workers."""

    def __init__(self, workers: int) -> None:
        self._end = mmap.PAGESIZE
        self.limits = self._part(LimitTable.bytes_for(_LIMIT_ENTRIES))
        self.budgets = self._part(BudgetTable.bytes_for(_BUDGET_ENTRIES))
        self.buckets = self._part(BucketTable.bytes_for(_BUCKET_ENTRIES))
        self.deployments = self._part(DeploymentTable.bytes_for(_DEPLOYMENT_ENTRIES))
        slots = [*range(workers), CONTROL, SUPERVISOR]
        self.blocks = {slot: self._part(BLOCK_BYTES) for slot in slots}
        self.size = self._end

    def _part(self, size: int) -> tuple[int, int]:
        start = self._end
        self._end = -(-(start + size) // mmap.PAGESIZE) * mmap.PAGESIZE
        return start, size


class SharedMemory:
    """The file as one process sees it. Close it only after everything made from it is gone."""

    def __init__(self, mapped: mmap.mmap, workers: int, worker: int, run: int) -> None:
        layout = _Layout(workers)
        self._mapped = mapped
        self._blocks = layout.blocks
        self._registries: dict[int, Registry] = {}
        self.workers = workers
        self.worker = worker
        self.run = run
        """32 bits that no other shared memory has: what was counted elsewhere is not in here."""
        self.limits = LimitTable(Region(mapped, *layout.limits), worker)
        self.budgets = BudgetTable(Region(mapped, *layout.budgets), worker)
        self.buckets = BucketTable(Region(mapped, *layout.buckets), worker)
        self.deployments = DeploymentTable(Region(mapped, *layout.deployments), worker)

    def metrics(self, worker: int) -> Registry:
        """Return the registry of a slot, for the process whose slot it is."""
        # Two registries of one block would write over each other.
        if worker not in self._registries:
            self._registries[worker] = Registry(self.block(worker))
        return self._registries[worker]

    def block(self, worker: int) -> memoryview:
        """Return the bytes of a slot's metrics."""
        start, size = self._blocks[worker]
        return memoryview(self._mapped)[start : start + size]

    def blocks(self) -> list[memoryview]:
        """Return the bytes of every slot's metrics."""
        return [self.block(worker) for worker in self._blocks]

    def release_worker(self, worker: int) -> None:
        """Give back what a dead process held. Call it before the slot's next process starts."""
        self.limits.release_worker(worker)
        self.budgets.release_worker(worker)
        self.buckets.release_worker(worker)
        self.deployments.release_worker(worker)
        zero_gauges(self.block(worker))


def create(workers: int) -> int:
    """Make the shared memory; return its file descriptor, for children to inherit."""
    if not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"expected 1 to {MAX_WORKERS} workers, got {workers}")
    fd = os.memfd_create("fastgate", os.MFD_CLOEXEC)
    os.truncate(fd, _Layout(workers).size)
    os.pwrite(fd, _HEADER.pack(_MAGIC, _VERSION, workers, int.from_bytes(os.urandom(4))), 0)
    return fd


def open(fd: int, worker: int) -> SharedMemory:
    """Map the shared memory as `worker`: a worker's number, CONTROL or SUPERVISOR."""
    magic, version, workers, run = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError(f"expected shared memory of version {_VERSION}, got {magic!r} {version}")
    if worker not in _Layout(workers).blocks:
        raise ValueError(f"expected a worker below {workers}, CONTROL or SUPERVISOR, got {worker}")
    return SharedMemory(mmap.mmap(fd, _Layout(workers).size), workers, worker, run)
