"""The figures of a comparison: one function each, from a running peer to named numbers.

Every function warms up first, measures its CPU over all of the peer's processes, and returns
(values, disturbance, command). CPU is in microseconds per request or per event.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.load import Options, build_request
from bench.procfs import Disturbance, Meter, rss_bytes
from bench.stand import ROOT, TOKENS, Failed, Running, Stand, spawn

__all__ = ["FIGURES", "Measured"]

PLAIN_TOKENS = 64
"""Of a plain answer: about 620 bytes."""

STREAMS = 256
PACED_ITL_MS = 100
"""256 streams at 10 events/s: what a busy engine sends, one wake-up per event."""

GRACE_S = 120
"""For requests begun to end: the slowest peer takes some 12 s for 64 streams of 256 events,
and 20 s for 256 paced streams of 60, on a quiet machine.
"""

TTFT_RATE = 50
TTFT_ITL_MS = 5
TTFT_TOKENS = 8

FRONTIER_MS = (1, 5, 10, 50, 100)
FRONTIER_CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

SETTLE_S = 1.5
"""Processes that are not needed for the first answer may still be starting behind it."""

FAST_PER_S = 2000
"""Above it wrk drives plain requests, where it is installed: it shares its core with the engine,
and costs less than our own client's 17 us a request. Below it that does not matter, but that our
client lets requests end which it began: what wrk leaves undone is charged to those it counts.
"""

TURNS = 4
"""Requests of each connection in a measurement, on average at least: a slow peer gets longer."""

LONGEST_S = 20
"""But no longer than that."""

UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Measured:
    values: dict[str, float]
    disturbance: Disturbance
    command: str
    details: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Points of plots, by the plot's name."""


def meter(stand: Stand, running: Running) -> Meter:
    return Meter(running.pid, (stand.engine_pid,), stand.cores)


def per_unit_us(running: Running, cpu_s: float, count: float) -> dict[str, float]:
    return {} if running.pid is None else {"cpu_us": cpu_s / max(count, 1) * 1e6}


def load(stand: Stand, running: Running, *extra: str) -> tuple[dict[str, Any], str]:
    """Run our own load client to its end; return its report and the command."""
    process, shown = start_load(stand, running, *extra)
    return end_load(process), shown


def start_load(stand: Stand, running: Running, *extra: str) -> tuple[subprocess.Popen[bytes], str]:
    arguments = ["--url", running.url, "--json", "-", "--quiet", *extra]
    arguments += ["--grace", f"{GRACE_S}"]
    arguments += ["--model", running.peer.model]
    shown = " ".join(["python -m bench load", *arguments])
    for header in running.headers:
        arguments += ["--header", header]
    if running.peer.key:
        arguments += ["--key", running.peer.key]
    command = [sys.executable, "-m", "bench", "load", *arguments]
    return spawn(command, stand.load_core, subprocess.PIPE), shown


def end_load(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate()
    if not output:
        raise Failed(f"the load client ended without a report, with status {process.returncode}")
    report: dict[str, Any] = json.loads(output)
    if report["errors"]:
        raise Failed(f"the load client saw errors: {report['errors']}")
    return report


def settle(running: Running) -> None:
    """Wait until all of a peer's processes have started."""
    time.sleep(max(0.0, running.ready_s + SETTLE_S - time.monotonic()))


def plots(report: dict[str, Any], times: str) -> dict[str, list[tuple[float, float]]]:
    """Of a load report: percentiles as (one in so many, ms), and the median of each second."""
    known = report[f"{times}_ms"]
    places = (("p50", 2), ("p90", 10), ("p95", 20), ("p99", 100), ("p999", 1000))
    timeline = [
        (second["at_s"], second[f"{times}_p50_ms"])
        for second in report["over_time"]
        if second[f"{times}_p50_ms"] is not None
    ]
    return {"percentiles": [(n, known[name]) for name, n in places], "timeline": timeline}


# ---- plain requests


def wrk_script(running: Running) -> str:
    """The load client's own request, as a script for wrk."""
    options = Options(
        url=running.url,
        key=running.peer.key,
        model=running.peer.model,
        headers=tuple(running.headers),
        max_tokens=str(PLAIN_TOKENS),
    )
    head, _, body = build_request(options).decode().partition("\r\n\r\n")
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(body)}"]
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        if name not in ("host", "content-length"):  # wrk writes these itself
            lines.append(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def read_wrk(text: str) -> dict[str, float]:
    """The figures in wrk's output; raises Failed on refused or broken requests."""
    for trouble in re.findall(r"Socket errors: .*|Non-2xx .*", text):
        raise Failed(f"wrk: {trouble}")
    found = {
        f"p{quantile}_ms": float(value) * UNITS_MS[unit]
        for quantile, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)\b", text)
    }
    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if count is None or rate is None:
        raise Failed(f"wrk printed no figures: {text[-300:]!r}")
    return found | {"requests": float(count[1]), "per_s": float(rate[1])}


