"""What a run counts while it goes on. A worker fills one and sends it off once a second.

Only answers that ended well count as `finished` and have a latency; what failed stands in `errors`
under its kind. TTFT and gaps count when they happen, so those of a stream that fails later do too.
"""

from __future__ import annotations

from typing import Any

from bench.load.counts import Counts

__all__ = ["COUNTERS", "DISTRIBUTIONS", "Tally"]

COUNTERS = (
    "started", "finished", "good", "bytes", "segments", "events", "content_events",
    "content_segments", "input_tokens", "output_tokens", "cached_tokens", "metered", "opened",
)  # fmt: skip
DISTRIBUTIONS = ("latency", "ttft", "itl", "tpot", "late", "connect")


class Tally:
    def __init__(self) -> None:
        self.started = 0
        self.finished = 0
        self.good = 0
        """Finished, and within every bound of --slo."""
        self.bytes = 0
        self.segments = 0
        self.events = 0
        """Events with data; of them, those with something for the user, and reads that had some."""
        self.content_events = 0
        self.content_segments = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.metered = 0
        """Finished with a usage object."""
        self.opened = 0
        """Connections."""
        self.latency = Counts()
        self.ttft = Counts()
        self.itl = Counts()
        self.tpot = Counts()
        self.late = Counts()
        """Open loop: how much later than scheduled the client itself sent."""
        self.connect = Counts()
        self.errors: dict[str, int] = {}

    def fail(self, kind: str) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def state(self) -> dict[str, Any]:
        """Return all of it in plain values."""
        found: dict[str, Any] = {name: getattr(self, name) for name in COUNTERS}
        for name in DISTRIBUTIONS:
            counts = getattr(self, name)
            found[name] = (counts.total, counts.largest, counts.used())
        found["errors"] = dict(self.errors)
        return found

    def drain(self) -> dict[str, Any]:
        """Return state(), and be empty again."""
        found = self.state()
        for name in COUNTERS:
            setattr(self, name, 0)
        for name in DISTRIBUTIONS:
            getattr(self, name).clear()
        self.errors = {}
        return found

    def add(self, state: dict[str, Any]) -> None:
        """Add another's state()."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + state[name])
        for name in DISTRIBUTIONS:
            getattr(self, name).add(state[name])
        for kind, count in state["errors"].items():
            self.errors[kind] = self.errors.get(kind, 0) + count
