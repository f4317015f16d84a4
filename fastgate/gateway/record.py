"""Stages `meter` and `record`: what a request used and took, into counters and the access log.

Everything is bounded: label values come from the configuration, never from a request, and what is
logged holds no key, no prompt and no answer. Failing to record must never fail a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fastgate.gateway.clock import unix_ms

if TYPE_CHECKING:
    from fastgate.gateway.context import Context, Sender

__all__ = ["Recorder", "overhead_ns", "tokens_used"]

_json = msgspec.json.Encoder().encode


class Recorder:
    """One per worker."""

    def __init__(self, metrics: Any) -> None:
        self.metrics = metrics
        self.log: Any = None
        """The AccessLog, and its buffer; None: there is none."""
        self.lines: Any = None
        self.errors: dict[tuple[str, str], Any] = {}
        self.series: dict[tuple[str, str, str, int], tuple[Any, Any, Any]] = {}
        """Requests, durations and overheads, by endpoint, model, deployment and status."""

    def record(self, context: Context, now_ns: int) -> None:
        """Count and log a request that is over."""
        scanner = context.scanner
        plan = context.plan
        target = context.target
        last = context.downstream
        input_tokens = output_tokens = -1
        if scanner is not None:
            input_tokens = scanner.input_tokens
            output_tokens = scanner.output_tokens
        total_ns = now_ns - context.start_ns
        spent_ns = overhead_ns(context, now_ns)
        upstream_ns = ttft_ns = 0
        if context.first_byte_ns and context.sent_ns:
            upstream_ns = context.first_byte_ns - context.sent_ns
        if context.first_content_ns and context.read_ns:
            ttft_ns = context.first_content_ns - context.read_ns
        if plan is not None:
            if input_tokens > 0:
                plan.input_tokens.add(input_tokens)
            if output_tokens > 0:
                plan.output_tokens.add(output_tokens)
        # The control process is a target, too, but no deployment.
        if target is not None and plan is not None:
            if upstream_ns > 0:
                target.upstream_time.record(upstream_ns)
            if ttft_ns > 0:
                target.ttft.record(ttft_ns)
        if (
            last.last_status != context.status
            or last.last_plan is not plan
            or last.last_target is not target
            or last.last_endpoint is not context.endpoint
        ):
            self._remember(context, last)
        last.last_requests.add(1)
        last.last_durations.record(total_ns)
        if context.sent_ns:
            last.last_overheads.record(spent_ns)
        if self.lines is not None:
            self._log(context, last, total_ns, ttft_ns, upstream_ns, spent_ns)

    def error(self, source: str, kind: str) -> None:
        """Count an error."""
        key = (source, kind)
        counter = self.errors.get(key)
        if counter is None:
            counter = self.errors[key] = self.metrics.counter(
                "fastgate_errors_total", source=source, kind=kind
            )
        counter.add(1)

    def unpriced(self, context: Context) -> None:
        """Count a request whose cost is not known."""
        self.metrics.counter("fastgate_unpriced_requests_total", model=context.plan.label).add(1)

    def _remember(self, context: Context, last: Sender) -> None:
        """Look up what a request counts under; most requests of a connection repeat the last
        one's.
        """
        name = "" if context.endpoint is None else context.endpoint.name
        model = "none" if context.plan is None else context.plan.label
        deployment = "none" if context.target is None else context.target.id
        key = (name, model, deployment, context.status)
        series = self.series.get(key)
        if series is None:
            metrics = self.metrics
            series = self.series[key] = (
                metrics.counter(
                    "fastgate_requests_total",
                    endpoint=name,
                    model=model,
                    deployment=deployment,
                    code=str(context.status),
                ),
                metrics.histogram("fastgate_request_duration_seconds", endpoint=name, model=model),
                metrics.histogram("fastgate_overhead_seconds", endpoint=name),
            )
        last.last_requests, last.last_durations, last.last_overheads = series
        last.last_plan = context.plan
        last.last_target = context.target
        last.last_endpoint = context.endpoint
        last.last_status = context.status
        last.last_strings = None

    def _log(
        self,
        context: Context,
        last: Sender,
        total_ns: int,
        ttft_ns: int,
        upstream_ns: int,
        spent_ns: int,
    ) -> None:
        scanner = context.scanner
        input_tokens = output_tokens = -1
        if scanner is not None:
            input_tokens = scanner.input_tokens
            output_tokens = scanner.output_tokens
        strings = self._strings(context, last)
        at_ms = unix_ms()
        for _ in range(2):
            if self.lines.add(
                at_ms,
                context.request_id,
                strings,
                context.status,
                context.attempts,
                context.body_end - context.body_start,
                context.bytes_out,
                input_tokens,
                output_tokens,
                total_ns,
                ttft_ns,
                upstream_ns,
                spent_ns,
            ):
                return
            self.log.flush()

    def _strings(self, context: Context, last: Sender) -> bytes:
        """Return the members that say who asked for what."""
        # After a fallback the plan is that of another model than the client named.
        plain = (
            context.client_request_id is None
            and not context.error_kind
            and not context.fallbacks
            and context.trail is None
        )
        if plain and last.last_strings is not None and last.last_principal is context.principal:
            return last.last_strings
        principal = context.principal
        members: bytes = b"" if principal is None else principal.log_members
        endpoint = "" if context.endpoint is None else context.endpoint.name
        model = "" if context.plan is None else context.model
        deployment = "none" if context.target is None else context.target.id
        members += (
            f'"client":"{last.peer}","endpoint":"{endpoint}",'
            f'"model":"{model}","deployment":"{deployment}",'
        ).encode()
        if plain:
            last.last_principal = principal
            last.last_strings = members
            return members
        if context.client_request_id is not None:
            members += b'"client_request_id":%b,' % _json(
                context.client_request_id.decode("latin-1")
            )
        if context.error_kind:
            members += f'"error":"{context.error_kind}",'.encode()
        if context.trail:
            members += b'"tried":%b,' % _json(context.trail)
        return members


def overhead_ns(context: Context, now_ns: int) -> int:
    """Return the time that the gateway itself took: read to sent, and arrival of the answer to its
    passing on.
    """
    if not context.sent_ns:
        return now_ns - (context.read_ns or context.start_ns)
    spent = context.sent_ns - context.read_ns
    if context.connected_ns > context.routed_ns:
        # Waiting for a connection is accounted for by itself.
        spent -= context.connected_ns - context.routed_ns
    return spent + context.relay_ns


def tokens_used(context: Context) -> int:
    """Return input + output tokens as the engine counted them, -1 when it did not say."""
    scanner = context.scanner
    if scanner is None or (scanner.input_tokens < 0 and scanner.output_tokens < 0):
        return -1
    used: int = max(0, scanner.input_tokens) + max(0, scanner.output_tokens)
    return used
