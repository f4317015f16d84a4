"""The load client as a command, against the simulated engine."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench.simulation import Latency
from bench.stand import ROOT, start_engine

TOKENS = 16


@pytest.fixture(scope="module")
def engine_url() -> Iterator[str]:
    with start_engine("--events-per-write", "0") as (_, port):
        yield f"http://127.0.0.1:{port}"


def command(url: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "bench", "load", "--url", url, "--json", "-", *options]


def load(url: str, *options: str, status: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        command(url, *options, "--quiet"), cwd=ROOT, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == status, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(
    ("endpoint", "stream"),
    [
        ("chat", False),
        ("chat", True),
        ("completions", True),
        ("embeddings", False),
        ("responses", True),
        ("messages", True),
    ],
)
def test_every_endpoint(engine_url: str, endpoint: str, stream: bool) -> None:
    options = ["--endpoint", endpoint, "--requests", "8", "--concurrency", "2"]
    report = load(engine_url, *options, "--max-tokens", "5", *(["--stream"] if stream else []))
    assert (report["requests"], report["errors"]) == (8, {})
    assert report["tokens"]["prompt"] == 8 * 16
    assert report["latency_ms"]["count"] == 8
    if stream:
        assert report["tokens"]["output"] == 8 * 5
        assert report["ttft_ms"]["count"] == 8
        assert report["events"] >= 8 * 5


def test_known_times_are_measured() -> None:
    # What the engine will draw, one for each request, in whatever order.
    drawn = Latency("lognormal:0.25", 5)
    expected_ms = sorted(drawn.sample(0.2) * 1000 for _ in range(1000))
    options = ("--ttft-ms", "200", "--distribution", "lognormal:0.25", "--seed", "5")
    with start_engine(*options) as (_, port):
        report = load(
            f"http://127.0.0.1:{port}",
            *("--concurrency", "100", "--requests", "1000", "--duration", "40"),
            *("--stream", "--max-tokens", "1"),
        )
    assert report["ttft_ms"]["count"] == 1000
    for name, rank in (("p50", 500), ("p90", 900), ("p99", 990)):
        assert report["ttft_ms"][name] == pytest.approx(expected_ms[rank - 1], rel=0.02)


def test_faults_are_counted_and_fail_the_command(engine_url: str) -> None:
    report = load(engine_url, "--requests", "3", "--stream", "--header", "x-sim: cut=4", status=1)
    assert report["errors"] == {"truncated": 3}
    assert load(engine_url, "--requests", "2", "--model", "none", status=1)["errors"] == {
        "status 404": 2
    }


def test_processes_share_the_load(engine_url: str) -> None:
    report = load(
        engine_url,
        *("--processes", "2", "--rate", "100", "--requests", "60"),
        *("--stream", "--verify"),
    )
    assert (report["requests"], report["errors"]) == (60, {})
    assert report["client"]["processes"] == 2
    assert report["latency_ms"]["count"] == 60
    assert report["elapsed_s"] == pytest.approx(0.6, abs=0.3)
    assert sum(second["requests"] for second in report["timeline"]) == 60


def test_a_staircase_has_a_report_a_step(engine_url: str) -> None:
    steps = load(engine_url, "--concurrency", "1,3", "--duration", "0.3")["steps"]
    assert [step["load"] for step in steps] == [1, 3]
    assert [step["connections"]["opened"] for step in steps] == [1, 3]
    rates = load(engine_url, "--rate", "20,60", "--duration", "0.5")["steps"]
    assert [step["requests"] for step in rates] == [10, 30]


async def test_ctrl_c_gives_what_there_is(engine_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command(engine_url, "--rate", "50", "--duration", "60"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    # The first line of progress: it is under way.
    assert b"in flight" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    report = json.loads(output)
    assert report["interrupted"]
    assert report["requests"] >= 1
    assert report["elapsed_s"] < 50


def test_a_terminal_shows_progress_and_a_table(engine_url: str) -> None:
    controller, terminal = os.openpty()
    arguments = command(engine_url, "--requests", "400", "--rate", "400", "--stream")
    arguments.remove("--json")
    arguments.remove("-")
    done = subprocess.run(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, timeout=30, check=False
    )
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert done.returncode == 0
    assert "in flight" in shown
    assert "ttft" in shown
    text = done.stdout.decode()
    assert "400 requests in " in text
    assert "p99.9" in text
    assert "sent late by" in text


def untimed(folder: Any) -> Any:
    file = folder / "prompts.jsonl"
    file.write_text('{"prompt": "tell me"}\n' * 5)
    return file


def test_a_trace_is_replayed_in_its_own_time(engine_url: str, tmp_path: Any) -> None:
    rng = random.Random(1)
    times_ms = sorted(rng.randrange(0, 2000) for _ in range(30))
    file = tmp_path / "trace.jsonl"
    file.write_text(
        "".join(
            json.dumps({"timestamp": t, "input_length": 40, "output_length": 4, "hash_ids": [n]})
            + "\n"
            for n, t in enumerate(times_ms)
        )
    )
    report = load(engine_url, "--trace", str(file), "--speed", "4", "--stream")
    assert (report["requests"], report["errors"]) == (30, {})
    assert report["tokens"] == {"prompt": 30 * 40, "cached": 0, "output": 30 * 4}
    closed = load(engine_url, "--trace", str(untimed(tmp_path)), "--concurrency", "2")
    assert (closed["requests"], closed["late_ms"]["count"]) == (5, 0)
    assert closed["connections"]["opened"] == 2
    length_s = (times_ms[-1] - times_ms[0]) / 4000
    assert length_s <= report["elapsed_s"] < length_s + 1
