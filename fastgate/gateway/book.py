"""Stage `book`: what a request may cost is on record before it goes out, what it came to before its
last byte does.

    open      before the first attempt: RESERVE
    progress  now and then while a stream runs: PROGRESS
    attempt   an attempt failed that its provider bills: ATTEMPT
    settle    before the last bytes of the answer are written, or when there will be none: SETTLE

A request that goes upstream gets one row of spend_logs under its id; one that is refused before
gets none. What the provider counted is what is billed; where it did not say, what was seen is
counted, and the row's usage_source says so. See docs/spend.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate._core.journal import Journal, Outcome
from fastgate._core.scopes import charge
from fastgate.errors import Unavailable
from fastgate.gateway.booking import booking
from fastgate.gateway.clock import unix_us
from fastgate.gateway.context import PHASE_BODY
from fastgate.gateway.limit import settle as settle_scopes
from fastgate.gateway.record import overhead_ns
from fastgate.gateway.relay import EVENTS
from fastgate.spend.rows import (
    ABORTED,
    ESTIMATED,
    FAILURE,
    NO_USAGE,
    PROVIDER,
    SUCCESS,
    error_kind_code,
)
from fastgate.spend.segments import SYNC_RECORDS

if TYPE_CHECKING:
    from fastgate._core.bucket import LimitTable
    from fastgate._core.budget import BudgetTable
    from fastgate.gateway.booking import Booking
    from fastgate.gateway.context import Context
    from fastgate.spend.segments import SpendJournal

__all__ = ["Book"]

PROGRESS_NS = 1_000_000_000
"""What a killed worker's streams are billed for is at most this old."""

MAX_BOOKINGS = 1_000
"""Of one key: a wildcard group has any number of models."""

UNKNOWN = -1
"""A cost for which there is no price."""

ANTHROPIC = "anthropic"


