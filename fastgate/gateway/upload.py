"""A request body that is streamed, not held: audio to transcribe.

LOOKING    until the form's `model` is known (at most max_form_bytes are kept)
WAITING    for a connection; the client's reading is paused past the high-water mark
STREAMING  each piece goes on as it comes; no other deployment can be tried any more
ENDED      the answer is there or the request failed: what still comes is dropped
"""

from __future__ import annotations

import re
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from fastgate._core.http1 import as_chunk
from fastgate.errors import BadRequest, GatewayError, TooLarge
from fastgate.gateway.form import FormScan, boundary_of, model_part
from fastgate.gateway.forward import send_upload

if TYPE_CHECKING:
    from fastgate.gateway.context import Context
    from fastgate.upstream.connection import Connection

__all__ = ["Upload"]

LOOKING, WAITING, STREAMING, ENDED = range(4)

_MODEL = re.compile(rb"[A-Za-z0-9._:/@+-]{1,256}\Z")


class Upload:
    """The body of one request on its way."""

    def __init__(self, pipeline: Any, context: Context) -> None:
        self._pipeline = pipeline
        self._context = context
        reader = context.reader
        self._boundary = boundary_of(reader.value(b"content-type") or b"")
        self._scan = FormScan(self._boundary)
        self._length = reader.content_length
        self._chunked = self._length < 0
        self._kept = bytearray()
        self._complete = False
        self._connection: Connection | None = None
        self.state = LOOKING
        context.upload_read = False
        # What went out on a connection that turns out to be stale could not be sent again.
        context.fresh = True

    @property
    def replayable(self) -> bool:
        """Nothing of the body has gone out."""
        return self.state in (LOOKING, WAITING)

    def feed(self, payload: bytes, last: bool) -> None:
        """Take a piece of the body. Raises GatewayError while the answer is still ours to give."""
        context = self._context
        if last:
            self._complete = True
            context.upload_read = True
            context.read_ns = monotonic_ns()
        if self.state == ENDED or context.finished:
            return
        self._scan.feed(payload)
        if self.state == STREAMING:
            self._send(payload)
            return
        self._kept += payload
        if self.state == LOOKING:
            self._look()
        elif len(self._kept) > self._pipeline.worker.limits.high_water_bytes:
            context.downstream.pause_reading()

    def start(self, connection: Connection) -> None:
        """There is a connection: send the head and what has come so far."""
        self._connection = connection
        self._splice(self._context.upstream_model)
        self.state = STREAMING
        kept = bytes(self._kept)
        self._kept = bytearray()
        part = as_chunk(kept, self._complete) if self._chunked else kept
        send_upload(self._context, connection, self._length, [part])
        if not connection.write_paused:
            self._context.downstream.resume_reading()

    def on_answer(self) -> None:
        """The answer's head is here; before the body is out, it is a refusal: no more is sent."""
        if not self._complete:
            self.state = ENDED
            self._context.keep_alive = False
            # The engine's side of the connection is in the middle of a body.
            self._context.connection.dirty = True

    def _look(self) -> None:
        context = self._context
        limits = self._pipeline.worker.limits
        model = self._scan.model
        if model is None and not self._scan.ended:
            if len(self._kept) > limits.max_form_bytes:
                raise TooLarge(
                    "the form's model field must come within the first "
                    f"{limits.max_form_bytes} bytes",
                    param="model",
                )
            if self._complete:
                raise BadRequest("the form ends before its last boundary")
            return
        self.state = WAITING
        if model is None:
            if context.model is None:
                raise BadRequest("expected a `model` field in the form", param="model")
        else:
            if not _MODEL.match(model) or b".." in model:
                raise BadRequest("the form's model field can't be a model's name", param="model")
            if context.model is None:
                context.model = model.decode()
        context.read_ns = monotonic_ns()
        try:
            if self._pipeline.admit(context, context.read_ns):
                self._pipeline.start(context)
        except GatewayError as error:
            self.state = ENDED
            self._pipeline.fail(context, error)

    def _splice(self, model: str) -> None:
        """Put the deployment's own model name in the place of the client's, or into a part of its
        own before the others when the client named it in the path.
        """
        old = self._scan.model
        new = model.encode()
        start = self._scan.model_start
        if old is None:
            old = b""
            start = 0
            new = model_part(self._boundary, new)
        self._kept[start : start + len(old)] = new
        if not self._chunked:
            self._length += len(new) - len(old)

    def _send(self, payload: bytes) -> None:
        connection = self._connection
        if connection is None or connection.closed:
            return
        if not self._chunked:
            connection.write(payload)
            return
        connection.write(as_chunk(payload, self._complete))
