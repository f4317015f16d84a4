"""Progress while a measurement runs: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.load.run import Run

__all__ = ["Progress"]

EVERY_S = 0.5
LINES_S = (1.0, 5.0)
"""The first line comes soon, the others now and then."""

RECENT_SECONDS = 3
"""Percentiles shown are of the last so many."""


class Progress:
    """Shows how a Run goes; on standard error, which is not where reports go."""

    def __init__(self, run: Run, label: str, call_later: Callable[..., Any]) -> None:
        self._run = run
        self._label = label
        self._call_later = call_later
        self._terminal = sys.stderr.isatty()
        self._begun_s = time.monotonic()
        self._lines = 0
        self._live: Any = None
        self._handle: Any = None

    def start(self) -> None:
        if self._terminal:
            # Only a terminal needs it.
            from rich.console import Console  # noqa: PLC0415
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        self._tick()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._live is not None:
            self._live.update(self.line(), refresh=True)
            self._live.stop()

    def line(self) -> str:
        """What there is to say now."""
        results = self._run.results
        elapsed_s = time.monotonic() - self._begun_s
        recent = results.seconds[-RECENT_SECONDS:]
        latency = sorted(us for second in recent for us in second.latency_us)
        ttft = sorted(us for second in recent for us in second.ttft_us)
        parts = [
            f"{self._label} {elapsed_s:5.1f} s",
            f"{results.finished} done",
            f"{sum(second.requests for second in recent) / max(1, len(recent)):,.0f}/s",
            f"{self._run.in_flight} in flight",
        ]
        for name, values in (("latency", latency), ("ttft", ttft)):
            if values:
                middle, high = values[len(values) // 2], values[len(values) * 99 // 100]
                parts.append(f"{name} {middle / 1000:.2f}/{high / 1000:.2f} ms")
        if results.errors:
            parts.append(f"{sum(results.errors.values())} errors: {min(results.errors)}")
        return "  ".join(parts)

    def _tick(self) -> None:
        if self._live is not None:
            self._live.update(self.line(), refresh=True)
        elif self._lines:
            print(self.line(), file=sys.stderr, flush=True)
        wait_s = EVERY_S if self._terminal else LINES_S[min(self._lines, 1)]
        self._lines += 1
        self._handle = self._call_later(wait_s, self._tick)
