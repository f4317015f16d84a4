"""When an attempt fails: take it back, count it, decide (decide.py), and go on or tell the client.

Every way out of an attempt passes through `leave`, so that what was counted before dispatch is
given back exactly once. None of this is on the happy path but `succeeded`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from fastgate._core.http1 import as_chunk
from fastgate.errors import (
    GatewayError,
    LimitExceeded,
    Unavailable,
    UpstreamBroken,
    UpstreamTimeout,
)
from fastgate.gateway import decide
from fastgate.gateway.clock import monotonic_ns
from fastgate.gateway.context import (
    PHASE_BODY,
    PHASE_CONNECT,
    PHASE_ERROR_BODY,
    PHASE_HEAD,
    PHASE_WAIT,
)
from fastgate.gateway.decide import Action, Facts
from fastgate.gateway.record import tokens_used
from fastgate.gateway.relay import EVENTS
from fastgate.gateway.respond import error_event, wrapped_error
from fastgate.gateway.retry_budget import RetryBudget
from fastgate.gateway.scrub import scrubbed

if TYPE_CHECKING:
    from fastgate.gateway.context import Context
    from fastgate.upstream.connection import Connection

__all__ = ["Attempts"]

# An upstream's error answer is kept whole up to here; no error text of a known engine comes near
# it.
ERROR_BODY_BYTES = 64 * 1024

# Waits between retries of the same group: 0.5 s doubling to 8 s, as LiteLLM and the OpenAI SDK have
# it.
BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0

# Fields of an upstream's error that a client can act on.
_ERROR_FIELDS = (
    b"retry-after",
    b"retry-after-ms",
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
    b"x-should-retry",
)

# What a client reads when no connection came about; the library's words go to the log.
_CONNECT_TEXTS = {
    "refused": "the model's server refused the connection",
    "timeout": "the model's server did not accept a connection in time",
    "dns": "the name of the model's server could not be resolved",
    "tls": "no TLS connection to the model's server",
    "connect": "no connection to the model's server",
}


class UpstreamAnswer:
    """An upstream's error, kept to be passed on if nothing better comes."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, body: bytes, fields: bytes) -> None:
        self.status = status
        self.body = body
        self.fields = fields


