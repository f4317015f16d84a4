"""The supervisor with real processes: signals, deaths, reloads, and nothing left behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import POLL_S, START_S, Process

KEY = "sk-canary-of-the-supervisor-tests"
MODELS = [
    {
        "model_name": "any",
        "litellm_params": {
            "model": "openai/any",
            "api_base": "http://127.0.0.1:9/v1",
            "api_key": "sk-canary",
        },
    }
]

# `fastgate serve`, but for the program of its workers.
COMMAND = """
import json, sys
from fastgate.supervisor import Launch, run
path, overrides = sys.argv[1], json.loads(sys.argv[2])
sys.exit(run(path, overrides, Launch(path, overrides, "tests.integration.stub_worker")))
"""


class Connection:
    """A client of the stub workers."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=START_S)
        self.lines = self.socket.makefile("rb")

    def say(self, word: str) -> dict[str, Any]:
        """Send a line and return the answer; empty when the worker is gone."""
        self.socket.sendall(word.encode() + b"\n")
        return json.loads(self.lines.readline() or b"{}")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


class Stack(Process):
    """A supervisor with stub workers."""

    def __init__(self, home: Path, config: dict[str, Any], **env: str) -> None:
        home.mkdir()
        self.config_path = home / "config.yaml"
        self.write(config)
        self.home = home
        command = [sys.executable, "-c", COMMAND, str(self.config_path)]
        command.append(json.dumps({"port": 0, "host": None}))
        super().__init__(
            home / "log", command, {"XDG_RUNTIME_DIR": str(home), "FASTGATE_HOME": str(home), **env}
        )

    def write(self, config: dict[str, Any]) -> None:
        self.config_path.write_text(json.dumps({"model_list": MODELS, **config}))

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return its log's lines of that name and with those fields."""
        wanted = {"event": event, **fields}
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if wanted.items() <= line.items()]

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Return the `count`-th line of that name."""
        deadline = time.monotonic() + START_S
        while len(found := self.events(event, **fields)) < count:
            self.check_alive(deadline, f"{event} {fields}")
        return found[count - 1]

    def start(self) -> None:
        self.spawn()
        url = self.wait_for("serving")["on"][0]
        self.port = int(url.rpartition(":")[2])
        self.wait_for("ready", name="control")

    def connect(self) -> Connection:
        return Connection(self.port)

    def worker_pid(self, slot: int = 0) -> int:
        return int(self.events("ready", name=f"worker {slot}")[-1]["pid"])

    def ask_control(
        self, path: str, role: str = "admin", body: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Return status and body of a route of control; with a body it is a POST."""
        connection = http.client.HTTPConnection("control")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(next(self.home.glob("fastgate-*/control.sock"))))
        sent = None if body is None else json.dumps(body).encode()
        method = "GET" if sent is None else "POST"
        connection.request(method, path, sent, {"x-fastgate-role": role})
        answer = connection.getresponse()
        got = answer.read()
        connection.close()
        return answer.status, json.loads(got) if got[:1] == b"{" else got.decode()

    def wait_exit(self) -> int:
        assert self.child is not None
        return self.child.wait(START_S)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_dead(pids: list[int]) -> None:
    deadline = time.monotonic() + START_S
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(POLL_S)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    started: list[Stack] = []

    def make(workers: int = 1, limits: dict[str, Any] | None = None, **env: str) -> Stack:
        settings = {"server": {"workers": workers}, "limits": limits or {}}
        made = Stack(
            tmp_path / str(len(started)),
            {"fastgate_settings": settings, "general_settings": {"master_key": KEY}},
            **env,
        )
        started.append(made)
        return made

    yield make
    for made in started:
        made.kill() if made.child and made.child.poll() is None else None


def started(make: Callable[..., Stack], *args: Any, **kwargs: Any) -> Stack:
    made = make(*args, **kwargs)
    made.start()
    return made


