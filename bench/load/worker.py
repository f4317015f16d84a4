"""A process of the load client: runs the stages, one after the other, and draws nothing.

The main process says `("go", start_ns)` before each stage and may say `("stop", 0)`; a worker says
("ready" | "second" | "end", value). See crew.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from bench.load.options import Options
from bench.load.run import Run
from bench.load.workload import plan

__all__ = ["work"]


def work(pipe: Connection, options: Options, index: int, stages: list[tuple[int, float]]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        uvloop.run(Worker(pipe, options, index).run(stages))


class Worker:
    def __init__(self, pipe: Connection, options: Options, index: int) -> None:
        self._pipe = pipe
        self._options = options
        self._index = index
        self._start: asyncio.Future[int] | None = None
        self._stopped = False
        self._run: Run | None = None

    async def run(self, stages: list[tuple[int, float]]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._on_word)
        share = (self._index, self._options.processes)
        requests = plan(self._options, *share)
        # A collection of all that is alive takes milliseconds; nothing here makes cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        for number, stage in enumerate(stages):
            run = self._run = Run(self._options, stage, requests, self._emit, share=share)
            self._start = loop.create_future()
            await run.connect()
            self._pipe.send(("ready", number))
            start_ns = await self._start
            cpu_s, waited_s = time.process_time(), waited()
            begun = time.monotonic()
            await run.go(start_ns)
            end: dict[str, Any] = {
                "cpu_s": time.process_time() - cpu_s - run.polled_ns / 1e9,
                "waited_s": waited() - waited_s,
                "busy_s": time.monotonic() - begun,
                "elapsed_s": run.elapsed_s,
                "unsent": run.unsent,
                "abandoned": run.abandoned,
            }
            self._pipe.send(("end", end))
            if self._stopped:
                break
        loop.remove_reader(self._pipe.fileno())

    def _emit(self, state: dict[str, Any]) -> None:
        self._pipe.send(("second", state))

    def _on_word(self) -> None:
        try:
            word, value = self._pipe.recv()
        except (EOFError, OSError):  # the main process is gone
            word, value = "stop", 0
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        if word == "go" and self._start is not None:
            self._start.set_result(value)
        elif word == "stop":
            self._stopped = True
            if self._start is not None and not self._start.done():
                self._start.set_result(time.monotonic_ns())
            if self._run is not None:
                self._run.stop_now()


def waited() -> float:
    """Seconds for which this thread was ready to run and had no core; 0 where nobody says."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
