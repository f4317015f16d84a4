"""One client connection: bytes in, requests out, answers back in order.

    IDLE     nothing of a request is here
    HEAD     some of its head is
    BODY     some of its body is
    ASKING   its head is here, and control is asked whose key it has; what follows is kept
    BUSY     the pipeline has it; what the client sends meanwhile is kept, bounded; then IDLE again
    LINGER   the last word is said: reads on for a moment, so that it arrives

Invariants: at most one request is with the pipeline; while one is, nothing behind it is parsed.
Reading stops when more than high_water_bytes wait here, and the pipeline is told when the client
takes no more. A client that closes its sending side is gone (so do nginx and the OpenAI SDKs see
it): its request is cancelled upstream at once.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

from fastgate._core.http1 import ProtocolError, RequestReader
from fastgate.errors import GatewayError, RequestTimeout, TooLarge
from fastgate.gateway.clock import monotonic_ns
from fastgate.gateway.context import Context, Sender
from fastgate.gateway.endpoint import FORM
from fastgate.gateway.respond import CONTINUE, error_body, response
from fastgate.upstream.socketio import plain_fd, send_now

if TYPE_CHECKING:
    import asyncio

__all__ = ["Downstream"]

IDLE = 0
HEAD = 1
BODY = 2
BUSY = 3
LINGER = 4
ASKING = 5

REFUSED_BODY_BYTES = 64 * 1024
"""Of a request that is refused anyway."""

LINGER_NS = 2_000_000_000
"""How long a refused client may go on sending before the connection is cut (nginx:
lingering_timeout 5 s).
"""

_INT = struct.Struct("i")


class Downstream(Sender):
    """An asyncio protocol; `worker` is what all connections of the process share."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.pipeline = worker.pipeline
        self.transport: Any = None
        self.fd = -1
        """The socket, for sending past the transport; -1: not to be done (TLS, or closed)."""
        self.unsent = False
        """The transport may hold bytes of ours."""
        self.reader = RequestReader()
        self.peer = ""
        self.state = IDLE
        self.closed = False
        self.reading = True
        self.write_paused = False
        self.deadline_ns = 0
        """When the present state has taken too long; 0: never."""
        self.body_deadline_ns = 0
        """When the whole body must be here."""
        self.stuck_since_ns = 0
        self.stuck_bytes = 0
        """What waited to be sent at stuck_since_ns."""
        self.served = 0
        self.pending: list[bytes] | None = None
        self.pending_bytes = 0
        self.context: Any = None
        """The request being read or answered; None: there is none."""
        self.parts: bytearray | None = None
        """A body that came in more than one segment."""
        self.body_limit = 0
        self.key_field: bytes | None = None
        """The key field seen last, and whom it stood for under which Snapshot: most clients repeat
        it.
        """
        self.key_principal: Any = None
        self.key_snapshot: Any = None

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:
        limits = self.worker.limits
        self.transport = transport
        self.fd = plain_fd(transport)
        transport.set_write_buffer_limits(limits.high_water_bytes, limits.low_water_bytes)
        self.reader.max_head_bytes = limits.max_head_bytes
        self.reader.max_target_bytes = limits.max_target_bytes
        self.deadline_ns = monotonic_ns() + self.worker.head_timeout_ns
        self.worker.on_open(self)

    def data_received(self, data: bytes) -> None:
        if self.state == BUSY or self.state == ASKING or self.pending is not None:
            self._keep(data)
        elif self.state != LINGER:
            self._consume(data)

    def eof_received(self) -> bool:
        # The transport closes once it has sent what it holds; upstream work must not wait for that.
        self._last_words()
        context = self.context
        if context is not None:
            self.context = None
            self.pipeline.on_client_gone(context)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        # The descriptor is closed, and its number free for another, as soon as this returns.
        self.closed = True
        self.fd = -1
        context = self.context
        self.context = None
        self.pending = None
        self.worker.on_close(self)
        if context is not None and self.state in (BODY, BUSY, ASKING):
            self.pipeline.on_client_gone(context)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch_sending()
        if self.context is not None:
            self.pipeline.on_client_full(self.context)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.context is not None:
            self.pipeline.on_client_drained(self.context)
        elif self.pending is not None:
            self.worker.loop.call_soon(self._next_pending)

    # reading requests

    def _consume(self, data: bytes) -> None:
        position = 0
        size = len(data)
        try:
            while position < size and not self.closed:
                if self.state == BODY:
                    position = self._on_body(data, position)
                    if position < 0:
                        return
                elif (
                    self.state == BUSY
                    or self.state == ASKING
                    or (self.write_paused and self.state == IDLE)
                ):
                    # A client that takes no answers gets no further requests served.
                    self._keep(data[position:])
                    return
                elif self.state == LINGER:
                    return
                else:
                    end = self.reader.feed_head(data, position)
                    if end < 0:
                        if self.state == IDLE and self.reader.started():
                            self.state = HEAD
                            self.deadline_ns = monotonic_ns() + self.worker.head_timeout_ns
                        return
                    position = end
                    if not self._on_head(size - position):
                        return
        except ProtocolError as error:
            self.refuse(GatewayError(str(error), status=error.status, type="invalid_request_error"))
        except GatewayError as error:
            self.refuse(error)

    def _on_head(self, left: int) -> bool:
        """Take a complete head; False: the request was refused. `left` bytes of the segment follow
        it.
        """
        at_ns = monotonic_ns()
        reader = self.reader
        worker = self.worker
        context = Context(self, reader, at_ns)
        context.keep_alive = reader.keep_alive and not worker.draining
        self.context = context
        self.pipeline.on_head(context)
        if context.asking:
            # Who asks is not known yet: nothing more is read of a stranger.
            self.state = ASKING
            self.deadline_ns = 0
            return True
        return self._on_known(left, at_ns)

    def on_asked(self) -> None:
        """It is known who asks: read on."""
        pending, self.pending = self.pending, None
        self.pending_bytes = 0
        data = b"".join(pending) if pending else b""
        try:
            if not self._on_known(len(data), monotonic_ns()):
                return
        except GatewayError as error:
            self.refuse(error)
            return
        self.resume_reading()
        if data:
            self._consume(data)

    def _on_known(self, left: int, at_ns: int) -> bool:
        reader = self.reader
        worker = self.worker
        context = self.context
        if reader.complete:
            self._dispatch()
            return True
        self.state = BODY
        streamed = context.refusal is None and context.endpoint.kind == FORM
        self.body_limit = worker.max_upload_bytes if streamed else worker.max_body_bytes
        length = reader.content_length
        if context.refusal is not None:
            # Reading a small body to its end keeps the connection; a large one is not worth it.
            self.body_limit = REFUSED_BODY_BYTES
            if length > REFUSED_BODY_BYTES or reader.expect_continue:
                raise context.refusal
        if length > self.body_limit:
            raise TooLarge(f"the body has {length} bytes, at most {self.body_limit} are taken")
        self.deadline_ns = at_ns + worker.body_idle_ns
        self.body_deadline_ns = at_ns + worker.body_timeout_ns
        if reader.expect_continue and not left:
            self.transport.write(CONTINUE)
        if streamed:
            self.pipeline.on_upload_start(context)
        return True

    def _on_body(self, data: bytes, position: int) -> int:
        """Take what there is of the body; return the place behind it, or -1 when more is to
        come.
        """
        reader = self.reader
        context = self.context
        end = reader.feed_body(data, position)
        if reader.body_bytes > self.body_limit:
            if context.refusal is not None:
                raise context.refusal
            raise TooLarge(f"the body has more than {self.body_limit} bytes")
        if context.upload is not None:
            self.deadline_ns = monotonic_ns() + self.worker.body_idle_ns
            context.upload.feed(reader.payload(data), end >= 0)
            if end >= 0:
                # The upload may have failed meanwhile, and its answer may be complete.
                self._body_read()
            return end
        if end >= 0 and self.parts is None and reader.n_spans <= 1:
            # The usual case: the whole body lies in one piece of this segment. Nothing is copied.
            context.body = data
            if reader.n_spans:
                context.body_start = reader.span_start(0)
                context.body_end = reader.span_end(0)
            self._dispatch()
            return end
        if self.parts is None:
            self.parts = bytearray()
        self.parts += reader.payload(data)
        if end < 0:
            self.deadline_ns = monotonic_ns() + self.worker.body_idle_ns
            return -1
        context.body = bytes(self.parts)
        context.body_end = len(context.body)
        self.parts = None
        self._dispatch()
        return end

    def _body_read(self) -> None:
        if self.state == BODY:
            self.state = BUSY
            self.deadline_ns = self.body_deadline_ns = 0
            self.context.read_ns = monotonic_ns()
            self.context.body_end = self.reader.body_bytes

    def _dispatch(self) -> None:
        self.state = BUSY
        self.deadline_ns = self.body_deadline_ns = 0
        self.pipeline.on_request(self.context)

    def _keep(self, data: bytes) -> None:
        if self.pending is None:
            self.pending = []
        self.pending.append(data)
        self.pending_bytes += len(data)
        if self.pending_bytes > self.worker.high_water_bytes:
            self.pause_reading()

    def pause_reading(self) -> None:
        if self.reading and not self.closed:
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.reading and not self.closed:
            self.reading = True
            self.transport.resume_reading()

    # answering

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        if self.closed:
            return
        if self.fd >= 0 and not self._unsent():
            sent = send_now(self.fd, data)
            if sent == len(data):
                return
            self.unsent = True
            data = data[sent:]
        self.transport.write(data)

    def _unsent(self) -> bool:
        """Does the transport still hold bytes? Those must go first."""
        if self.unsent:
            self.unsent = self.transport.get_write_buffer_size() > 0
        return self.unsent

    def write_all(self, parts: list[bytes]) -> None:
        """Send pieces of the answer in one system call."""
        if not self.closed:
            self.unsent = True
            self.transport.writelines(parts)

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete: on to the next request, or close when all is sent."""
        self.context = None
        self.parts = None
        self.served += 1
        if self.closed:
            return
        if not keep_alive or self.worker.draining:
            self.linger()
            return
        self.reader.reset()
        self.state = IDLE
        self.deadline_ns = monotonic_ns() + self.worker.keepalive_ns
        if self.pending is not None:
            # Not in this call: a thousand pipelined requests must not become a thousand frames
            # deep.
            self.worker.loop.call_soon(self._next_pending)

    def _next_pending(self) -> None:
        pending = self.pending
        if pending is None or self.closed or self.write_paused or self.state != IDLE:
            return
        self.pending = None
        self.pending_bytes = 0
        self.resume_reading()
        self._consume(pending[0] if len(pending) == 1 else b"".join(pending))

    def refuse(self, error: GatewayError) -> None:
        """Answer a request that can't be read to its end, and close."""
        context = self.context
        if context is not None and not context.finished:
            context.keep_alive = False
            self.pipeline.fail(context, error)
            return
        self.worker.on_refused(error)
        self.write(response(error.status, error_body(error), keep_alive=False, fields=error.fields))
        self.linger()

    def linger(self) -> None:
        """Close for sending, and read on for a moment.

        Closing with unread input would reset the connection, and the answer would be lost on its
        way (RFC 9112 9.6).
        """
        if self.closed:
            return
        self._last_words()
        self.context = None
        self.resume_reading()
        if self.transport.can_write_eof() and not self.worker.tls:
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        """Close as soon as all that was written is sent."""
        if not self.closed:
            self._last_words()
            self.context = None
            self.transport.close()

    def cut(self, reset: bool) -> None:
        """Break the connection: an answer can't be finished, and must not look as if it were.

        What has been written is still sent, and the missing end of its framing is what the client
        sees. `reset`: the client knows no framing but the connection's end (HTTP/1.0), so that only
        a RST tells it.
        """
        if reset and not self.closed:
            plug = self.transport.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.close()

    def lingering(self) -> bool:
        """Has the last word been said?"""
        return self.state == LINGER

    def _last_words(self) -> None:
        """Turn to LINGER: what is not sent yet may take its time, as long as it goes on."""
        self.state = LINGER
        self.pending = None
        self.deadline_ns = monotonic_ns() + LINGER_NS
        self._watch_sending()

    # time

    def sweep(self, now_ns: int) -> None:
        """Act on what has taken too long. Called by the worker's sweeper."""
        if (self.write_paused or self.state == LINGER) and self._stuck(now_ns):
            self.transport.abort()
        elif self.state == BODY and not self.reading:
            # It is we who don't listen.
            self.deadline_ns = now_ns + self.worker.body_idle_ns
        elif self.state == BODY and 0 < self.body_deadline_ns < now_ns:
            self.refuse(RequestTimeout("the body did not arrive in time"))
        elif 0 < self.deadline_ns < now_ns:
            self._expire()

    def _watch_sending(self) -> None:
        """From now on the client must take something now and then."""
        self.stuck_since_ns = monotonic_ns()
        self.stuck_bytes = sys.maxsize

    def _stuck(self, now_ns: int) -> bool:
        """Has the client taken nothing of what waits for it for too long?"""
        waiting = self.transport.get_write_buffer_size()
        if waiting and self.state == LINGER:
            self.deadline_ns = now_ns + LINGER_NS
        # The kernel takes more only when a third of its buffer (of up to 4 MiB) is free: a client
        # that reads 10 KB/s would look dead for minutes if what it has not acknowledged did not
        # count.
        plug = self.transport.get_extra_info("socket")
        (sent,) = _INT.unpack(fcntl.ioctl(plug.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))
        waiting += sent
        if waiting < self.stuck_bytes or not waiting:
            self.stuck_bytes = waiting
            self.stuck_since_ns = now_ns
        late: bool = now_ns - self.stuck_since_ns > self.worker.send_timeout_ns
        return late

    def _expire(self) -> None:
        if self.state == HEAD or (self.state == IDLE and not self.served):
            # RFC 9110 15.5.9: 408 tells a client that nothing was processed. A connection that
            # never said a word gets none: browsers and load balancers open such in advance.
            if self.state == HEAD:
                self.refuse(RequestTimeout("the request head did not arrive in time"))
            else:
                self.close()
        elif self.state == BODY:
            self.refuse(RequestTimeout("the body stopped arriving"))
        elif self.state == LINGER:
            self.transport.abort()
        else:
            self.close()

    def shed(self) -> None:
        """Refuse the whole connection: there are too many."""
        error = GatewayError(
            "too many connections",
            status=503,
            type="overloaded_error",
            fields=b"retry-after: 1\r\n",
        )
        self.worker.on_refused(error)
        self.write(response(503, error_body(error), keep_alive=False, fields=error.fields))
        self.linger()
