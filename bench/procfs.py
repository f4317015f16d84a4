"""What processes cost, from the kernel's books: CPU time, memory, and whether strangers disturbed.

Linux only. CPU time is read from each process's CPU clock: the same quantity as utime + stime of
/proc/PID/stat, in nanoseconds instead of 10 ms ticks, threads that ended included. Children that
ended and were waited for are in their parent's cutime + cstime, so a sum over the living tree keeps
what they used.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disturbance", "Meter", "cpu_s", "rss_bytes", "tree"]

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name; [0] is the state (field 3)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(stat_fields(int(entry.name))[1])
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def process_clock_s(pid: int) -> float:
    """User and system time of all threads of a process, ended ones included."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


def cpu_s(root: int) -> float:
    """CPU time of a process tree; 0.0 once it is gone."""
    total = 0.0
    for pid in tree(root):
        try:
            # cutime and cstime: fields 16 and 17 of proc_pid_stat(5).
            waited = sum(int(ticks) for ticks in stat_fields(pid)[13:15])
            total += process_clock_s(pid) + waited / TICKS_PER_S
        except OSError:
            continue
    return total


def rss_bytes(root: int) -> int:
    """Resident memory of a process tree; pages that processes share count in each."""
    total = 0
    for pid in tree(root):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
        except OSError:
            continue
    return total


def core_times_s(cores: tuple[int, ...]) -> tuple[float, float]:
    """(busy, stolen) time of these cores since boot."""
    busy = stolen = 0
    wanted = {f"cpu{core}" for core in cores}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy / TICKS_PER_S, stolen / TICKS_PER_S


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Parts of one core's time, 0 to 1, that others took from the measured cores."""

    foreign: float
    steal: float


class Meter:
    """CPU of one process tree, and of strangers on its cores, between start() and stop()."""

    def __init__(self, root: int | None, ours: tuple[int, ...], cores: tuple[int, ...]) -> None:
        """`root` is measured; `ours` are other trees of the measurement, no strangers."""
        self._root = root
        self._ours = ours
        self._cores = cores
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float, float]:
        measured = 0.0 if self._root is None else cpu_s(self._root)
        # Ourselves, and the load generators that we waited for.
        times = os.times()
        own = sum(times[:4]) + sum(cpu_s(pid) for pid in self._ours)
        return (time.monotonic(), measured, own, *core_times_s(self._cores))

    def stop(self) -> tuple[float, Disturbance]:
        """Return the CPU seconds of the measured tree, and who else was there."""
        after = self._read()
        elapsed, measured, own, busy, steal = (
            new - old for new, old in zip(after, self._before, strict=True)
        )
        foreign = max(0.0, busy - measured - own)
        return measured, Disturbance(foreign / elapsed, steal / elapsed)
