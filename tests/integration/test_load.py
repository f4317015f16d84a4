"""`python -m bench load` as people run it, against the simulated engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

from bench.load.bodies import KINDS
from bench.load.options import Options
from tests.load_server import stage
from tests.processes import ROOT, Engine

COMMAND = [sys.executable, "-m", "bench", "load"]
DISTRIBUTION = {"count", "mean", "p50", "p90", "p95", "p99", "p999", "max", "hdr_ns"}


def run(*options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == status, done.stderr
    return done


def report(*options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*options, "--json", "-").stdout)
    return found


def paths(value: Any, path: str = "") -> set[str]:
    """Every member of a report, in the words of the document."""
    if value in ({}, []):
        return set()
    if isinstance(value, dict):
        return set().union(*(paths(v, f"{path}.{k}" if path else k) for k, v in value.items()))
    if isinstance(value, list):
        return set().union(*(paths(item, f"{path}.[]") for item in value))
    return {path}


def test_the_report_is_the_one_that_is_documented(start_engine: Callable[..., Engine]) -> None:
    engine = start_engine("--ttft-ms", "5", "--itl-ms", "2", "--tokens", "6")
    found = report(
        *("--url", engine.url, "--rate", "60,120", "--duration", "1.05", "--stream"),
        *("--include-usage", "--slo", "ttft:2s", "--header", "x-secret: s", "--key", "sk-1"),
    )
    text = (ROOT / "docs/bench-load-json.md").read_text()
    documented = re.findall(r"^\| `([\w.\[\]*]+)` \|", text, re.M)
    patterns = {
        name: re.compile(re.escape(name).replace(r"\*", ".+") + r"(\.\[\])?") for name in documented
    }
    there = paths(found)
    unknown = {path for path in there if not any(p.fullmatch(path) for p in patterns.values())}
    assert unknown == set()
    optional = {"errors.*", "warnings.[]"}  # nothing went wrong
    missing = {n for n, p in patterns.items() if not any(p.fullmatch(path) for path in there)}
    assert missing <= optional
    assert found["schema"] == "fastgate-load/1"
    assert set(found["ttft_ms"]) == DISTRIBUTION
    assert "sk-1" not in json.dumps(found)
    assert found["options"]["headers"] == ["x-secret"]

    assert (found["started"], found["requests"], found["errors"]) == (189, 189, {})
    assert [stage["rate"] for stage in found["stages"]] == [60.0, 120.0]
    assert [stage["requests"] for stage in found["stages"]] == [63, 126]
    assert {row["stage"] for row in found["over_time"]} == {0, 1}
    assert sum(row["requests"] for row in found["over_time"]) == 189
    assert found["output_tokens"] == 6 * 189
    assert found["ttft_ms"]["p50"] >= 5
    assert found["latency_ms"]["p50"] >= 15
    assert found["good_share"] == 1.0
    histogram = HdrHistogram.decode(found["latency_ms"]["hdr_ns"])
    assert histogram.get_total_count() == 189
    p99_ms = histogram.get_value_at_percentile(99) / 1e6
    assert p99_ms == pytest.approx(found["latency_ms"]["p99"], rel=0.002)


async def test_every_api_is_understood(engine: Engine) -> None:
    for kind in KINDS:
        options = Options(
            engine.url, kind=kind, requests=30, concurrency="3", stream=True,
            include_usage=True, verify=True, max_tokens="5",
        )  # fmt: skip
        tally = (await stage(options)).tally
        assert (kind, tally.finished, tally.metered, tally.errors) == (kind, 30, 30, {})
        if kind != "embeddings":
            assert (tally.output_tokens, tally.ttft.count) == (150, 30)
            assert tally.content_events >= 150


def test_processes_share_a_load_and_add_up(engine: Engine) -> None:
    found = report(
        "--url", engine.url, "--processes", "2", "--rate", "101", "--duration", "1", "--turns", "2"
    )
    assert found["errors"] == {}
    assert found["client"]["processes"] == 2
    # 101 conversations were scheduled, and each has a second turn.
    assert found["schedule"]["sent"] >= 101
    assert found["requests"] in range(201, 203)
    log = engine.call("GET", "/sim/log")
    assert len(log["requests"]) == found["requests"]


def test_interrupted_it_says_what_it_has(start_engine: Callable[..., Engine]) -> None:
    engine = start_engine("--ttft-ms", "20")
    child = subprocess.Popen(
        [*COMMAND, "--url", engine.url, "--concurrency", "4", "--duration", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(20, child.kill)
    guard.start()
    assert child.stderr is not None
    first = child.stderr.readline()  # the first second is complete
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate()
    guard.cancel()
    assert first.startswith("s 0  req/s "), first
    assert (child.returncode, "Traceback" in errors) == (0, False)
    assert re.match(r"\d+ requests in [1-9]\.\d+ s: ", output), output
    assert "unfinished" not in output
    assert "truncated" not in output


async def test_it_speaks_tls(start_engine: Callable[..., Engine], tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    engine = start_engine("--tls-cert", str(certificate), "--tls-key", str(key))
    url = f"https://localhost:{engine.port}"
    trusted = await stage(Options(url, requests=8, stream=True, ca=str(certificate)))
    assert (trusted.tally.finished, trusted.tally.errors) == (8, {})
    assert trusted.tally.opened == 1
    assert (await stage(Options(url, requests=8, insecure=True))).tally.finished == 8
    refused = await stage(Options(url, requests=8))
    assert refused.tally.errors == {"tls: CERTIFICATE_VERIFY_FAILED": 1}


def test_a_file_that_holds_no_certificate_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none\n")
    done = run("--url", "https://127.0.0.1:1", "--ca", str(tmp_path / "ca.pem"), status=2)
    assert re.fullmatch(r"load: --ca: expected a file of PEM certificates .*\n", done.stderr)


def test_a_terminal_shows_a_table_while_it_runs(engine: Engine) -> None:
    controller, terminal = os.openpty()
    done = subprocess.run(
        [*COMMAND, "--url", engine.url, "--rate", "40", "--stream", "--duration", "2.2"],
        stdout=subprocess.PIPE, stderr=terminal, timeout=30, text=True,
    )  # fmt: skip
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert done.returncode == 0
    for title in ("in flight", "40 requests/s", "req/s", "events/s", "TTFT p99", "ITL p99"):
        assert title in shown
    assert re.search(r"^latency +[\d.]+", done.stdout, re.M)


def test_a_bad_trace_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": "soon", "hash_ids": [1]}\n')
    done = run("--url", "http://127.0.0.1:1", "--trace", str(trace), status=2)
    assert re.fullmatch(r"load: .*trace.jsonl:1: expected .*\n", done.stderr)
