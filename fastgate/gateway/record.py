"""Stages `meter` and `record`: what a request used and took, into counters and the access log.

Everything is bounded: label values come from the configuration, never from a request, and what is
logged holds no key, no prompt and no answer. Failing to record must never fail a request.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["Recorder", "overhead_ns", "tokens_used"]

_json = msgspec.json.Encoder().encode


class Recorder:
    """One per worker."""

    def __init__(self, metrics: Any) -> None:
        self.metrics = metrics
        self.log: Any = None
        """The AccessLog, and its buffer; None: there is none."""
        self.lines: Any = None
        self.counters: dict[Any, Any] = {}
        self.durations: dict[Any, Any] = {}
        self.overheads: dict[str, Any] = {}
        self.log_prefix = b""
        self.log_prefix_ms = 0

    def record(self, context: Context, now_ns: int) -> None:
        """Count and log a request that is over."""
        scanner = context.scanner
        plan = context.plan
        target = context.target
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
        name = "" if context.endpoint is None else context.endpoint.name
        model = deployment = "none"
        if plan is not None:
            model = plan.label
            if input_tokens > 0:
                plan.input_tokens.add(input_tokens)
            if output_tokens > 0:
                plan.output_tokens.add(output_tokens)
        if target is not None:
            deployment = target.id
            if upstream_ns > 0:
                target.upstream_time.record(upstream_ns)
            if ttft_ns > 0:
                target.ttft.record(ttft_ns)
        self._count(context, model, deployment)
        histogram = self.durations.get((name, model))
        if histogram is None:
            histogram = self.durations[(name, model)] = self.metrics.histogram(
                "fastgate_request_duration_seconds", endpoint=name, model=model
            )
        histogram.record(total_ns)
        if context.sent_ns:
            histogram = self.overheads.get(name)
            if histogram is None:
                histogram = self.overheads[name] = self.metrics.histogram(
                    "fastgate_overhead_seconds", endpoint=name
                )
            histogram.record(spent_ns)
        if self.lines is not None:
            self._log(context, now_ns, deployment, total_ns, ttft_ns, upstream_ns, spent_ns)

    def error(self, source: str, kind: str) -> None:
        """Count an error."""
        key = (source, kind)
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = self.metrics.counter(
                "fastgate_errors_total", source=source, kind=kind
            )
        counter.add(1)

    def _count(self, context: Context, model: str, deployment: str) -> None:
        name = "" if context.endpoint is None else context.endpoint.name
        key = (name, model, deployment, context.status)
        counter = self.counters.get(key)
        if counter is None:
            counter = self.counters[key] = self.metrics.counter(
                "fastgate_requests_total",
                endpoint=name,
                model=model,
                deployment=deployment,
                code=str(context.status),
            )
        counter.add(1)

    def _prefix(self, now_ns: int) -> bytes:
        # The time is written anew once a millisecond.
        now_ms = now_ns // 1_000_000
        if now_ms != self.log_prefix_ms:
            self.log_prefix_ms = now_ms
            self.log_prefix = b'{"ts":%.3f,' % time()
        return self.log_prefix

    def _log(
        self,
        context: Context,
        now_ns: int,
        deployment: str,
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
        strings = self._strings(context, deployment)
        prefix = self._prefix(now_ns)
        for _ in range(2):
            if self.lines.add(
                prefix,
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

    def _strings(self, context: Context, deployment: str) -> bytes:
        """Return the members that say who asked for what; most requests repeat the last one's."""
        downstream = context.downstream
        # After a fallback the plan is that of another model than the client named.
        plain = (
            context.client_request_id is None and not context.error_kind and not context.fallbacks
        )
        if (
            plain
            and context.trail is None
            and downstream.log_principal is context.principal
            and downstream.log_plan is context.plan
            and downstream.log_target is context.target
            and downstream.log_endpoint is context.endpoint
        ):
            known: bytes = downstream.log_strings
            return known
        principal = context.principal
        who: bytes = b"" if principal is None else principal.log_members
        endpoint = "" if context.endpoint is None else context.endpoint.name
        model = "" if context.plan is None else context.model
        members = (
            f'"client":"{downstream.peer}","endpoint":"{endpoint}",'
            f'"model":"{model}","deployment":"{deployment}",'
        ).encode()
        if plain and context.trail is None:
            downstream.log_principal = principal
            downstream.log_plan = context.plan
            downstream.log_target = context.target
            downstream.log_endpoint = context.endpoint
            downstream.log_strings = who + members
            return who + members
        if context.client_request_id is not None:
            members += b'"client_request_id":%b,' % _json(
                context.client_request_id.decode("latin-1")
            )
        if context.error_kind:
            members += f'"error":"{context.error_kind}",'.encode()
        if context.trail:
            members += b'"tried":%b,' % _json(context.trail)
        return who + members


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