Drive = Callable[[Stand, Running, int, float], tuple[dict[str, float], str]]


def wrk(stand: Stand, running: Running, connections: int, duration_s: float) -> tuple[dict, str]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(running))
        script.flush()
        command = [
            *("wrk", "-t1", f"-c{connections}", f"-d{duration_s:g}s", "--latency"),
            *("--timeout", "30s"),
            *("-s", script.name, running.url),
        ]
        process = spawn(command, stand.load_core, subprocess.PIPE)
        output, _ = process.communicate()
    return read_wrk(output.decode()), " ".join(command)


def own_plain(
    stand: Stand, running: Running, connections: int, duration_s: float
) -> tuple[dict, str]:
    report, command = load(
        stand,
        running,
        *("--concurrency", str(connections), "--duration", f"{duration_s:g}"),
        *("--max-tokens", str(PLAIN_TOKENS)),
    )
    latency = report["latency_ms"]
    values = {"p50_ms": latency["p50"], "p99_ms": latency["p99"]}
    values |= {"requests": report["requests"], "per_s": report["requests_per_s"]}
    return values, command


def choose_drive(stand: Stand, running: Running, connections: int) -> tuple[Drive, float]:
    """Warm up; return what drives this peer, and the requests/s that it has shown."""
    warm, _ = own_plain(stand, running, connections, 0.5)
    fast = warm["per_s"] >= FAST_PER_S and shutil.which("wrk")
    return (wrk if fast else own_plain), max(warm["per_s"], 1.0)


def plain(connections: int) -> Callable[[Stand, Running, float], Measured]:
    def measure(stand: Stand, running: Running, scale: float) -> Measured:
        drive, per_s = choose_drive(stand, running, connections)
        # wrk's grain is a second.
        duration_s = max(1, round(3 * scale), min(LONGEST_S, round(TURNS * connections / per_s)))
        metered = meter(stand, running)
        values, command = drive(stand, running, connections, duration_s)
        cpu_s, disturbance = metered.stop()
        values |= per_unit_us(running, cpu_s, values.pop("requests"))
        return Measured(values, disturbance, command)

    return measure


# ---- streams


def stream_flat(stand: Stand, running: Running, scale: float) -> Measured:
    """64 streams of 256 events, as fast as they go."""
    options = ["--stream", "--concurrency", "64"]
    load(stand, running, *options, "--max-tokens", "16", "--duration", "0.5")
    options += ["--max-tokens", str(TOKENS)]
    metered = meter(stand, running)
    report, command = load(stand, running, *options, "--duration", f"{3 * scale:g}")
    cpu_s, disturbance = metered.stop()
    values = {"per_s": report["events_per_s"], **per_unit_us(running, cpu_s, report["events"])}
    return Measured(values, disturbance, command)


def stream_paced(stand: Stand, running: Running, scale: float) -> Measured:
    """256 streams of 10 events/s each; measured while all of them run."""
    window_s = 4 * scale
    lead_s = 1.0  # the load client starts, its streams begin spread over 0.1 s
    tokens = int((window_s + lead_s + 1.0) * 1000 / PACED_ITL_MS)
    settle(running)
    rss_before = rss_bytes(running.pid) if running.pid else 0
    stand.pace(PACED_ITL_MS)
    try:
        process, command = start_load(
            stand,
            running,
            *("--stream", "--concurrency", str(STREAMS), "--requests", str(STREAMS)),
            *("--max-tokens", str(tokens), "--ramp", "0.1", "--duration", "60"),
        )
        time.sleep(lead_s)
        metered = meter(stand, running)
        events = stand.events()
        time.sleep(window_s)
        events = stand.events() - events
        cpu_s, disturbance = metered.stop()
        rss = rss_bytes(running.pid) if running.pid else 0
        report = end_load(process)
    finally:
        stand.pace(0)
    values = {
        "per_s": events / window_s,
        "gap_p99_ms": report["gap_ms"]["p99"],
        **per_unit_us(running, cpu_s, events),
    }
    if running.pid is not None:
        values |= {"rss_mib": rss / 2**20, "stream_kib": (rss - rss_before) / STREAMS / 1024}
    return Measured(values, disturbance, command)