class Attempts:
    """Belongs to a pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.router = pipeline.router
        self.budget = RetryBudget()

    # outcomes

    def succeeded(self, context: Context, now_ns: int) -> None:
        """The answer was passed on to its end."""
        if context.counted:
            target = context.target
            self.router.deployments.count(target.entry, now_ns, context.error_kind != "")
            self.leave(context, tokens_used(context))

    def on_connected(self, context: Context) -> None:
        """A new connection came about."""
        self._count("fastgate_upstream_connects_total", context, outcome="ok")

    def on_connect_failed(self, context: Context, kind: str, detail: str) -> None:
        self._count("fastgate_upstream_connects_total", context, outcome=kind)
        error: GatewayError
        if kind == "tls":
            error = UpstreamBroken(f"{_CONNECT_TEXTS[kind]}: {detail}", detail=detail)
        elif kind == "timeout":
            error = UpstreamTimeout(_CONNECT_TEXTS[kind], detail=detail)
        else:
            error = Unavailable(_CONNECT_TEXTS[kind], detail=detail)
        self._failed(context, error, kind, connect=True)

    def on_no_place(self, context: Context) -> None:
        """As many requests as may wait for a connection do. That is no fault of the deployment."""
        error = Unavailable(
            "too many requests wait for a connection to the model's server",
            fields=b"retry-after: 1\r\n",
        )
        self._failed(context, error, "pool_full", connect=True, blamed=False)

    def on_no_answer(self, context: Context, connection: Connection) -> None:
        """The connection ended before a whole answer head."""
        context.connection = None
        now_ns = monotonic_ns()
        stale = connection.served > 0 and not context.first_byte_ns
        facts = self._facts(context, now_ns, stale=stale)
        if decide.decide(facts).action is Action.SAME_FRESH:
            # The peer closed a kept-alive connection while the request was on its way: not a
            # failure of the deployment, and not an attempt.
            context.retried_fresh = context.fresh = True
            context.attempts -= 1
            self._go(context, lambda: self.pipeline.call(context, context.target, now_ns))
            return
        error = UpstreamBroken("the model's server closed the connection without an answer")
        self._failed(context, error, "no_answer")

    def on_broken(self, context: Context, error: GatewayError) -> None:
        """What came is no answer, or ended in the middle."""
        self._let_go(context)
        if context.head_sent:
            self._break(context, error, "upstream_cut")
        else:
            self._failed(context, error, "broken")

    def on_error_event(self, context: Context) -> bool:
        """An error event came before any content; True: another attempt is on its way."""
        now_ns = monotonic_ns()
        decision = decide.decide(self._facts(context, now_ns, status=500))
        if decision.action is Action.GIVE_UP:
            return False
        self._let_go(context)
        self._failed(context, UpstreamBroken("the model's server sent an error"), "error_event")
        return True

    def on_error_data(
        self, context: Context, reader: Any, data: bytes, start: int, end: int
    ) -> None:
        """Collect an error answer's body."""
        if context.error_content is None:
            context.error_content = bytearray()
        if start < len(data):
            context.error_content += reader.payload(data)
        if end >= 0:
            self.on_error_complete(context, end == len(data))
        elif len(context.error_content) > ERROR_BODY_BYTES:
            self.on_error_complete(context, False)

    def on_error_complete(self, context: Context, reusable: bool) -> None:
        """An error answer is here: try elsewhere, or pass it on."""
        connection = context.connection
        reader = connection.reader
        status = reader.status
        content = bytes(context.error_content or b"")[:ERROR_BODY_BYTES]
        if context.target is not None:
            content = scrubbed(content, context.target.deployment)
        context.error_content = None
        wait_s = decide.retry_after_s(
            reader.value(b"retry-after"), reader.value(b"retry-after-ms"), time()
        )
        fields = b"".join(
            b"%b: %b\r\n" % (name, value)
            for name in _ERROR_FIELDS
            if (value := reader.value(name)) is not None
        )
        kind = (reader.value(b"content-type") or b"").lower()
        if not kind.startswith((b"application/json", b"application/problem+json")):
            content = wrapped_error(status, content, context.endpoint.protocol)
        context.failure = UpstreamAnswer(status, content, fields)
        context.connection = None
        if reusable and reader.keep_alive and reader.complete and not connection.dirty:
            connection.pool.give_back(connection, monotonic_ns())
        else:
            connection.context = None
            connection.abort()
        self._failed(context, None, f"status_{status}", status=status, retry_after_s=wait_s)

    def on_late(self, context: Context, now_ns: int) -> None:
        """The present phase has taken too long."""
        phase = context.phase
        if phase == PHASE_CONNECT:
            context.pool.forget(context)
            context.pool = None
            self._failed(
                context,
                Unavailable("no connection to the model's server was free in time"),
                "pool_timeout",
                connect=True,
            )
        elif phase == PHASE_HEAD:
            self._let_go(context)
            self._failed(
                context, UpstreamTimeout("the model's server did not answer in time"), "timeout"
            )
        elif phase == PHASE_ERROR_BODY:
            self.on_error_complete(context, False)
        elif phase == PHASE_BODY:
            self._stalled(context, now_ns)

    def none_left(self, context: Context, error: LimitExceeded) -> None:
        """No deployment of the group can be tried: the next group, or the client is told."""
        if context.failure is None:
            context.failure = error
        if self._next_group(context):
            self._go(context, lambda: self.pipeline.attempt(context))
        else:
            self._tell(context)

    def drop(self, context: Context) -> None:
        """Let go of everything upstream: nobody waits for the answer any more."""
        if context.timer is not None:
            context.timer.cancel()
            context.timer = None
        if context.pool is not None:
            context.pool.forget(context)
            context.pool = None
            self.leave(context, -2)
            return
        self._let_go(context)
        self.leave(context, tokens_used(context))

    def leave(self, context: Context, tokens: int) -> None:
        """Give back what the attempt was counted for. `tokens`: used; -1 unknown; -2: it never went
        out.
        """
        if context.counted:
            context.counted = False
            self.router.leave(context, context.target, monotonic_ns(), tokens)

    # going on

    def _failed(
        self,
        context: Context,
        error: GatewayError | None,
        reason: str,
        *,
        status: int = 0,
        connect: bool = False,
        blamed: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        now_ns = monotonic_ns()
        target = context.target
        if error is not None:
            context.failure = error
        if not context.counted:
            # Not a deployment (the control process): nothing to try instead.
            self._tell(context)
            return
        if self.pipeline.book is not None:
            self.pipeline.book.attempt(context, reason, now_ns)
        self.leave(context, -2 if connect else -1)
        if blamed:
            self._judge(context, target, now_ns, status, connect, retry_after_s)
        if context.trail is None:
            context.trail = []
        context.trail.append((target.id, reason))
        if context.tried is None:
            context.tried = []
        context.tried.append(target)
        facts = self._facts(
            context, now_ns, status=status, connect=connect, retry_after_s=retry_after_s
        )
        decision = decide.decide(facts)
        if decision.action is not Action.GIVE_UP:
            self._count("fastgate_retries_total", context, reason=reason)
        self._act(context, decision, now_ns)

    def _act(self, context: Context, decision: decide.Decision, now_ns: int) -> None:
        action = decision.action
        self._reset(context)
        if action is Action.OTHER:
            context.retries_left -= 1
            self.budget.on_retry(now_ns)
            self._go(context, lambda: self.pipeline.attempt(context))
        elif action is Action.WAIT:
            context.retries_left -= 1
            self.budget.on_retry(now_ns)
            context.phase = PHASE_WAIT
            context.deadline_ns = 0
            context.timer = self.pipeline.worker.loop.call_later(
                decision.wait_s, self._resume, context
            )
        elif action is Action.FALLBACK and self._next_group(context):
            self.budget.on_retry(now_ns)
            self._go(context, lambda: self.pipeline.attempt(context))
        else:
            self._tell(context)

    def _resume(self, context: Context) -> None:
        context.timer = None
        context.tried = None
        if not context.finished:
            self._go(context, lambda: self.pipeline.attempt(context))

    def _go(self, context: Context, step: Any) -> None:
        try:
            step()
        except LimitExceeded as error:
            self.none_left(context, error)
        except GatewayError as error:
            context.failure = error
            self._tell(context)

    def _next_group(self, context: Context) -> bool:
        """Turn to the next fallback group that exists; False: there is none."""
        if context.plan is None or not self._replayable(context):
            return False
        if context.fallback_groups is None:
            context.fallback_groups = list(context.plan.fallbacks)
        while context.fallback_groups and context.fallbacks < self.pipeline.worker.max_fallbacks:
            name = context.fallback_groups.pop(0)
            plan = context.catalog.plan(name)
            if plan is None:
                continue
            context.fallbacks += 1
            self.pipeline.worker.metrics.counter(
                "fastgate_fallbacks_total", model=context.plan.label
            ).add(1)
            context.plan = plan
            context.tried = None
            context.retries_left = -1
            return True
        return False

    def _tell(self, context: Context) -> None:
        failure = context.failure
        if isinstance(failure, UpstreamAnswer):
            context.error_kind = f"status_{failure.status}"
            self.pipeline.recorder.error("upstream", context.error_kind)
            self.pipeline.answer(context, failure.status, failure.body, failure.fields)
        else:
            self.pipeline.fail(context, failure or Unavailable("no deployment could answer"))

    def _facts(
        self,
        context: Context,
        now_ns: int,
        *,
        status: int = 0,
        connect: bool = False,
        stale: bool = False,
        retry_after_s: float | None = None,
    ) -> Facts:
        groups = context.fallback_groups
        if groups is None and context.plan is not None:
            groups = context.plan.fallbacks
        tries = max(0, context.attempts - 1)
        jitter = 0.75 + 0.25 * self.router.random()
        return Facts(
            status=status,
            connect=connect,
            stale=stale,
            retried_fresh=context.retried_fresh,
            answered=context.head_sent,
            replayable=self._replayable(context),
            retries_left=context.retries_left,
            within_budget=self.budget.allows(now_ns),
            others=context.plan is not None and self.router.others(context, now_ns),
            fallback=bool(groups) and context.fallbacks < self.pipeline.worker.max_fallbacks,
            retry_after_s=retry_after_s,
            least_wait_s=max(
                self.pipeline.worker.retry_after_s,
                min(MAX_BACKOFF_S, BACKOFF_S * 2**tries) * jitter,
            ),
        )

    def _judge(
        self,
        context: Context,
        target: Any,
        now_ns: int,
        status: int,
        connect: bool,
        retry_after_s: float | None,
    ) -> None:
        """Count the failure against the deployment, and cool it down by LiteLLM's rules."""
        deployments = self.router.deployments
        entry = target.entry
        # A client's own fault says nothing of the deployment.
        blamed = not status or status >= 500 or status in (401, 402, 404, 408, 429)
        deployments.count(entry, now_ns, blamed)
        worker = self.pipeline.worker
        if not blamed or worker.disable_cooldowns:
            return
        if decide.cools_down(
            status=status,
            connect=connect,
            deployments=len(context.plan.choices),
            failures=deployments.failures(entry, now_ns),
            successes=deployments.successes(entry, now_ns),
            allowed_fails=worker.allowed_fails,
        ):
            wait_ns = target.cooldown_ns
            if retry_after_s is not None:
                wait_ns = int(retry_after_s * 1e9)
            deployments.cool_down(entry, now_ns + wait_ns)
            self._count("fastgate_cooldowns_total", context)

    def _stalled(self, context: Context, now_ns: int) -> None:
        if context.held is not None and now_ns < context.deadline_ns:
            # Pings have been held back for long enough: the client must see a sign of life.
            self.pipeline.send_head(context, context.connection.reader, b"", -1, now_ns)
            return
        error = UpstreamTimeout("the model's server stopped answering")
        self._let_go(context)
        if context.head_sent:
            self._break(context, error, "stalled")
        else:
            self._failed(context, error, "stalled")

    def _break(self, context: Context, error: GatewayError, kind: str) -> None:
        """A started answer can't be finished: say so in the stream where that is possible, and cut
        it.
        """
        scanner = context.scanner
        if (
            scanner is not None
            and scanner.kind == EVENTS
            and context.chunked_out
            and (scanner.at_boundary or context.tail)
            and not scanner.done_seen
        ):
            event = error_event(error, context.endpoint.protocol)
            context.downstream.write(as_chunk(event, False))
        if context.counted:
            self._judge(context, context.target, monotonic_ns(), 0, False, None)
        self.pipeline.cut(context, kind)

    def _let_go(self, context: Context) -> None:
        connection = context.connection
        context.connection = None
        if connection is not None:
            connection.context = None
            connection.abort()

    def _reset(self, context: Context) -> None:
        """Forget the failed attempt's answer."""
        context.scanner = context.held = None
        context.held_bytes = 0
        context.tail = b""
        context.first_byte_ns = context.sent_ns = context.first_content_ns = 0
        context.relay_ns = 0
        context.events = 0
        context.strip_usage = context.wants_strip
        context.deadline_ns = 0

    def _replayable(self, context: Context) -> bool:
        return context.upload is None or context.upload.replayable

    def _count(self, name: str, context: Context, **labels: str) -> None:
        self.pipeline.worker.metrics.counter(name, deployment=context.target.id, **labels).add(1)
