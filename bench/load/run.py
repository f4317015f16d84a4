"""One measurement: sends requests when they are due, over connections that it owns.

Closed loop: each connection sends its next request when it has its answer. Open loop: requests
leave at their scheduled times, whatever the answers do, and every time is measured from the
*scheduled* time, so that a server that stalls can't hide it. All times are of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from bench.load.client import Client
from bench.load.options import Options
from bench.load.results import Results
from bench.load.schedule import arrivals
from bench.load.workload import Item, Workload
from fastgate.gateway.clock import monotonic_ns

__all__ = ["Run", "run"]

SPIN_S = 0.002
"""Timers of the loop are up to 1 ms late; the last 2 ms before a scheduled time are polled."""

MS = 1_000_000

YEAR_S = 31_536_000.0


class Run:
    """One step: one concurrency or one rate. `step` is its number in a staircase."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: Options, step: int = 0, part: int = 0
    ) -> None:
        self.options = options
        self.results = Results()
        self.workload = Workload(options, part)
        self.in_flight = 0
        self.begun_ns = 0
        self._loop = loop
        self._part = part
        self._concurrency = options.concurrency[min(step, len(options.concurrency) - 1)]
        self._step = step
        self._clients: set[Client] = set()
        self._idle: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        """No further request is to be sent."""
        self._ending = False
        self._due: Iterator[float] | None = None
        self._next: tuple[int, Item] | None = None
        self._spun_s = 0.0
        self._surplus: int | None = None
        self._done = asyncio.Event()
        self._warm_until_ns = 0
        self._tls = _tls(options)

    @property
    def open_loop(self) -> bool:
        return self.options.rate is not None or self.workload.timed

    async def run(self) -> Results:
        """Warm up, measure, wait for what is in flight."""
        options, results = self.options, self.results
        if not self.open_loop:
            await asyncio.gather(*(self._open(self._idle.append) for _ in range(self._concurrency)))
            if not self._idle:
                return results
        cpu_before = time.process_time()
        self.begun_ns = monotonic_ns()
        self._warm_until_ns = self.begun_ns + int(options.warmup_s * 1e9)
        # A trace of unknown length runs to its end.
        stop_s = min(options.warmup_s + options.duration_s, YEAR_S)
        stop_timer = self._loop.call_later(stop_s, self.stop)
        watch = self._loop.create_task(self._watch())
        if self.open_loop:
            self._due = self._times() if options.rate is not None else None
            self._advance()
            self._schedule()
        else:
            idle, self._idle = self._idle, []
            for index, client in enumerate(idle):
                delay_s = options.ramp_up_s * index / len(idle)
                self._loop.call_later(delay_s, self._send_next, client)
        await self._done.wait()
        watch.cancel()
        stop_timer.cancel()
        now_ns = monotonic_ns()
        for client in self._clients:
            results.bytes += client.bytes
            if client.busy:
                results.errors["unfinished"] += 1
        results.elapsed_s = max(0.0, (now_ns - self._warm_until_ns) / 1e9)
        results.cpu_s = max(0.0, time.process_time() - cpu_before - self._spun_s)
        self._stopping = True
        for client in list(self._clients):
            client.busy = False
            client.transport.abort()
        await asyncio.sleep(0)
        return results

    def stop(self) -> None:
        """Send no more; end when the answers are there, or the time for them is over."""
        if self._ending:
            return
        self._stopping = self._ending = True
        self._loop.call_later(self.options.grace_s, self._done.set)
        self._check_done()

    # ---- connections

    async def _open(self, then: Callable[[Client], None]) -> None:
        options = self.options
        url = urlsplit(options.url)
        port = url.port or (443 if options.tls else 80)
        name = url.hostname if options.tls else None
        try:
            if options.unix:
                opening: Any = self._loop.create_unix_connection(
                    lambda: Client(self), options.unix, ssl=self._tls, server_hostname=name
                )
            else:
                opening = self._loop.create_connection(
                    lambda: Client(self),
                    url.hostname or "127.0.0.1",
                    port,
                    ssl=self._tls,
                    server_hostname=name,
                )
            _, client = await asyncio.wait_for(opening, options.timeout_s)
        except (OSError, TimeoutError) as error:
            what = os.strerror(error.errno) if getattr(error, "errno", None) else str(error)
            self.results.errors[f"connect: {what or 'timeout'}"] += 1
            self.results.missed += self.open_loop
        else:
            self.results.opened += 1
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
        self.results.bytes += client.bytes
        client.bytes = 0
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        self._check_done()

    def on_surplus(self, client: Client) -> None:
        self.results.errors["surplus bytes"] += 1
        client.transport.abort()

    # ---- requests

    def _may_start(self) -> bool:
        """Count a request, unless there are to be no more."""
        if self._stopping:
            return False
        self.results.started += 1
        if self.results.started == self.options.requests:
            # Not at once: the request that was counted here has yet to be sent.
            self._loop.call_soon(self.stop)
            self._stopping = True
        return True

    def _send_next(self, client: Client) -> None:
        """Closed loop: this connection's next request."""
        if self._stopping:
            self._check_done()
            return
        item = client.item.then if client.item is not None else None
        item = item or self.workload.next()
        if item is not None and self._may_start():
            self._send(client, item, 0)
        else:
            self._check_done()

    def _send(self, client: Client, item: Item, scheduled_ns: int) -> None:
        if client.transport.is_closing():
            self._open_soon(lambda fresh: self._send(fresh, item, scheduled_ns))
            return
        now_ns = monotonic_ns()
        at_ns = scheduled_ns or now_ns
        counted = at_ns >= self._warm_until_ns
        if scheduled_ns and counted:
            self.results.late.add(now_ns - scheduled_ns)
        self.in_flight += 1
        client.send(item, at_ns, counted)

    def on_answer(
        self,
        client: Client,
        error: str,
        now_ns: int,
        first_ns: int,
        last_ns: int,
        worst_gap_ns: int,
        status: int,
        scanner: Any,
        lost: bool,
    ) -> None:
        """A request is over; `error` "": its answer came whole."""
        self.in_flight -= 1
        if client.counted:
            error = error or self._judge(status, scanner)
            self._count(client.sent_ns, error, now_ns, first_ns, last_ns, worst_gap_ns, scanner)
        if lost:
            client.transport.abort()
        following = client.item.then
        if not self.open_loop:
            if lost and not self._stopping:
                self._open_soon(self._send_next)
            else:
                self._send_next(client)
            return
        if following is not None and self._may_start():
            self._on_free(following, now_ns, None if lost else client)
            return
        if not lost:
            self._idle.append(client)
        self._check_done()

    def _judge(self, status: int, scanner: Any) -> str:
        """What is wrong with an answer that came whole; "": nothing."""
        if status >= 400:
            return f"status {status}"
        options = self.options
        if scanner is None or scanner.kind != 0:
            return ""
        if scanner.error_seen:
            return "error event"
        if options.endpoint in ("chat", "completions") and not scanner.done_seen:
            return "no [DONE]"
        return self._verify(scanner) if options.verify else ""

    def _verify(self, scanner: Any) -> str:
        """Are there as many content events as tokens? The event that says why an answer ended is
        one by itself with some engines, and with others not: the first answer shows which.
        """
        if scanner.output_tokens < 0:
            return "no usage to verify by"
        surplus = scanner.content_events - scanner.output_tokens
        if self._surplus is None and surplus in (0, 1):
            self._surplus = surplus
        expected = self._surplus or 0
        if surplus == expected:
            return ""
        return "lost events" if surplus < expected else "duplicated events"

    def _count(
        self,
        sent_ns: int,
        error: str,
        now_ns: int,
        first_ns: int,
        last_ns: int,
        worst_gap_ns: int,
        scanner: Any,
    ) -> None:
        results = self.results
        second = results.second((now_ns - self._warm_until_ns) / 1e9)
        if error:
            results.errors[error] += 1
            second.errors += 1
            return
        results.finished += 1
        second.requests += 1
        latency_ns = now_ns - sent_ns
        results.latency.add(latency_ns)
        second.latency_us.append(latency_ns // 1000)
        ttft_ns = latency_ns
        tpot_ns = 0
        if scanner is not None:
            tokens = results.tokens
            if scanner.input_tokens >= 0:
                tokens["prompt"] += scanner.input_tokens
                tokens["cached"] += max(0, scanner.cached_tokens)
            if scanner.output_tokens >= 0:
                tokens["output"] += scanner.output_tokens
            if scanner.kind == 0:
                results.events += scanner.events
        if first_ns:
            ttft_ns = first_ns - sent_ns
            results.ttft.add(ttft_ns)
            second.ttft_us.append(ttft_ns // 1000)
            made = max(scanner.output_tokens, scanner.content_events)
            if made > 1:
                tpot_ns = (last_ns - first_ns) // (made - 1)
                results.tpot.add(tpot_ns)
        slo = self.options.slo
        if (
            ttft_ns <= slo.get("ttft_ms", 1e12) * MS
            and worst_gap_ns <= slo.get("itl_ms", 1e12) * MS
            and tpot_ns <= slo.get("tpot_ms", 1e12) * MS
            and latency_ns <= slo.get("e2e_ms", 1e12) * MS
        ):
            results.good += 1

    # ---- open loop

    def _times(self) -> Iterator[float]:
        options = self.options
        assert options.rate is not None
        warm_s = options.warmup_s
        return arrivals(
            options.rate,
            self._step,
            options.duration_s + warm_s,
            options.arrivals == "poisson",
            options.seed * 1009 + self._part,
        )

    def _advance(self) -> None:
        """Find what is due next; None: nothing more is."""
        item = self.workload.next()
        at_s = None if item is None else item.at_s
        if item is not None and self._due is not None:
            at_s = next(self._due, None)
        self._next = None
        if item is not None and at_s is not None:
            self._next = (self.begun_ns + int(at_s * 1e9), item)

    def _schedule(self) -> None:
        """Send what is due; sleep until shortly before the next, then poll."""
        spinning_s = time.process_time()
        while not self._stopping and self._next is not None:
            due_ns, item = self._next
            wait_s = (due_ns - monotonic_ns()) / 1e9
            if wait_s > SPIN_S:
                self._loop.call_later(wait_s - SPIN_S, self._schedule)
                return
            if wait_s > 0:
                self._loop.call_soon(self._schedule)
                self._spun_s += time.process_time() - spinning_s
                return
            self._advance()
            if self._may_start():
                self._on_free(item, due_ns, self._idle.pop() if self._idle else None)
        if self._next is None:
            self.stop()

    def _on_free(self, item: Item, due_ns: int, client: Client | None) -> None:
        if client is not None:
            self._send(client, item, due_ns)
        else:
            self._open_soon(lambda fresh: self._send(fresh, item, due_ns))

    # ---- the end

    def _check_done(self) -> None:
        """End when nothing more will be sent (or can be: all connections lost) or come."""
        alive = self.open_loop or bool(self._clients) or bool(self._tasks)
        more = alive and not self._stopping
        if not more and not self._tasks and self.in_flight <= 0:
            self._done.set()

    async def _watch(self) -> None:
        """Give up on requests that take longer than the time limit."""
        while True:
            await asyncio.sleep(min(1.0, self.options.timeout_s))
            limit_ns = monotonic_ns() - int(self.options.timeout_s * 1e9)
            for client in [c for c in self._clients if c.busy and c.sent_ns < limit_ns]:
                client.give_up()


def _tls(options: Options) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    context = ssl.create_default_context(cafile=options.ca_file or None)
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def run(options: Options, step: int = 0, part: int = 0) -> Results:
    """Measure one step on the running loop."""
    return await Run(asyncio.get_running_loop(), options, step, part).run()
