"""The N workers: who is there, who comes, who goes. Decisions only; starting one is the caller's.

A place is one of N; its listeners are always the same. A slot is a part of the shared memory, which
has one writer, so a worker that is replaced on purpose keeps its slot until it has gone and its
successor gets another.

    starting -> ready -> draining -> drained -> stopping -> (gone)

A worker that dies unasked is replaced, also while draining: a connection in its listeners' queue
must not wait in vain. A drained worker goes on accepting until told to stop, and that happens to
all at the same time, so that as long as anybody has work, nobody is refused. One whose successor is
ready stops accepting at once and is told to stop as soon as it is drained.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from fastgate.processes.child import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastgate.processes.child import Child

__all__ = ["KILL_AFTER_S", "Place", "Workers"]

KILL_AFTER_S = 1.0
"""From the end of a grace period, which children keep themselves, to SIGKILL."""

# What is wrong with a worker that never once came up is not cured by another try.
_MAX_FAILED_STARTS = 5

_DONE = ("drained", "stopping")


class Place:
    """One of N."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.successor: Child | None = None
        """Takes over as soon as it is ready."""
        self.start_at_s: float | None = 0.0
        """Empty, and to be filled at this time."""
        self.backoff = Backoff()
        self.failed_starts = 0
        """In a row."""


class Workers:
    """`start(slot, place)` starts a worker, or returns None when it can't for now."""

    def __init__(
        self, places: int, slots: int, start: Callable[[int, int], Child | None], grace_s: float
    ) -> None:
        self.places = [Place(index) for index in range(places)]
        self.grace_s = grace_s
        self.draining = False
        self.restarts = 0
        """Deaths that nobody had asked for."""
        self._start = start
        self._free_slots = set(range(slots))
        self._retired: list[Child] = []
        self._rolling: deque[Place] = deque()
        self._replace = True
        self._any_was_ready = False

    def __iter__(self) -> Iterator[Child]:
        for place in self.places:
            if place.child is not None:
                yield place.child
            if place.successor is not None:
                yield place.successor
        yield from self._retired

    @property
    def all_ready(self) -> bool:
        return all(p.child is not None and p.child.state == "ready" for p in self.places)

    @property
    def all_drained(self) -> bool:
        """Nobody has work, nobody is about to have."""
        waiting = any(place.start_at_s is not None for place in self.places)
        return not waiting and all(worker.state in _DONE for worker in self)

    @property
    def hopeless(self) -> bool:
        """None has ever come up, and one has been tried often enough."""
        return not self._any_was_ready and any(
            place.failed_starts >= _MAX_FAILED_STARTS for place in self.places
        )

    # time

    def fill(self) -> None:
        """Start the workers that are due."""
        now_s = time.monotonic()
        for place in self.places:
            if place.start_at_s is not None and place.start_at_s <= now_s:
                place.start_at_s = None
                place.child = self._fill_slot(place)
                if place.child is None:
                    place.start_at_s = now_s + place.backoff.next_delay_s(0.0)

    def due_s(self) -> list[float]:
        """Return the times at which `fill` has something to do."""
        return [place.start_at_s for place in self.places if place.start_at_s is not None]

    def _fill_slot(self, place: Place) -> Child | None:
        # The lowest: one that takes a dead one's place takes its name, too.
        slot = min(self._free_slots)
        child = self._start(slot, place.index)
        if child is not None:
            self._free_slots.remove(slot)
        return child

    # what workers say

    def on_ready(self, worker: Child) -> None:
        """It serves: its predecessor may go."""
        self._any_was_ready = True
        worker.state = "ready"
        place = self.places[worker.place]
        place.failed_starts = 0
        if place.successor is worker:
            old, place.child, place.successor = place.child, worker, None
            if old is not None:
                self._retired.append(old)
                self._drain(old)
        if self.draining or worker in self._retired:
            self._drain(worker)
        self._roll_on()

    def on_drained(self, worker: Child) -> None:
        """It has no work left. It may say so more than once."""
        if worker.state == "stopping":
            return
        worker.state = "drained"
        if worker in self._retired:
            self._stop(worker)

    # what is wanted of them

    def roll(self) -> None:
        """Replace all of them, one after another."""
        self._rolling = deque(self.places)
        self._roll_on()

    def drain(self) -> None:
        """Have all of them finish."""
        self.draining = True
        self._rolling.clear()
        for worker in self:
            self._drain(worker)

    def hasten(self, grace_s: float) -> None:
        """Have all of them end within `grace_s`."""
        self._replace = False
        for worker in self:
            worker.channel.send("hasten", {"grace_s": grace_s})
            worker.kill_within(grace_s + KILL_AFTER_S)

    def stop(self) -> None:
        """Have all of them end, with nothing more to come."""
        self._replace = False
        for place in self.places:
            place.start_at_s = None
        for worker in self:
            self._stop(worker)

    def _drain(self, worker: Child) -> None:
        worker.kill_within(self.grace_s + KILL_AFTER_S)
        # One that still starts is told when it is ready: its listeners may have a queue.
        if worker.state == "ready":
            worker.state = "draining"
            accept = worker not in self._retired
            worker.channel.send("drain", {"grace_s": self.grace_s, "accept": accept})

    def _stop(self, worker: Child) -> None:
        worker.state = "stopping"
        worker.channel.send("stop")

    def _roll_on(self) -> None:
        """Start the next successor, when none is starting and a slot is free."""
        if any(place.successor for place in self.places):
            return
        # An empty place has a claim to a slot.
        empty = sum(place.child is None for place in self.places)
        while self._rolling and len(self._free_slots) > empty:
            place = self._rolling.popleft()
            # An empty place gets a new worker anyway.
            if place.child is not None:
                place.successor = self._fill_slot(place)
                return

    # deaths

    def on_death(self, worker: Child, lived_s: float) -> bool:
        """Account for one that has ended, its slot released. Return whether it was asked to end."""
        self._free_slots.add(worker.slot)
        place = self.places[worker.place]
        # By itself at the end of its grace, or by our SIGKILL soon after.
        over = worker.state == "draining" and (worker.process.returncode == 0 or worker.killed)
        asked = worker.state in _DONE or over
        self.restarts += not asked
        if worker in self._retired:
            self._retired.remove(worker)
        elif worker is place.successor:
            # The others are better off as they are.
            place.successor = None
            self._rolling.clear()
        elif place.successor is not None:
            place.child, place.successor = place.successor, None
        else:
            place.child = None
            if worker.state == "starting":
                place.failed_starts += 1
            if self._replace and not asked:
                place.start_at_s = time.monotonic() + place.backoff.next_delay_s(lived_s)
        self._roll_on()
        return asked
