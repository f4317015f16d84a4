"""The supervisor: starts, watches and replaces the other processes, and carries snapshots.

    SIGTERM, SIGINT   drain: workers finish what they have, then all stop; a second one hastens them
    SIGHUP            reload the configuration, through control
    SIGUSR2           replace the workers one after another

It owns what must outlive a child: the listeners, the shared memory, control's socket and the bytes
of the newest Snapshot. It has no event loop but a selector, never blocks on a child, and knows of a
configuration only what `Settings` says. Should it die itself, its children see their channels
close, drain and end.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import setproctitle

from fastgate import __version__
from fastgate.channel import Message, MessageError
from fastgate.errors import ConfigError
from fastgate.observe import log
from fastgate.observe import memory as shared_memory
from fastgate.processes import child as children
from fastgate.processes import configuration, listeners
from fastgate.processes.workers import KILL_AFTER_S, Workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from fastgate.processes.child import Child
    from fastgate.processes.configuration import Settings
    from fastgate.processes.listeners import Listeners

__all__ = ["Launch", "Supervisor", "run"]

_log = logging.getLogger("fastgate.supervisor")

# Control carries no request: what it does at its end is done in this time or not needed.
_CONTROL_STOP_S = 2.0

_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class Launch(NamedTuple):
    """What children are started with."""

    config_path: str
    overrides: Mapping[str, Any]
    worker: str = "fastgate.gateway.worker"
    control: str = "fastgate.control.main"


class Supervisor:
    """The state of it all."""

    def __init__(
        self, launch: Launch, settings: Settings, snapshot: bytes, sockets: Listeners
    ) -> None:
        self._started_s = time.monotonic()
        self._launch = launch
        self._settings = settings
        self._server = settings.server
        """As at the start: only a restart changes it."""
        self._snapshot = snapshot
        self._version = 1
        self._listeners = sockets
        # A successor has a slot of its own while its predecessor drains.
        slots = min(shared_memory.MAX_WORKERS, 2 * len(sockets.places))
        self._memory_fd = shared_memory.create(slots)
        self._memory = shared_memory.open(self._memory_fd, shared_memory.SUPERVISOR)
        metrics = self._memory.metrics(shared_memory.SUPERVISOR)
        self._restarts = metrics.counter("fastgate_worker_restarts_total")
        self._control_listener = listeners.PrivateSocket("control.sock")
        self._workers = Workers(
            len(sockets.places), slots, self._start_worker, settings.drain_grace_s
        )
        self._control: Child | None = None
        self._control_backoff = children.Backoff()
        self._control_at_s: float | None = None
        """When to start it. First once all workers serve: it must not take the cores from them."""
        self._reload_wanted = False
        self._stopping = False
        self._status = 0
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def run(self) -> int:
        """Supervise until everything has ended; return the exit status."""
        try:
            self._take_signals()
            self._workers.fill()
            while not self._stopping or any(self._children()):
                for key, events in self._selector.select(self._wait_s()):
                    if key.data is None:
                        self._on_signals(self._woken.recv(256))
                    else:
                        self._on_channel(key.data, events)
                self._on_time()
            return self._status
        finally:
            self._close()

    def _children(self) -> Iterator[Child]:
        yield from self._workers
        if self._control is not None:
            yield self._control

    def _close(self) -> None:
        for child in self._children():
            child.channel.close()
        self._listeners.close()
        self._control_listener.close()
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        os.close(self._memory_fd)

    # time

    def _on_time(self) -> None:
        now_s = time.monotonic()
        for child in self._children():
            deadline_s = child.deadline_s
            if deadline_s is not None and deadline_s <= now_s:
                _log.error("killed: its time is over", {"name": child.name, "pid": child.pid})
                child.kill()
        self._workers.fill()
        if self._control_at_s is not None and self._control_at_s <= now_s:
            self._start_control()
        if self._workers.draining and self._workers.all_drained and not self._stopping:
            self._stop()
        if self._stopping and not any(self._workers) and self._control is not None:
            self._stop_control(self._control)
        for child in self._children():
            self._watch(child)

    def _wait_s(self) -> float | None:
        times = [child.deadline_s for child in self._children()] + [self._control_at_s]
        due = [at_s for at_s in times if at_s is not None] + self._workers.due_s()
        return max(0.0, min(due) - time.monotonic()) if due else None

    # start

    def _start_worker(self, slot: int, place: int) -> Child | None:
        fds = [listener.fileno() for listener in self._listeners.of(place)]
        arguments = ["--slot", str(slot), "--listen-fd", ",".join(map(str, fds))]
        return self._start(self._launch.worker, arguments, fds, f"worker {slot}", slot, place)

    def _start_control(self) -> None:
        fd = self._control_listener.fileno()
        arguments = ["--listen-fd", str(fd), "--config", self._launch.config_path]
        arguments += ["--overrides", json.dumps(dict(self._launch.overrides))]
        if self._listeners.exposed:
            arguments.append("--exposed")
        self._control_at_s = None
        self._control = self._start(self._launch.control, arguments, [fd], "control", -1, -1)
        if self._control is None:
            self._control_at_s = time.monotonic() + self._control_backoff.next_delay_s(0.0)
        self._publish()

    def _start(
        self, module: str, arguments: list[str], fds: list[int], name: str, slot: int, place: int
    ) -> Child | None:
        common = ["--memory-fd", str(self._memory_fd), "--workers", str(len(self._workers.places))]
        common += ["--control-socket", self._control_listener.path]
        try:
            child = children.start(
                module, common + arguments, [self._memory_fd, *fds], name, slot, place
            )
        except OSError as error:
            # Out of processes or memory: a later try may find some.
            _log.error("can't be started", {"name": name, "error": str(error)})
            return None
        child.channel.send("snapshot", {"version": self._version}, self._snapshot)
        self._watch(child)
        return child

    # messages

    def _watch(self, child: Child) -> None:
        if child.channel.closed:
            return
        events = selectors.EVENT_READ
        if child.channel.wants_write:
            events |= selectors.EVENT_WRITE
        try:
            self._selector.modify(child.channel, events, child)
        except KeyError:
            self._selector.register(child.channel, events, child)

    def _on_channel(self, child: Child, events: int) -> None:
        if child.channel.closed:
            return
        if events & selectors.EVENT_WRITE:
            child.channel.flush()
        if events & selectors.EVENT_READ:
            try:
                for message in child.channel.receive():
                    self._on_message(child, message)
            except (MessageError, KeyError, TypeError) as error:
                _log.error("talks nonsense", {"name": child.name, "error": repr(error)})
                child.kill()
                child.channel.closed = True
        if child.channel.closed:
            self._forget_channel(child)
            # It is about to end. If it isn't, it is of no use.
            child.kill_within(self._settings.hasten_grace_s + KILL_AFTER_S)

    def _forget_channel(self, child: Child) -> None:
        if child.channel.fileno() >= 0:
            self._selector.unregister(child.channel)
            child.channel.close()

    def _on_message(self, child: Child, message: Message) -> None:
        kind, fields, blob = message
        if kind == "ready":
            self._on_ready(child)
        elif kind == "snapshot_applied":
            child.version = fields["version"]
        elif kind == "drained" and child is not self._control:
            self._workers.on_drained(child)
        elif kind == "snapshot" and child is self._control:
            self._on_snapshot(configuration.Settings(**fields), blob)
        elif kind == "principals_changed" and child is self._control:
            for worker in self._workers:
                worker.channel.send(kind, fields)
        else:
            raise MessageError(f"unexpected {kind}")
        self._publish()

    def _on_ready(self, child: Child) -> None:
        lived_ms = round((time.monotonic() - child.started_s) * 1000)
        _log.info("ready", {"name": child.name, "pid": child.pid, "start_ms": lived_ms})
        if child is self._control:
            child.state = "ready"
            if self._reload_wanted:
                self._reload()
            return
        self._workers.on_ready(child)
        if self._control is None and self._control_at_s is None and self._workers.all_ready:
            start_ms = round((time.monotonic() - self._started_s) * 1000)
            _log.info("serving", {"on": self._listeners.urls, "start_ms": start_ms})
            self._control_at_s = 0.0

    def _on_snapshot(self, settings: Settings, snapshot: bytes) -> None:
        changed = [name for name, value in settings.server.items() if value != self._server[name]]
        if changed:
            _log.warning("needs a restart", {"settings": [f"server.{name}" for name in changed]})
        logging.getLogger().setLevel(settings.log_level.upper())
        self._settings = settings
        self._workers.grace_s = settings.drain_grace_s
        self._snapshot = snapshot
        self._version += 1
        _log.info("configuration loaded", {"version": self._version})
        for child in self._children():
            child.channel.send("snapshot", {"version": self._version}, snapshot)

    def _publish(self) -> None:
        """Tell control about the workers."""
        if self._control is None:
            return
        workers = [
            {
                "slot": worker.slot,
                "place": worker.place,
                "pid": worker.pid,
                "state": worker.state,
                "snapshot_version": worker.version,
                "started_s": worker.started_s,
            }
            for worker in self._workers
        ]
        self._control.channel.send("workers", {"workers": workers, "started_s": self._started_s})

    # signals

    def _take_signals(self) -> None:
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            # The number comes through the wakeup descriptor; a handler there must be for that.
            signal.signal(number, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._terminate()
            elif number == signal.SIGHUP:
                self._reload()
            elif number == signal.SIGUSR2 and not self._workers.draining:
                _log.info("replacing all workers")
                self._workers.roll()

    def _terminate(self) -> None:
        if not self._workers.draining:
            _log.info("draining", {"grace_s": self._settings.drain_grace_s})
            self._workers.drain()
        else:
            _log.warning("hastening", {"grace_s": self._settings.hasten_grace_s})
            self._workers.hasten(self._settings.hasten_grace_s)
        self._publish()

    def _reload(self) -> None:
        control = self._control
        # A control that starts is told when it is ready.
        self._reload_wanted = control is None or control.state != "ready"
        if control is not None and not self._reload_wanted:
            control.channel.send("reload")

    def _stop(self) -> None:
        self._stopping = True
        self._control_at_s = None
        self._workers.stop()

    def _stop_control(self, control: Child) -> None:
        if control.state != "stopping":
            control.state = "stopping"
            control.channel.send("stop")
            control.kill_within(_CONTROL_STOP_S)

    # deaths

    def _reap(self) -> None:
        ours = {child.pid: child for child in self._children()}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = ours.get(ended.si_pid)
            if child is None:
                # Process 1 of a container inherits orphans.
                os.waitpid(ended.si_pid, 0)
            else:
                child.process.wait()
                self._on_death(child)

    def _on_death(self, child: Child) -> None:
        # What it said last counts: one that is done says so and ends.
        self._on_channel(child, selectors.EVENT_READ)
        self._forget_channel(child)
        lived_s = time.monotonic() - child.started_s
        state = child.state
        if child is self._control:
            self._control = None
            # It may have died inside a budget's entry.
            self._memory.release_worker(shared_memory.CONTROL)
            asked = self._stopping
            if not asked:
                self._control_at_s = time.monotonic() + self._control_backoff.next_delay_s(lived_s)
        else:
            self._memory.release_worker(child.slot)
            asked = self._workers.on_death(child, lived_s)
            self._restarts.add(not asked)
        fields = {"name": child.name, "pid": child.pid, "state": state}
        fields["status"] = child.process.returncode
        _log.log(logging.INFO if asked else logging.ERROR, "ended", fields)
        if self._workers.hopeless and not self._stopping:
            _log.critical("no worker starts: see its own words above")
            self._status = 1
            for worker in self._workers:
                worker.kill_within(self._settings.hasten_grace_s + KILL_AFTER_S)
            self._stop()
        self._publish()


def run(config_path: str, overrides: Mapping[str, Any], launch: Launch | None = None) -> int:
    """Run the gateway until it is told to stop; return the exit status.

    `overrides`: fields of `Server`, and `log_level`, from the command line; None means not given.
    Takes over the process: its signals, its title, its logging.
    """
    setproctitle.setproctitle("fastgate: supervisor")
    log.setup("supervisor", "info")
    try:
        settings, snapshot = _configure(config_path, overrides)
        sockets = _listen(settings)
        launch = launch or Launch(config_path, overrides)
        supervisor = Supervisor(launch, settings, snapshot, sockets)
    except (ConfigError, listeners.BindError) as error:
        sys.stderr.write(f"fastgate: {config_path}: can't start\n")
        sys.stderr.write("".join(f"  {line}\n" for line in str(error).splitlines()))
        return 1
    _log.info("started", {"version": __version__, "pid": os.getpid(), "config": config_path})
    return supervisor.run()


def _configure(config_path: str, overrides: Mapping[str, Any]) -> tuple[Settings, bytes]:
    messages = configuration.load_apart(config_path, overrides)
    settings, snapshot, warnings = configuration.parse(messages)
    logging.getLogger().setLevel(settings.log_level.upper())
    for warning in warnings:
        _log.warning("configuration", warning)
    return settings, snapshot


def _listen(settings: Settings) -> Listeners:
    # Each open stream is two descriptors; what a process may raise by itself is no protection.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = settings.server
    addresses = listeners.resolve(server["host"], server["port"])
    exposed = listeners.is_exposed(addresses)
    configuration.refuse_open(settings, exposed)
    places = server["workers"] or configuration.cores()
    if places >= shared_memory.MAX_WORKERS:
        places = shared_memory.MAX_WORKERS - 1
        _log.warning("fewer workers than asked for", {"workers": places})
    scheme = "https" if server["tls_cert_file"] else "http"
    return listeners.bind(addresses, server["unix_socket"], places, scheme, exposed)
