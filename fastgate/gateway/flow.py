"""Who may go on: backpressure both ways, and what has taken too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate.gateway.clock import monotonic_ns
from fastgate.gateway.context import PHASE_BODY
from fastgate.gateway.relay import EVENTS
from fastgate.upstream.connection import Sink

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["Flow"]

# What may be held back of a stream before its first content, and how long: a client behind a proxy
# with a 15 s idle limit must see the pings.
HELD_NS = 10_000_000_000


class Flow(Sink):
    """The part of the pipeline that holds one side up for the other."""

    def __init__(self) -> None:
        self.attempts: Any = None
        self.active: set[Context] = set()
        """Requests that have a head and no end yet."""
        self.stall_ns = 0
        self.ping_ns = 0

    # backpressure

    def on_client_full(self, context: Context) -> None:
        """The client takes no more: stop reading its answer."""
        if context.connection is not None:
            context.connection.pause()
            if context.phase == PHASE_BODY:
                # The upstream is not late while we don't listen; the client's own timeout runs.
                context.deadline_ns = 0

    def on_client_drained(self, context: Context) -> None:
        if context.connection is not None:
            context.connection.resume()
            if context.phase == PHASE_BODY:
                context.progress_ns = monotonic_ns()
                context.deadline_ns = context.progress_ns + self.stall_ns

    def on_upstream_full(self, context: Context) -> None:
        if context.upload is not None:
            context.downstream.pause_reading()

    def on_upstream_drained(self, context: Context) -> None:
        if context.upload is not None:
            context.downstream.resume_reading()

    # time

    def sweep(self, now_ns: int) -> None:
        """Act on what has taken too long. Called by the worker's sweeper."""
        for context in [c for c in self.active if self._late(c, now_ns)]:
            if not context.finished:
                self.attempts.on_late(context, now_ns)

    def _late(self, context: Context, now_ns: int) -> bool:
        if 0 < context.deadline_ns < now_ns:
            return True
        if context.phase != PHASE_BODY:
            return False
        return (context.held is not None and now_ns - context.held_since_ns > HELD_NS) or (
            context.deadline_ns > 0
            and context.scanner is not None
            and context.scanner.kind == EVENTS
            and now_ns - context.progress_ns > self.ping_ns
        )
