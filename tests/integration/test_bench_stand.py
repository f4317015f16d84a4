"""Peers as real processes on the stand: started, checked, measured, and gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.check import check
from bench.compare import compare
from bench.peers.peer import Peer, load_peer
from bench.procfs import tree
from bench.stand import ENGINE_OPTIONS, ROOT, Failed, Stand, start_engine

# Answers each request with all that the upstream says, in one piece; writes its port to a file, and
# starts a child that ignores SIGTERM.
GATHERER = """
import http.client, http.server, pathlib, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        upstream = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]))
        upstream.request("POST", self.path, body, {"content-type": "application/json"})
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
pathlib.Path(sys.argv[1], "port").write_text(str(server.server_port))
server.serve_forever()
"""


def peer_of(script: str) -> Peer:
    command = ["${python}", "-c", script, "${folder}", "${upstream_port}"]
    return Peer("made-up", start={"command": command, "port_file": "port"})


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with start_engine(*ENGINE_OPTIONS) as (pid, port):
        yield Stand(pid, port)


def test_a_peer_that_passes_everything_on(stand: Stand) -> None:
    assert check(stand, load_peer("aiohttp")) > 0


def test_a_peer_that_gathers_streams_is_found(stand: Stand) -> None:
    with pytest.raises(Failed, match="8 events came in 1 pieces"):
        check(stand, peer_of(GATHERER))


def test_a_peer_that_changes_answers_is_found(stand: Stand) -> None:
    changed = GATHERER.replace("data = answer.read()", "data = answer.read().replace(b'fox', b'')")
    with pytest.raises(Failed, match="its plain answer is not the engine's"):
        check(stand, peer_of(changed))


def test_a_peer_that_does_not_start_says_why(stand: Stand) -> None:
    with (
        pytest.raises(Failed, match=r"(?s)made-up does not answer.*no such setting"),
        stand.running(peer_of("raise SystemExit('no such setting')")),
    ):
        pass


def test_nothing_of_a_peer_outlives_it(stand: Stand) -> None:
    with stand.running(peer_of(GATHERER)) as running:
        assert running.pid is not None
        started = tree(running.pid)
    assert len(started) >= 2
    assert not [pid for pid in started if is_alive(pid)]


def test_a_killed_comparison_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "bench", "compare", "--only", "aiohttp"]
    with subprocess.Popen(
        [*command, "--figures", "footprint"], cwd=ROOT, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"round 1/3: aiohttp\n"
        while len(started := tree(process.pid)) < 3:  # itself, the engine, the peer
            assert process.poll() is None
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while [pid for pid in started if is_alive(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a comparison needs two cores")
def test_a_whole_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.compare.is_calm", lambda _: True
    )  # measured once, whatever else runs
    cores = os.sched_getaffinity(0)
    report: dict[str, Any] = compare(["direct", "aiohttp"], ["ttft_50rps"], 1, 0.1)
    assert os.sched_getaffinity(0) == cores
    assert not report["failures"]
    assert list(report["peers"]) == ["direct", "aiohttp"]
    found = report["figures"]["ttft_50rps"]
    assert found["direct"]["p50_ms"]["median"] > 0
    assert "cpu_us" not in found["direct"]
    assert found["aiohttp"]["cpu_us"]["median"] > 0
    assert "added_over_direct" in found["aiohttp"]["p50_ms"]
    assert report["commands"]["ttft_50rps aiohttp"].startswith("python -m bench load --url http")
    assert sys.executable not in report["commands"]["ttft_50rps aiohttp"]