class Book:
    """One per worker. `spend` is its journal's files."""

    def __init__(
        self, spend: SpendJournal, limits: LimitTable, budgets: BudgetTable, recorder: Any
    ) -> None:
        self.spend = spend
        self.limits = limits
        self.budgets = budgets
        self.journal: Journal = spend.journal
        self.outcome = Outcome()
        self.recorder = recorder
        self.refuses_when_full = True

    # before

    def open(self, context: Context, now_ns: int) -> None:
        """Reserve what `context` may cost at its target. Raises Unavailable when that can't be put
        on record.
        """
        wall_us = unix_us()
        context.booking = self._booking(context, wall_us)
        columns = context.booking.columns
        estimate = context.plan.estimate
        prompt = estimate.prompt(context.body_end - context.body_start)
        context.prompt_estimate = prompt
        n = context.n
        rates = context.booking.rates
        most = likely = UNKNOWN
        if rates is not None:
            most = rates.most_nano(wall_us, prompt, estimate.most_output(context.max_tokens), n)
            likely = rates.charge_nano(wall_us, prompt, 0, 0, estimate.output() * n, 0, 0, 0)
        reserved = self.journal.reserve(context.request_id, columns, wall_us, most, likely, prompt)
        if not reserved and self.spend.roll():
            reserved = self.journal.reserve(
                context.request_id, columns, wall_us, most, likely, prompt
            )
        if reserved:
            context.booked = True
            context.progress_booked_ns = now_ns
            if context.note:
                self._note(context)
        elif self.refuses_when_full:
            raise Unavailable("the spend journal is full: what can't be recorded is not served")
        if self.journal.records - self.spend.synced_records > SYNC_RECORDS:
            self.spend.wake()

    def _booking(self, context: Context, wall_us: int) -> Booking:
        """Return where requests like this one are booked."""
        principal = context.principal
        choice = context.choice
        key = (choice, context.endpoint, context.scoped)
        found: Booking | None = principal.bookings.get(key)
        rates = choice.rates
        version = 0 if rates is None else rates.version(wall_us)
        if found is None or found.rates is not rates or found.version != version:
            if len(principal.bookings) >= MAX_BOOKINGS:
                principal.bookings.clear()
            found = booking(context, version)
            principal.bookings[key] = found
        return found

    def _note(self, context: Context) -> None:
        """Put the columns on record that few requests have."""
        if not self.journal.note(context.request_id, context.note) and self.spend.roll():
            self.journal.note(context.request_id, context.note)

    # while it runs

    def progress(self, context: Context, now_ns: int) -> None:
        """Say what a stream came to so far: a killed worker's streams are billed for that."""
        context.progress_booked_ns = now_ns
        outcome = self.outcome
        outcome.clear()
        wall_us = unix_us()
        context.booking = self._booking(context, wall_us)
        self._measure(context, outcome, wall_us, now_ns, True)
        # Without room for it, what was said before holds.
        self.journal.progress(context.request_id, outcome.completion_tokens, outcome.spend_nano)

    # after

    def attempt(self, context: Context, reason: str, now_ns: int) -> None:
        """Put an attempt on record that failed, if its provider bills it."""
        scanner = context.scanner
        if not context.booked or scanner is None or not billed(context):
            return
        outcome = self.outcome
        outcome.clear()
        wall_us = unix_us()
        # Priced as its own target, which need not be the one that the request was opened with.
        context.booking = self._booking(context, wall_us)
        self._measure(context, outcome, wall_us, now_ns, True)
        self._times(context, outcome, wall_us, now_ns)
        outcome.attempt = context.attempts
        outcome.http_status = context.status
        outcome.status = FAILURE
        outcome.error_kind = error_kind_code(reason)
        if context.held_scopes is not None and outcome.spend_nano > 0:
            charge(self.budgets, context.held_scopes, outcome.spend_nano)
        columns = context.booking.columns
        if not self.journal.attempt(context.request_id, columns, outcome) and self.spend.roll():
            self.journal.attempt(context.request_id, columns, outcome)

    def settle(self, context: Context, now_ns: int) -> None:
        """Say what `context` came to. Nothing happens the second time."""
        if not context.booked:
            return
        context.booked = False
        wall_us = unix_us()
        outcome = self.outcome
        outcome.clear()
        context.booking = self._booking(context, wall_us)
        scanner = context.scanner
        kind = context.error_kind
        if not kind and scanner is not None and scanner.error_seen and context.status < 400:
            kind = "stream_error"
        self._measure(context, outcome, wall_us, now_ns, kind != "")
        self._times(context, outcome, wall_us, now_ns)
        outcome.overhead_us = overhead_ns(context, now_ns) // 1000
        outcome.http_status = context.status
        outcome.attempt = context.attempts
        outcome.stream = context.stream
        if not kind and context.status < 400:
            outcome.status = SUCCESS
        else:
            outcome.status = ABORTED if kind == "client_gone" else FAILURE
            outcome.error_kind = error_kind_code(kind)
        context.spend_nano = outcome.spend_nano
        if outcome.spend_nano < 0:
            self.recorder.unpriced(context)
        if outcome.usage_source == PROVIDER and not kind:
            context.plan.estimate.learn(
                context.body_end - context.body_start,
                outcome.prompt_tokens,
                outcome.completion_tokens // context.n,
            )
        # Counted before it is on record: what is posted must have been counted.
        tokens = -1 if outcome.usage_source == NO_USAGE else outcome.total_tokens
        settle_scopes(context, self.limits, self.budgets, now_ns, tokens)
        # Its room was kept when it was reserved.
        self.journal.settle(context.request_id, context.booking.columns, outcome)

    def _times(self, context: Context, outcome: Outcome, wall_us: int, now_ns: int) -> None:
        outcome.start_us = wall_us - (now_ns - context.start_ns) // 1000
        outcome.end_us = wall_us
        if context.first_byte_ns:
            outcome.first_byte_us = wall_us - (now_ns - context.first_byte_ns) // 1000
        if context.first_content_ns and context.read_ns:
            outcome.ttft_us = (context.first_content_ns - context.read_ns) // 1000

    def _measure(
        self, context: Context, outcome: Outcome, wall_us: int, now_ns: int, broken: bool
    ) -> None:
        """Stage meter: tokens and cost. `broken`: there was, or may be, no whole answer."""
        scanner = context.scanner
        prompt = cached = written = completion = reasoning = 0
        source = NO_USAGE
        if not billed(context):
            # Refused, or never answered: it costs nothing.
            outcome.spend_nano = 0
        else:
            if scanner is not None and (scanner.input_tokens >= 0 or scanner.output_tokens >= 0):
                source = PROVIDER
                prompt = max(0, scanner.input_tokens)
                completion = max(0, scanner.output_tokens)
                cached = max(0, scanner.cached_tokens)
                written = max(0, scanner.cache_write_tokens)
                reasoning = max(0, scanner.reasoning_tokens)
                passed = 0
                if context.target.protocol == ANTHROPIC:
                    # Its input leaves out what was read from the cache, or written to it. What it
                    # says of the output before the end is of the first token, and an event without
                    # any has opened the content.
                    prompt += cached + written
                    passed = scanner.content_events - 1
                elif completion == 0:
                    passed = scanner.content_events
                if broken and passed > completion:
                    # The last word on the output comes with the end, which did not come. (Usage
                    # that comes with every event is right as it is.)
                    completion = passed
                    source = ESTIMATED
            elif context.endpoint.metered:
                source = ESTIMATED
                prompt = context.prompt_estimate
                if context.stream and scanner is not None:
                    completion = scanner.content_events
                elif context.endpoint.generates:
                    completion = context.plan.estimate.output() * context.n
            rates = context.booking.rates
            if rates is None:
                outcome.spend_nano = UNKNOWN
            else:
                images = context.n if context.endpoint.makes_images else 0
                outcome.spend_nano = rates.charge_nano(
                    wall_us,
                    prompt,
                    cached,
                    written,
                    completion,
                    reasoning,
                    images,
                    now_ns - context.sent_ns,
                )
        outcome.usage_source = source
        outcome.prompt_tokens = prompt
        outcome.cached_tokens = cached
        outcome.cache_write_tokens = written
        outcome.completion_tokens = completion
        outcome.reasoning_tokens = reasoning
        outcome.total_tokens = prompt + completion


def billed(context: Context) -> bool:
    """Return whether the attempt under way got so far that its provider bills it."""
    if context.phase != PHASE_BODY or context.status >= 400:
        return False
    scanner = context.scanner
    if scanner is None or scanner.kind != EVENTS:
        return True
    seen: bool = (
        scanner.content_events > 0 or scanner.input_tokens >= 0 or scanner.output_tokens >= 0
    )
    return seen
