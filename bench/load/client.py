"""One connection of the load client, with at most one request in flight. Compiled: client.pxd.

    send -> data_received: ResponseReader frames, Scanner looks -> _finish, _fail -> run.on_answer

One time stamp per segment, taken first; the events in it are counted in place, no object is made of
any. A segment with several content events is one gap, since that is what its reader waits for: what
was held back and sent at once shows as long gaps and as few segments, not as many short gaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.load.tally import Tally
from fastgate._core.http1 import ProtocolError, ResponseReader
from fastgate._core.sse import Scanner
from fastgate.upstream.socketio import plain_fd, send_now

if TYPE_CHECKING:
    import asyncio

__all__ = ["Client"]

# Kinds of Scanner, and of ResponseReader.content_kind().
EVENTS = 0
DOCUMENT = 1
EVENT_STREAM = 1


class Client:
    """An asyncio protocol. `run` says what comes next, and has the clock and the tallies."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.clock = run.clock
        self.transport: Any = None
        self.fd = -1
        """The socket, for sending past the transport; -1: TLS, or closed."""
        self.reader = ResponseReader()
        self.scanner = Scanner()
        self.closed = False
        self.served = 0
        # Of the request under way.
        self.request: Any = None
        """None: idle."""
        self.tally: Tally = run.tally
        self.sent_ns = 0
        """When it was sent, or was to be sent (open loop)."""
        self.begun = False
        """The head of its answer has been read."""
        self.stream = False
        self.events = 0
        self.content = 0
        self.first_ns = 0
        """When the first content came; 0: none yet."""
        self.last_ns = 0
        self.longest_gap_ns = 0
        self.tail = b""
        """The last segment but one, and the last."""
        self.latest = b""
        self.kept: list[bytes] | None = None
        """The answer, where a conversation goes on with it."""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.fd = plain_fd(transport)
        self.run.on_connected(self)

    def eof_received(self) -> bool:
        """Let the transport close: connection_lost() follows."""
        return False

    def pause_writing(self) -> None:
        """A request larger than the socket's buffer: the transport sends the rest in time."""

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.fd = -1
        if self.request is not None:
            self._end_with_connection(exc)
        self.run.on_lost(self)

    # requests

    def send(self, request: Any, scheduled_ns: int, tally: Tally) -> None:
        """Send `request`, whose times count from `scheduled_ns`, into `tally`."""
        self.request = request
        self.tally = tally
        self.sent_ns = scheduled_ns
        self.begun = False
        self.events = self.content = 0
        self.first_ns = self.last_ns = self.longest_gap_ns = 0
        self.kept = [] if request.conversation is not None else None
        self.reader.reset()
        payload = request.payload
        if self.fd >= 0:
            sent = send_now(self.fd, payload)
            if sent < len(payload):
                self.transport.write(payload[sent:] if sent else payload)
        else:
            self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        now = self.clock()
        if self.request is None:
            self.run.on_surplus(self)
            return
        tally = self.tally
        tally.bytes += len(data)
        tally.segments += 1
        reader = self.reader
        position = 0
        try:
            if not self.begun:
                position = reader.feed_head(data, 0)
                if position < 0:
                    return
                self.begun = True
                self.stream = reader.content_kind() == EVENT_STREAM
                self.scanner.reset(EVENTS if self.stream else DOCUMENT)
            if not reader.complete:
                position = reader.feed_body(data, position)
                self._look(data, now)
        except ProtocolError as error:
            self.give_up(f"malformed answer: {error}")
            return
        if reader.complete:
            if position < len(data):
                self.give_up("surplus bytes")
            else:
                self._finish(now)

    def _look(self, data: bytes, now: int) -> None:
        """Count what the payload in this segment holds."""
        scanner = self.scanner
        reader = self.reader
        for index in range(reader.n_spans):
            scanner.feed(data, reader.span_start(index), reader.span_end(index))
        if self.kept is not None:
            self.kept.append(reader.payload(data))
        if not self.stream:
            return
        self.tail = self.latest
        self.latest = data
        tally = self.tally
        tally.events += scanner.events - self.events
        self.events = scanner.events
        content = scanner.content_events
        if content == self.content:
            return
        tally.content_events += content - self.content
        tally.content_segments += 1
        self.content = content
        if self.first_ns == 0:
            self.first_ns = now
            tally.ttft.record(now - self.sent_ns)
        else:
            gap = now - self.last_ns
            tally.itl.record(gap)
            if gap > self.longest_gap_ns:
                self.longest_gap_ns = gap
        self.last_ns = now

    def _end_with_connection(self, exc: Exception | None) -> None:
        """The connection is gone while an answer is owed: that may be how the answer ends."""
        if not self.begun:
            self._fail("disconnected" if self.served == 0 else "disconnected when reused")
            return
        try:
            if exc is None and self.reader.feed_eof():
                self.scanner.feed_eof()
                self._finish(self.clock())
                return
        except ProtocolError:
            pass
        self._fail("truncated")

    def _finish(self, now: int) -> None:
        """The answer is here, whole."""
        scanner = self.scanner
        error = self._fault()
        if error is not None:
            self._fail(error)
            return
        tally = self.tally
        run = self.run
        latency = now - self.sent_ns
        tally.finished += 1
        tally.latency.record(latency)
        tokens = scanner.output_tokens
        tpot = 0
        if scanner.input_tokens >= 0 or tokens >= 0:
            tally.metered += 1
            tally.input_tokens += max(scanner.input_tokens, 0)
            tally.output_tokens += max(tokens, 0)
            tally.cached_tokens += max(scanner.cached_tokens, 0)
        if self.stream and tokens > 1:
            tpot = (self.last_ns - self.first_ns) // (tokens - 1)
            tally.tpot.record(tpot)
        ttft = self.first_ns - self.sent_ns if self.first_ns else latency
        if run.slo.met(ttft, self.longest_gap_ns, tpot, latency):
            tally.good += 1
        self._release()

    def _fault(self) -> str | None:
        """Return what is wrong with an answer that is here, whole; None: nothing."""
        status = self.reader.status
        if status >= 300:
            return f"status {status}"
        if not self.stream:
            self.scanner.feed_eof()
        if self.scanner.error_seen:
            return "error event" if self.stream else "error body"
        if self.request.stream and not self.stream:
            return "no event stream"
        if self.stream and not self._ended():
            return "stream without its end"
        if self.stream and self.run.verify:
            fault: str | None = self.run.check_events(
                self.request, self.events, self.scanner.output_tokens
            )
            return fault
        return None

    def _ended(self) -> bool:
        """Whether the stream's own last event has come, as each API has it."""
        if self.request.kind == "messages":
            return b"message_stop" in self.tail + self.latest
        if self.request.kind == "responses":
            # Only response.completed and response.incomplete have usage.
            return self.scanner.output_tokens >= 0
        return self.scanner.done_seen

    def give_up(self, kind: str) -> None:
        """Let the request under way fail, and its connection with it."""
        self.closed = True
        self.transport.abort()
        self._fail(kind)

    def drop(self) -> None:
        """Forget the request under way, and close."""
        self.request = None
        self.closed = True
        self.transport.abort()

    def _fail(self, kind: str) -> None:
        self.tally.fail(kind)
        self.kept = None
        self._release()

    def _release(self) -> None:
        """Be idle, or closed where the answer asked for that; then say so."""
        request = self.request
        self.request = None
        self.tail = self.latest = b""
        self.served += 1
        if not self.closed and not (self.reader.complete and self.reader.keep_alive):
            self.closed = True
            self.transport.close()
        self.run.on_answer(self, request)