def test_a_killed_worker_is_replaced_and_its_queue_is_served(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    first = gateway.worker_pid()
    # Stopped, it accepts nothing: the connection waits in the listener's queue.
    os.kill(first, signal.SIGSTOP)
    waiting = gateway.connect()
    waiting.socket.sendall(b"hello\n")
    os.kill(first, signal.SIGKILL)
    answer = json.loads(waiting.lines.readline())
    assert answer["pid"] == gateway.wait_for("ready", 2, name="worker 0")["pid"] != first
    assert gateway.wait_for("ended", pid=first)["level"] == "error"
    waiting.close()
    assert "fastgate_worker_restarts_total 1\n" in gateway.ask_control("/metrics")[1]
    assert gateway.stop() == 0


def test_a_dead_workers_gauges_are_zero(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    client = gateway.connect()
    client.say("begin")
    assert "fastgate_connections 1\n" in gateway.ask_control("/metrics")[1]
    os.kill(gateway.worker_pid(), signal.SIGKILL)
    gateway.wait_for("ready", 2, name="worker 0")
    assert "fastgate_connections 0\n" in gateway.ask_control("/metrics")[1]
    client.close()
    assert gateway.stop() == 0


def test_control_is_replaced_and_workers_do_not_notice(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    client = gateway.connect()
    before = client.say("begin")
    control = gateway.events("ready", name="control")[0]["pid"]
    os.kill(control, signal.SIGSTOP)
    os.kill(control, signal.SIGKILL)
    # Its socket never refuses: whoever asks waits for the next one.
    status, body = gateway.ask_control("/fastgate/status")
    assert status == 200
    assert [worker["pid"] for worker in body["workers"]] == [before["pid"]]
    assert client.say("end") == {**before, "line": "end"}
    client.close()
    assert gateway.events("ended", name="worker 0") == []
    assert gateway.stop() == 0


def test_a_key_outlives_control_and_every_worker_hears_of_a_change(
    stack: Callable[..., Stack],
) -> None:
    gateway = started(stack, 2)
    status, made = gateway.ask_control("/key/generate", body={"key_alias": "ci"})
    assert status == 200
    heard = {"kind": "key", "ids": [made["token"]]}
    told: set[int] = set()
    while len(told) < 2:
        # Whichever worker the kernel chooses.
        client = gateway.connect()
        slot = client.say("hello")["slot"]
        while heard not in client.say("changed")["changed"]:
            time.sleep(POLL_S)
        told.add(slot)
        client.close()
    os.kill(gateway.events("ready", name="control")[0]["pid"], signal.SIGKILL)
    status, shown = gateway.ask_control(f"/key/info?key={made['key']}")
    assert (status, shown["info"]["key_alias"]) == (200, "ci")
    assert made["key"].encode() not in (gateway.home / "fastgate.db-wal").read_bytes()
    assert gateway.stop() == 0


def test_without_its_database_a_gateway_serves_and_says_so(
    stack: Callable[..., Stack],
) -> None:
    gateway = started(stack, DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/d")
    client = gateway.connect()
    assert client.say("hello")["line"] == "hello"
    client.close()
    status, answer = gateway.ask_control("/key/list")
    assert (status, answer["error"]["type"]) == (503, "no_db_connection")
    assert gateway.ask_control("/health/readiness/details")[1]["db"] == "Not connected"
    gateway.wait_for("the database is not available")
    assert "hunter2" not in gateway.log()
    assert gateway.stop() == 0


def test_sigterm_lets_work_finish_and_refuses_nobody_until_then(
    stack: Callable[..., Stack],
) -> None:
    gateway = started(stack, 2)
    busy = gateway.connect()
    busy.say("begin")
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.wait_for("draining")
    # Both workers still accept, whichever of them the kernel chooses.
    slots = set()
    while len(slots) < 2:
        late = gateway.connect()
        slots.add(late.say("hello")["slot"])
        late.close()
    assert busy.say("end")["line"] == "end"
    assert gateway.wait_exit() == 0
    with pytest.raises(ConnectionRefusedError):
        gateway.connect()
    busy.close()


def test_a_second_sigterm_hastens(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, limits={"hasten_grace_s": 0.1})
    busy = gateway.connect()
    busy.say("begin")
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.wait_for("draining")
    os.kill(gateway.pid, signal.SIGTERM)
    assert gateway.wait_exit() == 0
    assert busy.lines.readline() == b""
    busy.close()


def test_the_grace_period_ends(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, limits={"drain_grace_s": 0.1})
    busy = gateway.connect()
    busy.say("begin")
    assert gateway.stop() == 0
    assert gateway.events("killed: its time is over") == []
    busy.close()


def test_a_worker_that_ignores_its_end_is_killed(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, limits={"drain_grace_s": 0.1})
    worker = gateway.worker_pid()
    os.kill(worker, signal.SIGSTOP)
    assert gateway.stop() == 0
    assert gateway.events("killed: its time is over", pid=worker)
    assert gateway.events("ready", name="worker 0")[1:] == []


def test_a_crash_while_draining_is_replaced(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, 2)
    clients: dict[int, Connection] = {}
    while len(clients) < 2:
        client = gateway.connect()
        if clients.setdefault(client.say("begin")["pid"], client) is not client:
            client.say("end")
            client.close()
    (victim, lost), (_, kept) = clients.items()
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.wait_for("draining")
    os.kill(victim, signal.SIGKILL)
    gateway.wait_for("ready", 4)
    assert kept.say("end")["line"] == "end"
    assert gateway.wait_exit() == 0
    lost.close()
    kept.close()


def test_signals_to_everyone_are_the_supervisors(stack: Callable[..., Stack]) -> None:
    # What systemd does with a service's control group.
    gateway = started(stack)
    busy = gateway.connect()
    busy.say("begin")
    pids = [event["pid"] for event in gateway.events("ready")]
    for pid in [*pids, gateway.pid]:
        os.kill(pid, signal.SIGTERM)
    gateway.wait_for("draining")
    assert busy.say("end")["line"] == "end"
    assert gateway.wait_exit() == 0
    assert gateway.events("ended", level="error") == []
    busy.close()


def test_a_good_reload_reaches_all(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, 2)
    gateway.write(
        {
            "general_settings": {"master_key": KEY},
            "fastgate_settings": {"server": {"workers": 3}, "limits": {"drain_grace_s": 7}},
        }
    )
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_for("configuration loaded", version=2)
    assert gateway.wait_for("needs a restart")["settings"] == ["server.workers"]
    deadline = time.monotonic() + START_S
    while {
        w["snapshot_version"] for w in gateway.ask_control("/fastgate/status")[1]["workers"]
    } != {2}:
        gateway.check_alive(deadline, "snapshot applied")
    client = gateway.connect()
    assert client.say("hello")["version"] == 2
    client.close()
    assert 'fastgate_reloads_total{outcome="ok"} 1' in gateway.ask_control("/metrics")[1]
    # One that starts later has it too.
    os.kill(gateway.worker_pid(1), signal.SIGKILL)
    gateway.wait_for("ready", 2, name="worker 1")
    assert {
        w["snapshot_version"] for w in gateway.ask_control("/fastgate/status")[1]["workers"]
    } == {2}
    assert gateway.stop() == 0
    assert gateway.events("draining")[0]["grace_s"] == 7


def test_a_bad_reload_changes_nothing_and_says_why(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    gateway.write(
        {
            "model_list": [{"model_name": "a"}, {"litellm_params": {"model": "openai/b"}}],
            "general_settings": {"master_key": KEY},
        }
    )
    os.kill(gateway.pid, signal.SIGHUP)
    refused = gateway.wait_for("configuration refused, the old one stays")
    assert len(refused["faults"]) >= 2
    assert 'fastgate_reloads_total{outcome="invalid"} 1' in gateway.ask_control("/metrics")[1]
    assert gateway.ask_control("/fastgate/status")[1]["snapshot_version"] == 1
    # The file is gone altogether: no different.
    gateway.config_path.unlink()
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_for("configuration refused, the old one stays", 2)
    assert gateway.stop() == 0


def test_a_reload_while_control_is_dead_is_made_up_for(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    os.kill(gateway.events("ready", name="control")[0]["pid"], signal.SIGKILL)
    gateway.wait_for("ended", name="control")
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_for("configuration loaded", version=2)
    assert gateway.stop() == 0


def test_rolling_replaces_every_worker_and_cuts_nothing(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, 2)
    old = {gateway.worker_pid(0), gateway.worker_pid(1)}
    busy = gateway.connect()
    before = busy.say("begin")
    assert before["pid"] in old
    os.kill(gateway.pid, signal.SIGUSR2)
    gateway.wait_for("ready", name="worker 2")
    gateway.wait_for("ready", name="worker 3")
    idle = (old - {before["pid"]}).pop()
    gateway.wait_for("ended", pid=idle, status=0)
    seen = set()
    while len(seen) < 2:
        client = gateway.connect()
        seen.add(client.say("hello")["pid"])
        client.close()
    assert seen == {gateway.worker_pid(2), gateway.worker_pid(3)}
    assert busy.say("end") == {**before, "line": "end"}
    gateway.wait_for("ended", pid=before["pid"], status=0)
    assert gateway.events("ended", level="error") == []
    busy.close()
    assert gateway.stop() == 0


def test_children_of_a_killed_supervisor_finish_and_end(stack: Callable[..., Stack]) -> None:
    gateway = started(stack, 2)
    pids = [event["pid"] for event in gateway.events("ready")]
    busy = gateway.connect()
    busy.say("begin")
    gateway.kill()
    assert busy.say("end")["line"] == "end"
    busy.close()
    wait_dead(pids)
    assert list(gateway.home.glob("fastgate-*")) == []


def test_workers_that_never_start_end_the_supervisor(stack: Callable[..., Stack]) -> None:
    gateway = stack(2, STUB_WORKER="broken")
    gateway.spawn()
    assert gateway.wait_exit() == 1
    assert "the stub is broken" in gateway.log()
    assert gateway.events("no worker starts: see its own words above")
    assert list(gateway.home.glob("fastgate-*")) == []


def test_modules_in_the_folder_where_it_starts_are_not_imported(
    stack: Callable[..., Stack],
) -> None:
    gateway = stack(PYTHONPATH=str(Path.cwd()))
    for name in ("argparse", "msgspec", "uvloop", "yaml"):
        (gateway.home / f"{name}.py").write_text("raise SystemExit('hijacked')")
    python, *rest = gateway.command
    gateway.command = ["env", "-C", str(gateway.home), python, "-P", *rest]
    gateway.start()
    assert gateway.stop() == 0
    assert "hijacked" not in gateway.log()


def test_an_invalid_file_is_refused_with_all_faults(stack: Callable[..., Stack]) -> None:
    gateway = stack()
    gateway.write({"model_list": [{"model_name": "a"}, {"litellm_params": {}}]})
    gateway.spawn()
    assert gateway.wait_exit() == 1
    assert "model_list[0]" in gateway.log()
    assert "model_list[1]" in gateway.log()
    assert "Traceback" not in gateway.log()


def test_an_open_gateway_is_refused_where_others_can_reach_it(stack: Callable[..., Stack]) -> None:
    gateway = stack()
    gateway.write({})
    gateway.command[-1] = json.dumps({"port": 0, "host": "0.0.0.0"})
    for name in ("LITELLM_MASTER_KEY", "FASTGATE_MASTER_KEY"):
        gateway.env.pop(name, None)
    gateway.spawn()
    assert gateway.wait_exit() == 1
    assert "general_settings.master_key" in gateway.log()


def test_the_master_key_of_an_exposed_gateway_cannot_be_reloaded_away(
    stack: Callable[..., Stack],
) -> None:
    gateway = stack()
    gateway.command[-1] = json.dumps({"port": 0, "host": "0.0.0.0"})
    gateway.start()
    gateway.write({})
    os.kill(gateway.pid, signal.SIGHUP)
    refused = gateway.wait_for("configuration refused, the old one stays")
    assert "general_settings.master_key" in refused["faults"][0]
    assert gateway.stop() == 0


def test_nothing_leaks_over_twenty_restarts(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    descriptors = len(os.listdir(f"/proc/{gateway.pid}/fd"))
    for count in range(2, 22):
        os.kill(gateway.pid, signal.SIGUSR2)
        slot = (count - 1) % 2
        gateway.wait_for("ready", count // 2 if slot else count // 2 + 1, name=f"worker {slot}")
        gateway.wait_for("ended", count - 1, status=0)
    assert len(os.listdir(f"/proc/{gateway.pid}/fd")) == descriptors
    assert gateway.stop() == 0
    assert list(gateway.home.glob("fastgate-*")) == []


def test_it_is_small_and_its_log_holds_no_key(stack: Callable[..., Stack]) -> None:
    gateway = started(stack)
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    rss_kb = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
    assert rss_kb < 20_000
    assert Path(f"/proc/{gateway.pid}/cmdline").read_text().startswith("fastgate: supervisor")
    assert gateway.stop() == 0
    assert KEY not in gateway.log()