def frontier(stand: Stand, running: Running, scale: float) -> Measured:
    """The most requests/s at which 99 % take no longer than 1, 5, 10, 50, 100 ms."""
    drive, _ = choose_drive(stand, running, 1)
    best = dict.fromkeys(FRONTIER_MS, 0.0)
    metered = meter(stand, running)
    command = ""
    points = []
    for connections in FRONTIER_CONNECTIONS:
        values, command = drive(stand, running, connections, 1)
        points.append((values["per_s"], values["p99_ms"]))
        for bound_ms in FRONTIER_MS:
            if values["p99_ms"] <= bound_ms:
                best[bound_ms] = max(best[bound_ms], values["per_s"])
        if values["p50_ms"] > FRONTIER_MS[-1]:
            break  # more connections only wait longer
    _, disturbance = metered.stop()
    named = {f"per_s_at_{bound_ms}ms": per_s for bound_ms, per_s in best.items()}
    return Measured(named, disturbance, command, {"points": points})


def open_loop(rate: float) -> Callable[[Stand, Running, float], Measured]:
    def measure(stand: Stand, running: Running, scale: float) -> Measured:
        """Plain requests at a fixed rate, from their scheduled times."""
        asked = min(rate, running.peer.max_rate)
        options = ["--rate", f"{asked:g}", "--max-tokens", str(PLAIN_TOKENS)]
        load(stand, running, *options, "--duration", "0.5")
        metered = meter(stand, running)
        report, command = load(stand, running, *options, "--duration", f"{4 * scale:g}")
        cpu_s, disturbance = metered.stop()
        latency = report["latency_ms"]
        values = {"p50_ms": latency["p50"], "p99_ms": latency["p99"], "rate": asked}
        values |= per_unit_us(running, cpu_s, report["requests"])
        return Measured(values, disturbance, command, plots(report, "latency"))

    return measure


def ttft(stand: Stand, running: Running, scale: float) -> Measured:
    """Open loop at 50 streams/s: what the first byte waits for, and whether 40 ms tails show."""
    rate = min(TTFT_RATE, running.peer.max_rate)
    options = ["--stream", "--rate", f"{rate:g}", "--max-tokens", str(TTFT_TOKENS)]
    stand.pace(TTFT_ITL_MS)
    try:
        load(stand, running, *options, "--duration", "0.5")
        metered = meter(stand, running)
        report, command = load(stand, running, *options, "--duration", f"{4 * scale:g}")
        cpu_s, disturbance = metered.stop()
    finally:
        stand.pace(0)
    shares = report["share_38_45_ms"]
    values = {
        "p50_ms": report["ttft_ms"]["p50"],
        "p99_ms": report["ttft_ms"]["p99"],
        "rate": rate,
        "tail_40ms_share": max(shares["ttft"], shares["gap"]),
        **per_unit_us(running, cpu_s, report["events"]),
    }
    return Measured(values, disturbance, command, plots(report, "ttft"))


def footprint(stand: Stand, running: Running, scale: float) -> Measured:
    """Time to the first answer; memory and CPU of the idle peer, all its processes started."""
    settle(running)
    metered = meter(stand, running)
    window_s = 1 * scale
    time.sleep(window_s)
    cpu_s, disturbance = metered.stop()
    values = {}
    if running.pid is not None:
        values = {
            "start_s": running.start_s,
            "rss_mib": rss_bytes(running.pid) / 2**20,
            "idle_cpu_ms_per_s": cpu_s * 1000 / window_s,
        }
        installed = running.peer.installed_bytes()
        values |= {} if installed is None else {"install_mib": installed / 2**20}
    return Measured(values, disturbance, " ".join(running.command).replace(str(ROOT), "."))


FIGURES: dict[str, Callable[[Stand, Running, float], Measured]] = {
    "footprint": footprint,
    "plain_c1": plain(1),
    "plain_c16": plain(16),
    "plain_c64": plain(64),
    "plain_c256": plain(256),
    "stream_flat": stream_flat,
    "stream_paced": stream_paced,
    "ttft_50rps": ttft,
    "latency_50rps": open_loop(50),
    "latency_200rps": open_loop(200),
    "frontier": frontier,
}
