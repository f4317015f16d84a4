"""A child process and the supervisor's end of its channel; and when to replace one that died."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fastgate
from fastgate.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Backoff", "Child", "start"]

# A child that lived so long was not broken from the start: what it died of is news.
_RESET_S = 10.0
_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 5.0

# A start takes 0.1 s to 0.3 s here. One that takes so much longer hangs.
_START_S = 60.0


class Backoff:
    """The wait before a dead child is replaced: none the first time, then 0.1 s doubling to 5 s."""

    def __init__(self) -> None:
        self.deaths = 0
        """In a row, each after a short life."""

    def next_delay_s(self, lived_s: float) -> float:
        """Count a death; return the seconds to wait."""
        if lived_s >= _RESET_S:
            self.deaths = 0
        self.deaths += 1
        if self.deaths == 1:
            return 0.0
        return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** (self.deaths - 2))


class Child:
    """A running process. `slot`: its part of the shared memory; `place`: whose listeners it has."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], channel: Channel, slot: int, place: int
    ) -> None:
        self.name = name
        self.process = process
        self.channel = channel
        self.slot = slot
        self.place = place
        self.state = "starting"
        """starting | ready | draining | drained | stopping"""
        self.version = 0
        """Of the Snapshot that it works with."""
        self.started_s = time.monotonic()
        self.kill_at_s: float | None = None
        self.killed = False
        """By us."""

    @property
    def deadline_s(self) -> float | None:
        """When to kill it."""
        if self.state == "starting" and not self.killed:
            return min(self.started_s + _START_S, self.kill_at_s or math.inf)
        return self.kill_at_s

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End it at once."""
        self.kill_at_s = None
        self.killed = True
        self.process.kill()

    def kill_within(self, seconds: float) -> None:
        """Kill it after so long, or earlier where that was said before."""
        at_s = time.monotonic() + seconds
        self.kill_at_s = at_s if self.kill_at_s is None else min(self.kill_at_s, at_s)


def start(
    module: str, arguments: Sequence[str], fds: Sequence[int], name: str, slot: int, place: int
) -> Child:
    """Run `python -m module` with a channel, `fds` and nothing else of ours. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        # Without -P a `yaml.py` in the folder where the gateway is started would be imported for
        # PyYAML. A checkout that isn't installed needs that folder, and it is the checkout.
        unsafe = Path(fastgate.__file__).parent.parent == Path.cwd()
        command = [sys.executable, *([] if unsafe else ["-P"]), "-m", module]
        channel_fd = theirs.fileno()
        try:
            process = subprocess.Popen(
                [*command, "--channel-fd", str(channel_fd), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(channel_fd, *fds),
                env=os.environ,
                # A Ctrl-C is for the supervisor, which drains them.
                process_group=0,
            )
        except OSError:
            ours.close()
            raise
    return Child(name, process, Channel(ours), slot, place)
