"""One stage of a load in one process: sends requests when they are due, and owns the connections.

    closed loop   _next: a connection with its answer sends its next request
    open loop     _schedule: requests leave when the schedule says, on an idle or a new connection

All times are of CLOCK_MONOTONIC, which no clock step touches and which all processes share; a test
may pass a clock of its own. What is counted goes to `emit` once a second and is forgotten here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from bench.load.client import Client
from bench.load.options import Options
from bench.load.schedule import arrivals
from bench.load.slo import Slo
from bench.load.tally import Tally
from bench.load.timer import Timer
from bench.load.workload import Request

__all__ = ["Run"]

SECOND_NS = 1_000_000_000

TIMER_S = 0.002
"""The loop's timer that ends a stage may be 1 ms early, and the one that sends a request late."""

BURST = 64
"""Requests that may be sent in a row when they are overdue, before answers are looked at."""


AHEAD = 64
"""Requests that are built before they are due."""

EARLY_NS = 200_000
"""Until then the kernel's timer waits for a request; from then on the clock is looked at."""

POLL_NS = 50_000
"""The loop comes round sooner when it has nothing else to do."""

BUILD_NS = 2_000_000
"""A prompt of 100,000 tokens is built in less."""


class Run:
    def __init__(
        self,
        options: Options,
        stage: tuple[int, float],
        plan: Iterator[tuple[float, Request]],
        emit: Callable[[dict[str, Any]], None],
        *,
        share: tuple[int, int] = (0, 1),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.clock = clock
        self.slo = Slo(options.slo)
        self.verify = options.verify
        self.tally = Tally()
        self.in_flight = 0
        self.elapsed_s = 0.0
        """From the end of the warm-up to the last answer."""
        self.unsent = 0
        """Scheduled for this stage, and not sent before its end."""
        self.abandoned = 0
        """In flight when the run was told to stop."""
        self.polled_ns = 0
        """CPU time for waiting, which a higher rate would not leave."""
        self._polled_at = 0
        self._segments = 0
        self._warm = Tally()
        """Takes what is not counted."""
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._emit = emit
        self._share = share
        index, count = share
        concurrency, self._rate = stage
        self._connections = concurrency // count + (index < concurrency % count)
        self._limit = options.requests // count + (index < options.requests % count)
        self._open_loop = concurrency == 0
        self._clients: set[Client] = set()
        self._idle: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()
        self._stopping = bool(options.requests) and not self._limit
        self._in_window = True
        self._overdue = False
        """The time was over before the schedule was."""
        self._measure_ns = 0
        self._stop_ns = 0
        self._begun = 0
        self._due: tuple[int, Request] | None = None
        self._ahead: deque[tuple[float, Request]] = deque()
        self._surplus: dict[tuple[str, bool], int] = {}
        self._tls = tls_context(options)
        self._timer: Timer | None = None

    async def connect(self) -> None:
        """Resolve the name; open the connections of a closed loop. Nothing is sent yet."""
        url = urlsplit(self._options.url)
        host, port = url.hostname or "127.0.0.1", url.port or (443 if self._tls else 80)
        self._host, self._port = host, port
        if not self._options.unix:
            with contextlib.suppress(OSError):  # open() will meet the same, and count it
                found = await self._loop.getaddrinfo(host, port, type=1)
                self._host = str(found[0][4][0])
        if not self._open_loop:
            opening = (self._open(self._idle.append) for _ in range(self._connections))
            await asyncio.gather(*opening)

    async def go(self, start_ns: int) -> None:
        """Run the stage; it begins at `start_ns`, and is over when this returns."""
        options = self._options
        self._measure_ns = start_ns + round(options.warmup_s * SECOND_NS)
        self._stop_ns = self._measure_ns + round(options.duration_s * SECOND_NS)
        wait_s = max(0.0, (start_ns - self.clock()) / 1e9)
        ticking = self._loop.create_task(self._tick())
        # A schedule ends by itself; its last request is not to be cut off.
        end_s = wait_s + options.warmup_s + options.duration_s + TIMER_S * self._open_loop
        ending = self._loop.call_later(end_s, self.stop_sending)
        watching = self._loop.create_task(self._expire())
        self._start(start_ns, wait_s)
        limit_s = wait_s + options.warmup_s + options.duration_s + options.grace_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), limit_s)
        self.elapsed_s = max(0.0, (self.clock() - self._measure_ns) / SECOND_NS)
        ending.cancel()
        self._stopping = True
        for task in (ticking, watching, *self._tasks):
            task.cancel()
        await asyncio.gather(ticking, watching, *self._tasks, return_exceptions=True)
        self._close()
        self._send_off()
        self._count_unsent()

    def _start(self, start_ns: int, wait_s: float) -> None:
        if self._open_loop:
            self._timer = Timer(self._loop, self._schedule)
            self._times = self._times_from(start_ns)
            self._advance()
            self._schedule()
            return
        idle, self._idle = self._idle, []
        if not idle:
            self._done.set()
        for number, client in enumerate(idle):
            delay_s = wait_s + self._options.ramp_s * number / len(idle)
            self._loop.call_later(delay_s, self._next, client)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.close()
        for client in list(self._clients):
            if client.request is not None:
                client.give_up("unfinished")
            client.transport.abort()

    # ---- what is counted

    async def _tick(self) -> None:
        while True:
            into_ns = (self.clock() - self._measure_ns) % SECOND_NS
            await asyncio.sleep((SECOND_NS - into_ns) / SECOND_NS)
            self._send_off()

    def _send_off(self) -> None:
        at_s = max(0, (self.clock() - self._measure_ns - SECOND_NS // 2) // SECOND_NS)
        state = self.tally.drain()
        state |= {"at_s": at_s, "window": self._in_window, "in_flight": self.in_flight}
        state["process"] = self._share[0]
        self._emit(state)

    def check_events(self, request: Request, events: int, output_tokens: int) -> str | None:
        """Compare a stream's events beyond its tokens with the first's; None: as many."""
        if output_tokens < 0:
            return "stream without usage"
        surplus = events - output_tokens
        expected = self._surplus.setdefault((request.kind, request.stream), surplus)
        if surplus == expected:
            return None
        return "events lost" if surplus < expected else "events duplicated"

    # ---- connections

    async def _open(self, then: Callable[[Client], None]) -> None:
        options, tally = self._options, self._counted()
        begun = self.clock()
        name = urlsplit(options.url).hostname if self._tls else None
        try:
            if options.unix:
                opening: Any = self._loop.create_unix_connection(
                    lambda: Client(self), options.unix, ssl=self._tls, server_hostname=name
                )
            else:
                opening = self._loop.create_connection(
                    lambda: Client(self), self._host, self._port, ssl=self._tls,
                    server_hostname=name,
                )  # fmt: skip
            _, client = await asyncio.wait_for(opening, options.timeout_s)
        except TimeoutError:
            tally.fail("connect: timeout")
        except ssl.SSLError as error:
            tally.fail(f"tls: {error.reason or error}")
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            tally.fail(f"connect: {reason}")
        else:
            tally.opened += 1
            tally.connect.record(self.clock() - begun)
            then(client)

    def _open_soon(self, then: Callable[[Client], None]) -> None:
        task = self._loop.create_task(self._open(then))
        self._tasks.add(task)
        task.add_done_callback(self._on_opened)

    def _on_opened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._check_done()

    def on_connected(self, client: Client) -> None:
        self._clients.add(client)

    def on_lost(self, client: Client) -> None:
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        self._check_done()

    def on_surplus(self, client: Client) -> None:
        """Bytes came on an idle connection."""
        self._counted().fail("surplus bytes")
        client.closed = True
        client.transport.abort()

    # ---- requests

    def _counted(self) -> Tally:
        return self.tally if self.clock() >= self._measure_ns else self._warm

    def _send(self, client: Client, request: Request, scheduled_ns: int) -> None:
        """Send what `_may_start` allowed."""
        if client.closed or client.transport.is_closing():
            self._send_on_new(request, scheduled_ns or self.clock())
            return
        now = self.clock()
        tally = self.tally if (scheduled_ns or now) >= self._measure_ns else self._warm
        if scheduled_ns and self._open_loop:
            tally.late.record(now - scheduled_ns)
        self.in_flight += 1
        client.send(request, scheduled_ns or now, tally)

    def _send_on_new(self, request: Request, scheduled_ns: int) -> None:
        self._open_soon(lambda client: self._send(client, request, scheduled_ns))

    def _may_start(self, scheduled_ns: int) -> bool:
        """Count a request, unless there are to be no more."""
        if self._stopping:
            return False
        if (scheduled_ns or self.clock()) >= self._measure_ns:
            self.tally.started += 1
            self._begun += 1
            if self._options.requests and self._begun >= self._limit:
                self._stopping = True
        return True

    def on_answer(self, client: Client, request: Request) -> None:
        """A request has ended, well or not."""
        self.in_flight -= 1
        follow = self._follow(client, request)
        if self._open_loop:
            if follow is not None and self._may_start(0):
                self._send(client, follow, 0)
            elif not client.closed:
                self._idle.append(client)
            self._check_done()
        elif client.closed and not self._stopping:
            self._open_soon(lambda fresh: self._next(fresh, follow))
        else:
            self._next(client, follow)

    def _follow(self, client: Client, request: Request) -> Request | None:
        """The next turn of the answer's conversation, if it has one."""
        if request.conversation is None or client.kept is None:
            return None
        try:
            request.conversation.take_answer(request, b"".join(client.kept))
        except (ValueError, LookupError, TypeError, AttributeError):
            client.tally.fail("answer without text")
            return None
        return request.conversation.next_request()

    def _next(self, client: Client, request: Request | None = None) -> None:
        """Closed loop: this connection's next request."""
        if not self._stopping:
            if request is None:
                request = next(self._plan, (0.0, None))[1]
            if request is not None and self._may_start(0):
                self._send(client, request, 0)
                return
            self._stopping = True
        self._check_done()

    # ---- open loop

    def _times_from(self, start_ns: int) -> Iterator[int] | None:
        """The schedule; None where the trace itself says when."""
        options = self._options
        if not self._rate:
            self._trace_ns = start_ns
            return None
        index, count = self._share
        schedule = arrivals(
            self._rate, options.arrivals, options.ramp_s, options.seed, index, count
        )
        return (start_ns + at_ns for at_ns in schedule)

    def _advance(self) -> None:
        """Fetch, and so build, the next request while there is time."""
        found = self._ahead.popleft() if self._ahead else next(self._plan, None)
        if found is None:
            self._due = None
            self._stopping = True
            return
        at_s, request = found
        if self._times is None:
            self._due = (self._trace_ns + round(at_s * SECOND_NS), request)
        else:
            self._due = (next(self._times), request)

    def _schedule(self) -> None:
        """Send what is due; sleep until the next is."""
        for _ in range(BURST):
            if self._stopping or self._due is None:
                self._check_done()
                return
            due_ns, request = self._due
            wait_ns = due_ns - self.clock()
            if wait_ns > EARLY_NS:
                assert self._timer is not None
                self._timer.arm(due_ns - EARLY_NS)
                self._loop.call_soon(self._build_ahead)
                return
            if wait_ns > 0:
                self._poll(due_ns - wait_ns)
                return
            if due_ns >= self._stop_ns:
                return
            self._may_start(due_ns)
            if self._idle:
                self._send(self._idle.pop(), request, due_ns)
            else:
                self._send_on_new(request, due_ns)
            if not self._stopping:
                self._advance()
        self._loop.call_soon(self._schedule)

    def _poll(self, now: int) -> None:
        """Look at the clock again after the sockets; tell this waiting from work."""
        since_ns = now - self._polled_at
        if self._segments == self.tally.segments and since_ns < POLL_NS:
            self.polled_ns += since_ns
        self._polled_at = now
        self._segments = self.tally.segments
        self._loop.call_soon(self._schedule)

    def _build_ahead(self) -> None:
        """Build one request while there is time, so that a burst of long prompts is not late."""
        spare_ns = self._due[0] - self.clock() if self._due else 0
        if len(self._ahead) < AHEAD and spare_ns > BUILD_NS:
            found = next(self._plan, None)
            if found is not None:
                self._ahead.append(found)
                self._loop.call_soon(self._build_ahead)

    # ---- the end

    def stop_sending(self) -> None:
        """The time is over; what is in flight may finish."""
        self._send_off()
        self._in_window = False
        self._overdue = not self._stopping
        self._stopping = True
        self._check_done()

    def _count_unsent(self) -> None:
        """Go through what the schedule has left of the stage."""
        while self._overdue and self._due is not None and self._due[0] < self._stop_ns:
            self.unsent += 1
            self._advance()

    def stop_now(self) -> None:
        """Somebody wants the report so far."""
        self._send_off()
        self._in_window = False
        self._stopping = True
        self.abandoned = self.in_flight
        for client in list(self._clients):
            client.drop()
        self._done.set()

    def _check_done(self) -> None:
        """End when nothing more will be sent (or can be: all connections lost) or come."""
        more = bool(self._open_loop or self._clients) and not self._stopping
        if not more and not self._tasks and self.in_flight == 0:
            self._done.set()

    async def _expire(self) -> None:
        """Give up on requests that take longer than the time limit."""
        limit_s = self._options.timeout_s
        while True:
            await asyncio.sleep(min(1.0, limit_s))
            oldest_ns = self.clock() - round(limit_s * SECOND_NS)
            for client in list(self._clients):
                if client.request is not None and client.sent_ns < oldest_ns:
                    client.give_up("timeout")


def tls_context(options: Options) -> ssl.SSLContext | None:
    """Return what https needs; raises ValueError when `--ca` is no certificate."""
    if urlsplit(options.url).scheme != "https":
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
    except OSError as error:
        raise ValueError(f"--ca: expected a file of PEM certificates ({error})") from None
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
