"""What all workers counted in one stage, added up; in full, within the window, and by second."""

from __future__ import annotations

from typing import Any

from bench.load.tally import Tally

__all__ = ["Results", "Second"]

RATES = ("finished", "good", "events", "input_tokens", "output_tokens")


class Second:
    """One second of a stage, for progress and for the report's rows."""

    def __init__(self, at_s: int) -> None:
        self.at_s = at_s
        self.tally = Tally()
        self.in_flight: dict[int, int] = {}
        """By process: at the end of the second."""


class Results:
    """Of one stage: `concurrency` connections, or `rate` requests per second."""

    def __init__(self, concurrency: int, rate: float, window_s: float = 0.0) -> None:
        self.concurrency = concurrency
        self.rate = rate
        self.tally = Tally()
        self.window: dict[str, int] = dict.fromkeys(RATES, 0)
        """What happened before the stage's time was over: what rates are made of."""
        self.rows: list[dict[str, Any]] = []
        self.second = Second(0)
        self.window_s = window_s
        self.elapsed_s = 0.0
        self.cpu_s: list[float] = []
        """Of each process."""
        self.waited_s: list[float] = []
        self.busy_s: list[float] = []
        self.unsent = 0
        self.abandoned = 0

    def add(self, state: dict[str, Any]) -> bool:
        """Add what a worker counted in a second; True when that completed the second before."""
        fresh = bool(state["at_s"] > self.second.at_s)
        if fresh:
            self.close_second()
            self.second = Second(state["at_s"])
        self.tally.add(state)
        self.second.tally.add(state)
        self.second.in_flight[state["process"]] = state["in_flight"]
        if state["window"]:
            for name in RATES:
                self.window[name] += state[name]
        return fresh

    def close_second(self) -> None:
        tally = self.second.tally
        row: dict[str, Any] = {
            "at_s": self.second.at_s,
            "started": tally.started,
            "requests": tally.finished,
            "errors": sum(tally.errors.values()),
            "events": tally.events,
            "output_tokens": tally.output_tokens,
            "in_flight": sum(self.second.in_flight.values()),
        }
        for name in ("latency", "ttft", "itl"):
            counts = getattr(tally, name)
            for key, q in (("p50", 0.5), ("p99", 0.99)):
                value = round(counts.quantile(q) / 1e6, 4) if counts.count else None
                row[f"{name}_{key}_ms"] = value
        self.rows.append(row)

    def end(self, state: dict[str, Any]) -> None:
        """Add what a worker said at its end."""
        self.elapsed_s = max(self.elapsed_s, state["elapsed_s"])
        self.cpu_s.append(state["cpu_s"])
        self.waited_s.append(state["waited_s"])
        self.busy_s.append(state["busy_s"])
        self.unsent += state["unsent"]
        self.abandoned += state["abandoned"]
