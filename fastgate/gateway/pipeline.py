"""A request's way through the stages. Read it beside docs/life-of-a-request.md; one file per stage.

    on_head            endpoint, authenticate            as soon as the head is there
    on_request         peek, limit, route, book, forward when the body is there
    on_upstream_data   relay; settle                     for each segment of the answer; its last
    complete           record                            when the answer ended

The happy path is plain calls from data_received to transport.write: no coroutine, task or future.
When something must be waited for (a connection, a retry), the same functions go on from a callback.
What happens when an attempt fails stands in attempts.py.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from fastgate._core.fields import answer_fields, request_id
from fastgate._core.http1 import ProtocolError, as_chunk
from fastgate.config.principal import Principal
from fastgate.errors import (
    AuthenticationError,
    BadRequest,
    GatewayError,
    Internal,
    LimitExceeded,
    ModelDenied,
    NotFound,
    Unavailable,
    UpstreamBroken,
)
from fastgate.gateway import local
from fastgate.gateway.attempts import Attempts
from fastgate.gateway.authenticate import allowed, authenticate
from fastgate.gateway.book import PROGRESS_NS
from fastgate.gateway.clock import monotonic_ns, unix_ms
from fastgate.gateway.context import (
    PHASE_BODY,
    PHASE_CONNECT,
    PHASE_ERROR_BODY,
    PHASE_HEAD,
)
from fastgate.gateway.endings import Endings
from fastgate.gateway.endpoint import CONTROL, FORM, JSON, LOCAL, match
from fastgate.gateway.forward import send
from fastgate.gateway.limit import is_stale, reserve
from fastgate.gateway.peek import Peek
from fastgate.gateway.record import overhead_ns
from fastgate.gateway.relay import EVENTS, answer_head, frame, look
from fastgate.gateway.relay import start as start_relay
from fastgate.gateway.upload import Upload

if TYPE_CHECKING:
    from fastgate.gateway.context import Context
    from fastgate.upstream.connection import Connection

__all__ = ["Pipeline"]

_log = logging.getLogger("fastgate.pipeline")

# As the scanner has it for models named in a body; `..` must not reach an upstream's path.
_MODEL = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}\Z")
_CLIENT_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")

# What may be held back of a stream before its first content, while another deployment could still
# be asked.
HELD_BYTES = 64 * 1024

# Up to here head and body are joined by one copy, for one plain write; above, writev takes both.
JOIN_BYTES = 64 * 1024

# Bits of fastgate._core.sse.Scanner.feed().
CONTENT = 1


class Pipeline(Endings):
    """One per worker: the stages and what they share."""

    def __init__(
        self, worker: Any, limits: Any, budgets: Any, router: Any, recorder: Any, epoch: int
    ) -> None:
        super().__init__(worker, limits, budgets, recorder)
        self.catalog: Any = None
        self.snapshot: Any = None
        self.router = router
        self.peek = Peek()
        self.keys: Any = None
        """Of the store; None: there is none."""
        self.attempts = Attempts(self)
        self.epoch = epoch
        self.sequence = 0
        self.addresses: Any = None
        """Who may show a key; None: anybody."""
        self.max_wait_ns = 0

    # from downstream

    def on_head(self, context: Context) -> None:
        """Stages endpoint and authenticate: what goes wrong stands in `context.refusal`."""
        self.sequence += 1
        context.request_id = request_id(unix_ms(), self.epoch, self.sequence)
        context.snapshot = self.snapshot
        context.catalog = self.catalog
        self.active.add(context)
        reader = context.reader
        client_id = reader.value(b"x-request-id")
        if client_id is not None and _CLIENT_ID.match(client_id):
            context.client_request_id = client_id
        try:
            found = match(reader.path())
            if found is None:
                raise NotFound(
                    f"Not Found: {reader.method().decode()} {local.shown_path(reader.path())}"
                )
            endpoint = found.endpoint
            context.endpoint = endpoint
            method = reader.method()
            if (
                method != endpoint.method
                and endpoint.method
                and not (endpoint.method == b"GET" and method == b"HEAD")
            ):
                raise NotFound(
                    f"Method Not Allowed: expected {endpoint.method.decode()}",
                    status=405,
                    fields=b"allow: %b\r\n" % endpoint.method,
                )
            if found.model is not None:
                if not _MODEL.match(found.model) or ".." in found.model:
                    raise BadRequest("the model name in the path can't be one", param="model")
                context.model = found.model
            if not endpoint.public:
                self._authenticate(context)
        except GatewayError as error:
            context.refusal = error
        context.authenticated_ns = monotonic_ns()

    def _authenticate(self, context: Context) -> None:
        if self.addresses is not None:
            self.addresses.check(context.downstream.peer)
        digest = authenticate(context, context.downstream, self.keys)
        if digest is not None:
            self.keys.ask(digest, lambda error: self._on_key(context, error))
            context.asking = True
        elif context.principal.routes and context.endpoint.kind <= FORM:
            self._check_route(context)

    def _check_route(self, context: Context) -> None:
        if not allowed(context.principal, context.reader.path()):
            raise AuthenticationError(
                "Authentication Error, Virtual key is not allowed to call this route. Only allowed "
                f"to call routes: {context.principal.routes}",
                status=403,
            )

    def _on_key(self, context: Context, error: GatewayError | None) -> None:
        """Control has answered who it is that asks."""
        if context.finished:
            return
        context.asking = False
        try:
            if error is not None:
                raise error
            if authenticate(context, context.downstream, self.keys) is not None:
                raise Unavailable("the key changed while it was looked up")
            self._check_route(context)
        except GatewayError as refusal:
            context.refusal = refusal
        context.authenticated_ns = monotonic_ns()
        context.downstream.on_asked()

    def on_request(self, context: Context) -> None:
        """Stages peek to forward, or an answer of our own. Never raises."""
        now_ns = monotonic_ns()
        context.read_ns = now_ns
        try:
            if context.refusal is not None:
                raise context.refusal
            kind = context.endpoint.kind
            if kind == JSON:
                self.peek.look(context)
                if self.admit(context, now_ns):
                    self.start(context)
            elif kind == LOCAL:
                local.answer(self, context)
            elif kind == CONTROL:
                self.call(context, local.control_target(self, context), monotonic_ns())
            else:
                raise BadRequest("expected a multipart/form-data body")
        except GatewayError as error:
            self.fail(context, error)
        except Exception:
            _log.exception("request %s", context.request_id.decode())
            self.fail(context, Internal("internal error"))

    def on_upload_start(self, context: Context) -> None:
        """A multipart body begins: it is streamed, not held."""
        context.upload = Upload(self, context)

    def admit(self, context: Context, now_ns: int) -> bool:
        """May this principal ask for this model, now? Raises ModelDenied, BadRequest,
        LimitExceeded, BudgetExceeded. False: control is asked first, and it goes on from there.
        """
        principal = context.principal
        model = context.model
        if principal.aliases:
            model = context.model = principal.aliases.get(model, model)
        plan = context.catalog.plan(model)
        if not (
            principal.all_models
            or model in principal.names
            or context.snapshot.allows(principal, model)
        ):
            raise ModelDenied(
                "key not allowed to access model. This key can only access "
                f"models={principal.models}. Tried to access {model}",
                param="model",
            )
        if plan is None:
            raise BadRequest(
                f"/{context.endpoint.name}: Invalid model name passed in model={model}. "
                "Call `/v1/models` to view available models for your key.",
                type="None",
            )
        context.plan = plan
        scoped = principal.scoped_for(plan.group)
        if scoped is not None:
            if principal.stored is not None and is_stale(scoped, self.budgets, now_ns):
                self._ask_again(context)
                return False
            reserve(context, scoped, self.limits, self.budgets, now_ns)
        return True

    def _ask_again(self, context: Context) -> None:
        """Ask control what was spent: it is too long ago that it said so."""
        digest = context.principal.key_hash
        self.keys.forget("key", [digest.hex()])
        self.keys.ask(digest, partial(self._on_asked_again, context))

    def _on_asked_again(self, context: Context, error: GatewayError | None) -> None:
        if context.finished:
            return
        try:
            principal = self.keys.find(context.principal.key_hash)
            if error is not None or not isinstance(principal, Principal):
                raise error or Unavailable("the key changed while it was looked up")
            context.principal = principal
            if self.admit(context, monotonic_ns()):
                self.start(context)
        except GatewayError as refusal:
            self.fail(context, refusal)

    # attempts

    def start(self, context: Context) -> None:
        """The first attempt, or the first group that can make one."""
        self.attempts.budget.on_request(context.read_ns)
        try:
            self.attempt(context)
        except LimitExceeded as error:
            self.attempts.none_left(context, error)

    def attempt(self, context: Context) -> None:
        """Stages route and forward: one try at one deployment. Raises GatewayError."""
        now_ns = monotonic_ns()
        choice = self.router.choose(context, now_ns)
        context.choice = choice
        context.target = choice.target
        context.upstream_model = choice.model
        context.counted = True
        if self.book is not None and not context.booked:
            self.book.open(context, now_ns)
        self.call(context, choice.target, now_ns)

    def call(self, context: Context, target: Any, now_ns: int) -> None:
        """Send to `target` at once, or as soon as there is a connection."""
        context.target = target
        context.attempts += 1
        if context.retries_left < 0:
            context.retries_left = target.retries
        context.routed_ns = context.connected_ns = now_ns
        pool = target.pool
        connection = None if context.fresh else pool.take(now_ns)
        if connection is not None:
            self.send(context, connection)
            return
        context.phase = PHASE_CONNECT
        context.pool = pool
        context.deadline_ns = now_ns + self.max_wait_ns
        if not pool.wait(context, now_ns):
            context.pool = None
            self.attempts.on_no_place(context)

    def on_connected(self, context: Context, connection: Connection) -> None:
        """From the pool: there is a connection now."""
        context.pool = None
        context.fresh = False
        context.connected_ns = monotonic_ns()
        if connection.served == 0:
            self.attempts.on_connected(context)
        self.send(context, connection)

    def send(self, context: Context, connection: Connection) -> None:
        """Stage forward."""
        context.connection = connection
        context.phase = PHASE_HEAD
        connection.begin(context)
        if context.upload is not None:
            context.upload.start(connection)
        elif context.endpoint.kind == CONTROL:
            local.send_to_control(context, connection)
        else:
            send(context, connection, self.peek)
        now_ns = monotonic_ns()
        context.sent_ns = now_ns
        target = context.target
        context.deadline_ns = now_ns + (
            target.stream_timeout_ns if context.stream else target.timeout_ns
        )

    # from upstream

    def on_connect_failed(self, context: Context, kind: str, detail: str) -> None:
        context.pool = None
        self.attempts.on_connect_failed(context, kind, detail)

    def on_upstream_data(self, held: Any, data: bytes) -> None:
        """Stage relay: one segment of the answer to the Context `held`."""
        context: Context = held
        connection = context.connection
        reader = connection.reader
        now_ns = monotonic_ns()
        position = 0
        try:
            if context.phase == PHASE_HEAD:
                if not context.first_byte_ns:
                    context.first_byte_ns = now_ns
                position = reader.feed_head(data, 0)
                if position < 0:
                    return
                context.status = reader.status
                context.progress_ns = now_ns
                context.phase = PHASE_BODY if reader.status < 400 else PHASE_ERROR_BODY
                start_relay(context, reader)
                if context.upload is not None:
                    context.upload.on_answer()
            if reader.complete:
                end = position
            elif position == len(data):
                # Nothing of the body yet: the head goes out with its first bytes, in one write.
                context.deadline_ns = now_ns + self.stall_ns
                return
            else:
                end = reader.feed_body(data, position)
        except ProtocolError as error:
            self.attempts.on_broken(context, UpstreamBroken(f"upstream: {error}"))
            return
        context.deadline_ns = now_ns + self.stall_ns
        if context.phase == PHASE_ERROR_BODY:
            self.attempts.on_error_data(context, reader, data, position, end)
            return
        self._pass_on(context, reader, data, position, end, now_ns)
        if end >= 0 and not context.finished and context.connection is connection:
            self.complete(context, end == len(data))

    def _pass_on(
        self, context: Context, reader: Any, data: bytes, start: int, end: int, now_ns: int
    ) -> None:
        seen = look(context, reader, data, end >= 0)
        scanner = context.scanner
        if seen & CONTENT:
            context.first_content_ns = now_ns
        if context.head_sent:
            if scanner is not None and scanner.events != context.events:
                context.events = scanner.events
                context.progress_ns = now_ns
                if context.booked and now_ns - context.progress_booked_ns > PROGRESS_NS:
                    self.book.progress(context, now_ns)
            if end >= 0:
                self.settle(context, now_ns)
            out = frame(context, reader, data, start, end)
            if out:
                context.bytes_out += len(out)
                context.downstream.write(out)
            return
        if scanner is not None and scanner.kind == EVENTS and not scanner.content_seen:
            if scanner.error_seen and self.attempts.on_error_event(context):
                return
            if end < 0 and not scanner.error_seen and context.held_bytes < HELD_BYTES:
                self._hold(context, frame(context, reader, data, start, end), now_ns)
                return
        if end >= 0:
            self.settle(context, now_ns)
        if end >= 0 and context.held is None and not context.strip_usage:
            # All of the answer is here: its length is known, whatever framing it came in.
            if scanner is None or scanner.kind != EVENTS:
                context.chunked_out = False
            out = frame(context, reader, data, start, end)
            # The answer to HEAD tells the length of a body that it hasn't.
            whole = -1 if context.chunked_out or reader.head_request else len(out)
            self.send_head(context, reader, out, whole, now_ns)
        else:
            out = frame(context, reader, data, start, end)
            # Nothing of the body yet: as long as the head is here, another attempt can be made.
            if out or end >= 0:
                self.send_head(context, reader, out, -1, now_ns)

    def _hold(self, context: Context, out: bytes, now_ns: int) -> None:
        if context.held is None:
            context.held = []
            context.held_since_ns = now_ns
        context.held.append(out)
        context.held_bytes += len(out)

    def send_head(
        self, context: Context, reader: Any, out: bytes, whole_bytes: int, now_ns: int
    ) -> None:
        """Send the answer's head, what was held back, and `out`, in one write."""
        context.head_sent = True
        # What came before the first content was held back: that wait is the engine's, not ours.
        context.relay_ns = monotonic_ns() - now_ns
        target = context.target
        requests_limit = tokens_limit = -1
        requests_left = tokens_left = 0
        scoped = context.scoped
        if scoped is not None and (scoped.rpm >= 0 or scoped.tpm >= 0):
            entry = self.limits.find(scoped.limit_keys[0])
            requests_limit, tokens_limit = scoped.rpm, scoped.tpm
            requests_left = requests_limit - self.limits.requests_used(entry, now_ns)
            tokens_left = tokens_limit - self.limits.tokens_used(entry, now_ns)
        fields = answer_fields(
            context.request_id,
            context.client_request_id,
            target.fields,
            context.attempts,
            context.authenticated_ns - context.start_ns,
            context.routed_ns - context.read_ns,
            context.connected_ns - context.routed_ns,
            now_ns - context.sent_ns,
            overhead_ns(context, now_ns),
            requests_limit,
            requests_left,
            tokens_limit,
            tokens_left,
            context.spend_nano,
        )
        if context.held is not None:
            out = b"".join([*context.held, out])
            context.held = None
        context.bytes_out += len(out)
        joined = len(out) <= JOIN_BYTES
        head = answer_head(context, reader, fields, whole_bytes, out if joined else None)
        if joined:
            context.downstream.write(head)
        else:
            context.downstream.write_all([head, out])

    def on_upstream_lost(
        self, context: Context, connection: Connection, error: Exception | None
    ) -> None:
        """The upstream connection ended while held; `error` None: the peer closed it."""
        if context.finished or context.connection is not connection:
            return
        if context.phase in (PHASE_BODY, PHASE_ERROR_BODY):
            try:
                if error is not None:
                    # A reset ends nothing, though the answer may have no length that would tell.
                    raise ProtocolError(502, "expected the rest of the answer, not a reset")
                connection.reader.feed_eof()
            except ProtocolError as broken:
                self.attempts.on_broken(context, UpstreamBroken(f"upstream: {broken}"))
                return
            if context.phase == PHASE_ERROR_BODY:
                self.attempts.on_error_complete(context, False)
                return
            self._end_with_connection(context, connection.reader)
        elif context.phase == PHASE_HEAD:
            self.attempts.on_no_answer(context, connection)

    def _end_with_connection(self, context: Context, reader: Any) -> None:
        """The answer ended where its connection did (RFC 9112 6.3, 8)."""
        if context.scanner is not None:
            context.scanner.feed_eof()
        self.settle(context, monotonic_ns())
        rest = context.tail
        if context.chunked_out:
            rest = as_chunk(rest, True)
        if not context.head_sent:
            self.send_head(context, reader, rest, -1, monotonic_ns())
        elif rest:
            context.bytes_out += len(rest)
            context.downstream.write(rest)
        self.complete(context, False)
