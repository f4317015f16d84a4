"""The main process's half: starts workers, keeps their stages in step, adds up what they count.

Even one worker is a process of its own, so that drawing progress disturbs nothing that is measured.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.load.options import Options
from bench.load.results import Results
from bench.load.worker import work

__all__ = ["Died", "run_crew"]

LEAD_NS = 20_000_000
"""Between the word to go and the start: every worker has read it by then."""


class Died(Exception):
    """A worker ended by itself."""


def run_crew(options: Options, on_second: Callable[[Results], None]) -> list[Results]:
    """Run all stages; return their results, as far as they came when interrupted (SIGINT)."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    # Ctrl-C reaches the whole group. Workers are born deaf to it, and told by us.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for index in range(options.processes):
        ours, theirs = context.Pipe()
        arguments = (theirs, options, index, options.stages)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    crew = Crew(pipes, on_second)
    signal.signal(signal.SIGINT, lambda *_: crew.stop())
    try:
        return crew.run(options)
    finally:
        signal.signal(signal.SIGINT, before)
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()


class Crew:
    def __init__(self, pipes: list[Connection], on_second: Callable[[Results], None]) -> None:
        self._pipes = pipes
        self._on_second = on_second
        self._stopped = False

    def run(self, options: Options) -> list[Results]:
        done: list[Results] = []
        for stage in options.stages:
            results = Results(*stage, options.duration_s)
            self._gather("ready", results)
            if self._stopped:
                break
            self._tell(("go", time.monotonic_ns() + LEAD_NS))
            done.append(results)
            self._gather("end", results)
            results.close_second()
        return done

    def stop(self) -> None:
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        self._tell(("stop", 0))

    def _tell(self, word: tuple[str, int]) -> None:
        for pipe in self._pipes:
            try:
                pipe.send(word)
            except OSError:
                pass  # it has ended; _gather finds out

    def _gather(self, word: str, results: Results) -> None:
        """Add up what comes, until every worker has said `word`."""
        waiting = list(self._pipes)
        while waiting and not (self._stopped and word == "ready"):
            for pipe in wait(waiting, 0.1):
                assert isinstance(pipe, Connection)
                try:
                    kind, value = pipe.recv()
                except EOFError:
                    raise Died(
                        "a process of the load client died; its error stands above"
                    ) from None
                if kind == "second":
                    self._second(results, value)
                elif kind == word:
                    waiting.remove(pipe)
                    if kind == "end":
                        results.end(value)

    def _second(self, results: Results, state: dict[str, Any]) -> None:
        if results.add(state):
            self._on_second(results)
