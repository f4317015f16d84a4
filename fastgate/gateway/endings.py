"""Every way in which a request ends: complete, failed, answered by ourselves, cut, its client gone.

All of them pass through `end`, once, so that what was reserved is given back and what happened is
recorded.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastgate.errors import LimitExceeded
from fastgate.gateway.clock import monotonic_ns
from fastgate.gateway.endpoint import LOCAL
from fastgate.gateway.flow import Flow
from fastgate.gateway.limit import settle
from fastgate.gateway.record import tokens_used
from fastgate.gateway.respond import error_body, response

if TYPE_CHECKING:
    from fastgate.errors import GatewayError
    from fastgate.gateway.context import Context

__all__ = ["Endings"]

_log = logging.getLogger("fastgate.pipeline")


class Endings(Flow):
    """The part of the pipeline that ends requests."""

    def __init__(self, worker: Any, limits: Any, budgets: Any, recorder: Any) -> None:
        super().__init__()
        self.worker = worker
        self.limits = limits
        self.budgets = budgets
        self.recorder = recorder
        self.book: Any = None
        """The Book; None: nothing is put on record."""

    def settle(self, context: Context, now_ns: int) -> None:
        """Stage book: what the request came to is on record before the client has its last byte."""
        if context.booked:
            self.book.settle(context, now_ns)

    def complete(self, context: Context, reusable: bool) -> None:
        """Stages meter, record, settle: the answer has been passed on to its end."""
        now_ns = monotonic_ns()
        connection = context.connection
        context.connection = None
        downstream = context.downstream
        scanner = context.scanner
        if scanner is not None and scanner.error_seen and context.status < 400:
            context.error_kind = "stream_error"
            self.recorder.error("upstream", "stream_error")
        self.attempts.succeeded(context, now_ns)
        self.end(context, now_ns)
        reader = connection.reader
        if reusable and reader.keep_alive and reader.complete and not connection.dirty:
            connection.pool.give_back(connection, now_ns)
        else:
            connection.context = None
            connection.abort()
        downstream.finish(context.keep_alive and context.upload_read)

    def fail(self, context: Context, error: GatewayError) -> None:
        """Tell the client, and end; an answer that has begun is cut."""
        if context.finished:
            return
        if context.head_sent:
            self.cut(context, error.kind, error.source)
            return
        # Of a body that is streamed, a part may be upstream already.
        self.attempts.drop(context)
        context.status = error.status
        context.error_kind = error.kind
        self.recorder.error(error.source, error.kind)
        if isinstance(error, LimitExceeded):
            self.worker.metrics.counter("fastgate_limited_total", kind=error.detail).add(1)
        protocol = "openai" if context.endpoint is None else context.endpoint.protocol
        self.answer(context, error.status, error_body(error, protocol), error.fields)

    def answer(
        self,
        context: Context,
        status: int,
        body: bytes,
        fields: bytes = b"",
        content_type: bytes = b"application/json",
    ) -> None:
        """Answer by ourselves and end the request."""
        context.status = status
        context.bytes_out = len(body)
        fields += b"x-fastgate-request-id: %b\r\nx-litellm-call-id: %b\r\n" % (
            context.request_id,
            context.request_id,
        )
        if context.client_request_id is not None:
            fields += b"x-request-id: %b\r\n" % context.client_request_id
        if context.attempts:
            fields += b"x-fastgate-attempts: %d\r\n" % context.attempts
        if context.target is not None:
            fields += context.target.fields
        keep_alive = context.keep_alive and context.upload_read
        self.settle(context, monotonic_ns())
        reader = context.reader
        context.downstream.write(
            response(
                status,
                body,
                fields=fields,
                content_type=content_type,
                keep_alive=keep_alive,
                minor_version=reader.minor_version,
                head_only=reader.method() == b"HEAD",
            )
        )
        downstream = context.downstream
        self.end(context, monotonic_ns())
        downstream.finish(keep_alive)

    def on_client_gone(self, context: Context) -> None:
        """The client left: whatever runs for it upstream ends now."""
        if context.finished:
            return
        if not context.head_sent:
            context.status = 499
        context.error_kind = "client_gone"
        self.recorder.error("downstream", "client_gone")
        self.attempts.drop(context)
        self.end(context, monotonic_ns())

    def cut(self, context: Context, kind: str, source: str = "upstream") -> None:
        """Break an answer that can't be finished, so that the client sees that it is broken."""
        downstream = context.downstream
        context.error_kind = kind
        self.recorder.error(source, kind)
        self.attempts.drop(context)
        self.end(context, monotonic_ns())
        downstream.cut(context.reader.minor_version == 0)

    def end(self, context: Context, now_ns: int) -> None:
        """Stages record and settle, once for each request, whatever way it went."""
        if context.finished:
            return
        context.finished = True
        self.active.discard(context)
        self.settle(context, now_ns)
        settle(context, self.limits, self.budgets, now_ns, tokens_used(context))
        if (context.endpoint is not None and context.endpoint.kind < LOCAL) or context.error_kind:
            try:
                self.recorder.record(context, now_ns)
            except Exception:
                # Metering must not kill a request.
                _log.exception("request %s was not recorded", context.request_id.decode())
                self.recorder.error("internal", "record")
        # Bodies and cycles are let go now, not when the collector comes round.
        context.body = b""
        context.held = context.tried = context.upload = None
        context.deadline_ns = 0
        if self.worker.draining:
            self.worker.on_request_end()
