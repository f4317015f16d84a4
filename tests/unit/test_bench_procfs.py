"""CPU and memory of process trees, read from children that use a known amount."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from bench.procfs import Meter, cpu_s, rss_bytes, tree

BURN = """
import sys, time
while time.process_time() < {seconds}: pass
print("burnt", flush=True)
sys.stdin.read()
"""

HOLD = """
data = bytearray(b"x" * (64 << 20))
print("held", flush=True)
input()
"""


@contextlib.contextmanager
def child(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that has printed its first line; it ends when its input does."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def burn(seconds: float) -> list[str]:
    return [sys.executable, "-S", "-c", BURN.format(seconds=seconds)]


def test_a_busy_child_is_charged_what_it_used() -> None:
    with child(*burn(0.15)) as process:
        used = cpu_s(process.pid)
        # Above the 0.15 s lies only the interpreter's end of the loop.
        assert 0.15 <= used < 0.5
        assert cpu_s(process.pid) - used < 0.05


def test_grandchildren_count_while_they_live_and_after_they_were_waited_for() -> None:
    script = '"$@" </dev/null >/dev/null; echo done; read line'
    with child("sh", "-c", script, "sh", *burn(0.15)) as process:
        assert tree(process.pid) == [process.pid]
        assert cpu_s(process.pid) >= 0.13  # cutime and cstime come in ticks of 10 ms each
    script = 'exec 3<&0; "$@" <&3 & wait'
    with child("sh", "-c", script, "sh", *burn(0.15)) as process:
        assert len(tree(process.pid)) == 2
        assert cpu_s(process.pid) >= 0.15


def test_memory_is_summed_over_the_tree() -> None:
    with child(sys.executable, "-S", "-c", HOLD) as process:
        assert 64 << 20 <= rss_bytes(process.pid) < 128 << 20


def test_a_process_that_is_gone_costs_nothing() -> None:
    with child(*burn(0)) as process:
        pid = process.pid
    assert cpu_s(pid) == 0.0
    assert rss_bytes(pid) == 0


def test_the_meter_charges_the_measured_tree_alone() -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    with child(*burn(0)) as idle:
        meter = Meter(idle.pid, (), cores)
        subprocess.run(burn(0.1), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        used, disturbance = meter.stop()
    assert used < 0.05
    assert disturbance.foreign >= 0.0
    assert disturbance.steal >= 0.0
