"""One connection of the load client, with at most one request in flight. Compiled.

Built to cost little per event, so that it does not become what is measured: answers are framed and
looked at by the gateway's own kernels, in place; a time stamp is taken once per segment; and times
are counted, not kept. So a gap is the time between two segments that brought events: tokens that
came in one segment came at one time.
"""

from __future__ import annotations

from array import array
from typing import Any

from fastgate._core.http1 import ProtocolError, ResponseReader
from fastgate._core.sse import Scanner
from fastgate.gateway.clock import monotonic_ns
from fastgate.upstream.socketio import plain_fd, send_now

__all__ = ["COARSE_US", "FINE_US", "Client", "Tally"]

NEVER = 0

# Of fastgate._core: what feed() returns, kinds of scanners, kinds of bodies.
CONTENT = 1
EVENTS = 0
DOCUMENT = 1
EVENT_STREAM = 1
UNKNOWN = 0

FINE_US = 1 << 17
"""Below, times are counted by the microsecond; up to COARSE_US, by 1,024 of them (under 1 % of the
value); longer ones are kept one by one.
"""
COARSE_US = 1 << 27


class Tally:
    """Times, counted exactly enough for any percentile."""

    def __init__(self) -> None:
        self.fine = array("q", bytes(8 * FINE_US))
        self.coarse = array("q", bytes(8 * (COARSE_US >> 10)))
        self._fine = self.fine
        self._coarse = self.coarse
        self.longer: list[int] = []
        self.count = 0
        self.sum_us = 0.0
        self.largest_us = 0

    def add(self, ns: int) -> None:
        us = ns // 1000 if ns > 0 else 0
        self.count += 1
        self.sum_us += us
        if us > self.largest_us:
            self.largest_us = us
        if us < FINE_US:
            self._fine[us] += 1
        elif us < COARSE_US:
            self._coarse[us >> 10] += 1
        else:
            self.longer.append(us)


class Client:
    """An asyncio protocol; `run` is told what came."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.gap = run.results.gap
        self.stream = run.options.stream
        self.transport: Any = None
        self.fd = -1
        self.reader = ResponseReader()
        self.scanner = Scanner()
        self.item: Any = None
        self.busy = False
        self.counted = False
        """The request under way belongs to the measurement (not to its warm-up)."""
        self.sent_ns = 0
        """When it was sent, or was to be sent (open loop)."""
        self.answers = 0
        self.bytes = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.fd = plain_fd(transport)
        self.run.on_connected(self)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.fd = -1
        self.lost = True
        if self.busy:
            error = "truncated" if self.begun else "disconnected"
            if self.begun and exc is None:
                try:
                    self.reader.feed_eof()
                    self.scanner.feed_eof()
                    error = ""
                except ProtocolError:
                    pass
            self._finish(error)
        self.run.on_lost(self)

    def send(self, item: Any, scheduled_ns: int, counted: bool) -> None:
        """Send a request; times count from `scheduled_ns`."""
        self.busy = True
        self.item = item
        self.counted = counted
        self.sent_ns = scheduled_ns
        self.begun = self.lost = False
        self.first_ns = self.last_ns = NEVER
        self.events = 0
        self.worst_gap_ns = 0
        self.reader.reset()
        payload = item.payload
        if self.fd >= 0:
            sent = send_now(self.fd, payload)
            if sent == len(payload):
                return
            payload = payload[sent:]
            # From here on the transport may hold bytes, which must go first.
            self.fd = -1
        self.transport.write(payload)

    def give_up(self) -> None:
        """The request under way has taken too long."""
        self.lost = True
        self._finish("timeout")

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.run.on_surplus(self)
            return
        self.bytes += len(data)
        now_ns = monotonic_ns()
        reader = self.reader
        position = 0
        try:
            if not self.begun:
                position = reader.feed_head(data, 0)
                if position < 0:
                    return
                self.begun = True
                kind = reader.content_kind()
                if kind == UNKNOWN and self.stream:
                    kind = EVENT_STREAM
                self.looked_at = kind != UNKNOWN
                self.scanner.reset(EVENTS if kind == EVENT_STREAM else DOCUMENT)
            if reader.complete:
                end = position
            elif position == len(data):
                return
            else:
                end = reader.feed_body(data, position)
                if self.looked_at:
                    seen = self._look(data)
                    if self.scanner.events > self.events:
                        self._on_events(now_ns, seen)
        except ProtocolError as error:
            self.lost = True
            self._finish(f"malformed: {error}")
            return
        if end >= 0:
            if self.looked_at:
                self.scanner.feed_eof()
            self.lost = not reader.keep_alive or end < len(data)
            self._finish("" if end == len(data) else "surplus bytes")

    def _look(self, data: bytes) -> int:
        seen = 0
        for i in range(self.reader.n_spans):
            seen |= self.scanner.feed(data, self.reader.span_start(i), self.reader.span_end(i))
        return seen

    def _on_events(self, now_ns: int, seen: int) -> None:
        self.events = self.scanner.events
        if self.last_ns != NEVER:
            gap_ns = now_ns - self.last_ns
            if self.counted:
                self.gap.add(gap_ns)
            if gap_ns > self.worst_gap_ns:
                self.worst_gap_ns = gap_ns
        self.last_ns = now_ns
        # The first token is the first event with content; a stream that has none, its first event.
        if self.first_ns == NEVER or seen & CONTENT:
            self.first_ns = now_ns

    def _finish(self, error: str) -> None:
        self.busy = False
        self.answers += 1
        self.run.on_answer(
            self,
            error,
            monotonic_ns(),
            self.first_ns,
            self.last_ns,
            self.worst_gap_ns,
            self.reader.status,
            self.scanner if self.begun and self.looked_at else None,
            self.lost,
        )
