"""What the supervisor decides, without processes: who is replaced when, and what is listened on."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from fastgate.channel import Message
from fastgate.errors import ConfigError
from fastgate.processes import child as children
from fastgate.processes import configuration, listeners
from fastgate.processes.configuration import Settings
from fastgate.processes.workers import Workers

SETTINGS = Settings({"host": "0.0.0.0"}, False, 600.0, 5.0, "info")


class FakeProcess:
    returncode: int | None = None


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, kind: str, fields: dict[str, Any] | None = None, blob: bytes = b"") -> None:
        self.sent.append((kind, fields or {}))


class Fleet:
    """Workers whose processes are made up."""

    def __init__(self, places: int, slots: int) -> None:
        self.started: list[Any] = []
        self.refuse = False
        self.workers = Workers(places, slots, self._start, grace_s=600.0)
        self.workers.fill()

    def _start(self, slot: int, place: int) -> Any:
        if self.refuse:
            return None
        made = children.Child(f"worker {slot}", FakeProcess(), FakeChannel(), slot, place)  # type: ignore[arg-type]
        self.started.append(made)
        return made

    def ready(self, *numbers: int) -> None:
        for number in numbers:
            self.workers.on_ready(self.started[number])

    def die(self, number: int, status: int = -9, lived_s: float = 60.0) -> bool:
        self.started[number].process.returncode = status
        return self.workers.on_death(self.started[number], lived_s)

    def sent(self, number: int) -> list[str]:
        return [kind for kind, _ in self.started[number].channel.sent]

    def slots(self) -> list[int]:
        return sorted(worker.slot for worker in self.workers)


def test_backoff_doubles_and_forgets_after_a_long_life() -> None:
    backoff = children.Backoff()
    delays = [backoff.next_delay_s(1.0) for _ in range(9)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.next_delay_s(10.0) == 0.0
    assert backoff.next_delay_s(9.9) == 0.1


def test_a_start_that_hangs_has_a_deadline() -> None:
    fleet = Fleet(1, 2)
    worker = fleet.started[0]
    assert worker.deadline_s == worker.started_s + 60.0
    worker.kill_within(5.0)
    assert worker.deadline_s < worker.started_s + 6.0
    worker.kill_at_s = None
    fleet.ready(0)
    assert worker.deadline_s is None


def test_a_dead_worker_is_replaced_at_once_in_the_same_place() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    assert fleet.workers.all_ready
    assert fleet.die(1) is False
    assert not fleet.workers.all_ready
    fleet.workers.fill()
    assert len(fleet.started) == 3
    assert (fleet.started[2].place, fleet.started[2].slot) == (1, 1)
    assert fleet.workers.restarts == 1


def test_a_worker_that_dies_again_and_again_is_waited_for() -> None:
    fleet = Fleet(1, 2)
    fleet.die(0, lived_s=0.1)
    fleet.workers.fill()
    fleet.die(1, lived_s=0.1)
    fleet.workers.fill()
    assert len(fleet.started) == 2
    assert len(fleet.workers.due_s()) == 1


def test_a_worker_that_cannot_be_started_is_tried_again() -> None:
    fleet = Fleet(1, 2)
    fleet.ready(0)
    fleet.die(0)
    fleet.refuse = True
    fleet.workers.fill()
    assert list(fleet.workers) == []
    assert len(fleet.workers.due_s()) == 1


def test_five_starts_in_vain_are_hopeless_unless_one_once_worked() -> None:
    for once_ready in (False, True):
        fleet = Fleet(2, 4)
        if once_ready:
            fleet.ready(0)
        for _ in range(5):
            assert not fleet.workers.hopeless
            place = fleet.workers.places[1]
            place.start_at_s = 0.0 if place.child is None else None
            fleet.workers.fill()
            fleet.die(fleet.started.index(place.child), 1, 0.1)
        assert fleet.workers.hopeless is not once_ready


def test_drained_workers_stay_until_all_are() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    fleet.workers.drain()
    assert fleet.started[0].channel.sent == [("drain", {"grace_s": 600.0, "accept": True})]
    fleet.workers.on_drained(fleet.started[0])
    assert not fleet.workers.all_drained
    assert fleet.sent(0) == ["drain"]
    fleet.workers.on_drained(fleet.started[1])
    assert fleet.workers.all_drained
    fleet.workers.stop()
    assert fleet.sent(0) == fleet.sent(1) == ["drain", "stop"]
    assert fleet.die(0, 0) is True
    assert fleet.die(1, 0) is True
    assert fleet.workers.due_s() == []
    assert fleet.workers.restarts == 0


def test_a_crash_while_draining_is_replaced_and_the_replacement_drains() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    fleet.workers.drain()
    fleet.workers.on_drained(fleet.started[0])
    assert fleet.die(1) is False
    assert not fleet.workers.all_drained
    fleet.workers.fill()
    fleet.ready(2)
    assert fleet.sent(2) == ["drain"]
    fleet.workers.on_drained(fleet.started[2])
    assert fleet.workers.all_drained


def test_a_worker_whose_grace_is_over_is_not_replaced() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    fleet.workers.drain()
    assert fleet.die(0, 0) is True
    fleet.started[1].killed = True
    assert fleet.die(1, -9) is True
    assert fleet.workers.all_drained


def test_nobody_is_replaced_after_hasten() -> None:
    fleet = Fleet(1, 2)
    fleet.ready(0)
    fleet.workers.drain()
    later_s = fleet.started[0].kill_at_s
    fleet.workers.hasten(5.0)
    assert fleet.started[0].channel.sent[-1] == ("hasten", {"grace_s": 5.0})
    assert fleet.started[0].kill_at_s < later_s
    fleet.die(0)
    assert fleet.workers.due_s() == []


def test_one_that_starts_is_drained_when_it_is_ready() -> None:
    fleet = Fleet(1, 2)
    fleet.workers.drain()
    assert fleet.sent(0) == []
    assert not fleet.workers.all_drained
    fleet.ready(0)
    assert fleet.sent(0) == ["drain"]


def test_rolling_replaces_one_after_another_in_slots_of_their_own() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    fleet.workers.roll()
    assert [worker.place for worker in fleet.started] == [0, 1, 0]
    assert fleet.slots() == [0, 1, 2]
    assert fleet.sent(0) == []
    fleet.ready(2)
    # The old one leaves the queue of connections to its successor; the next place has its turn.
    assert fleet.started[0].channel.sent == [("drain", {"grace_s": 600.0, "accept": False})]
    assert [worker.place for worker in fleet.started] == [0, 1, 0, 1]
    fleet.workers.on_drained(fleet.started[0])
    assert fleet.sent(0) == ["drain", "stop"]
    assert fleet.die(0, 0) is True
    fleet.ready(3)
    assert fleet.workers.all_ready
    assert len(fleet.started) == 4
    fleet.workers.on_drained(fleet.started[1])
    fleet.die(1, 0)
    assert fleet.slots() == [2, 3]
    assert fleet.workers.restarts == 0


def test_rolling_waits_for_a_slot() -> None:
    fleet = Fleet(2, 3)
    fleet.ready(0, 1)
    fleet.workers.roll()
    fleet.ready(2)
    assert len(fleet.started) == 3
    fleet.workers.on_drained(fleet.started[0])
    fleet.die(0, 0)
    assert [worker.place for worker in fleet.started] == [0, 1, 0, 1]
    assert fleet.started[3].slot == 0


def test_rolling_leaves_a_slot_for_a_place_that_waits() -> None:
    fleet = Fleet(2, 3)
    fleet.ready(0, 1)
    fleet.die(1)
    fleet.workers.roll()
    fleet.ready(2)
    assert fleet.slots() == [0, 1]
    # The old one still drains: what is left is for the empty place.
    fleet.workers.roll()
    assert len(fleet.started) == 3
    fleet.workers.fill()
    assert fleet.slots() == [0, 1, 2]
    assert fleet.started[3].place == 1


def test_a_successor_that_fails_ends_the_rolling() -> None:
    fleet = Fleet(2, 4)
    fleet.ready(0, 1)
    fleet.workers.roll()
    fleet.die(2, 1, 0.1)
    assert len(fleet.started) == 3
    assert fleet.workers.all_ready
    assert fleet.sent(0) == fleet.sent(1) == []


def test_a_successor_steps_in_for_one_that_dies_meanwhile() -> None:
    fleet = Fleet(1, 2)
    fleet.ready(0)
    fleet.workers.roll()
    fleet.die(0)
    assert fleet.workers.due_s() == []
    fleet.ready(1)
    assert fleet.workers.all_ready


def bind(port: int, places: int = 2, host: str = "127.0.0.1") -> listeners.Listeners:
    return listeners.bind(listeners.resolve(host, port), "", places, "http", False)


def test_each_place_has_a_listener_of_its_own_on_one_port() -> None:
    opened = bind(0, 3)
    ports = {listener.getsockname()[1] for place in opened.places for listener in place}
    assert [len(place) for place in opened.places] == [1, 1, 1]
    assert len(ports) == 1
    assert opened.urls == [f"http://127.0.0.1:{ports.pop()}"]
    opened.close()


def test_a_second_gateway_on_the_same_port_is_refused() -> None:
    opened = bind(0)
    port = opened.places[0][0].getsockname()[1]
    with pytest.raises(listeners.BindError, match=f"127.0.0.1:{port}: Address already in use"):
        bind(port)
    opened.close()
    bind(port).close()


def test_localhost_is_every_loopback_address_there_is() -> None:
    opened = bind(0, 1, "localhost")
    assert opened.places[0]
    assert not listeners.is_exposed(listeners.resolve("localhost", 0))
    for listener in opened.places[0]:
        with socket.socket(listener.family) as client:
            client.connect(listener.getsockname())
    opened.close()


@pytest.mark.parametrize(
    ("host", "exposed"),
    [("127.0.0.1", False), ("127.8.0.1", False), ("::1", False), ("0.0.0.0", True), ("::", True)],
)
def test_what_other_machines_can_reach_is_exposed(host: str, exposed: bool) -> None:
    assert listeners.is_exposed(listeners.resolve(host, 4000)) is exposed


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(listeners.BindError, match=r"no-such-host\.invalid"):
        listeners.resolve("no-such-host.invalid", 4000)


def test_a_unix_socket_left_by_the_dead_is_replaced_but_not_a_live_one(tmp_path: Path) -> None:
    path = str(tmp_path / "gateway.sock")
    listeners.bind_unix(path).close()
    living = listeners.bind_unix(path)
    with pytest.raises(listeners.BindError, match="Address already in use"):
        listeners.bind_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    living.close()


def test_a_file_is_never_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(listeners.BindError):
        listeners.bind_unix(str(path))
    assert path.read_text() == "data"


def test_a_unix_socket_that_cannot_be_bound_leaves_no_tcp_port_open(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    addresses = listeners.resolve("127.0.0.1", 0)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(listeners.BindError):
        listeners.bind(addresses, str(path), 2, "http", False)
    assert len(os.listdir("/proc/self/fd")) == before
    assert path.read_text() == "data"


@pytest.mark.parametrize("length", [0, 200])
def test_the_private_socket_is_private_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    root = tmp_path / ("x" * length)
    root.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root))
    private = listeners.PrivateSocket("control.sock")
    folder = Path(private.path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # A path that no socket can have is replaced by a shorter one.
    assert (folder.parent == root) is (length == 0)
    private.close()
    assert not folder.exists()


def test_a_runtime_folder_that_is_not_there_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/does-not-exist")
    private = listeners.PrivateSocket("control.sock")
    assert Path(private.path).exists()
    private.close()


def test_no_master_key_is_refused_only_where_others_can_reach_us() -> None:
    configuration.refuse_open(SETTINGS, exposed=False)
    configuration.refuse_open(SETTINGS._replace(locked=True), exposed=True)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 is not a loopback address"):
        configuration.refuse_open(SETTINGS, exposed=True)


def test_what_load_returns_is_taken_apart() -> None:
    messages = [
        Message("warning", {"path": "a.b", "status": "unknown", "why": ""}, b""),
        Message("snapshot", SETTINGS._asdict(), b"encoded"),
    ]
    assert configuration.parse(messages) == (
        SETTINGS,
        b"encoded",
        [{"path": "a.b", "status": "unknown", "why": ""}],
    )
    with pytest.raises(ConfigError, match="a: first\nb: second"):
        faults = {"faults": [["a", "first"], ["b", "second"]]}
        configuration.parse([Message("faults", faults, b"")])


@pytest.mark.parametrize(
    ("text", "most"), [("150000 100000", 2), ("20000 100000", 1), ("max 100000", None)]
)
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, text: str, most: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text + "\n")
    affinity = len(os.sched_getaffinity(0))
    assert configuration.cores(str(path)) == min(affinity, most or affinity)
    assert configuration.cores(str(tmp_path / "absent")) == affinity
