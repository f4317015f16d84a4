"""Several client processes, one core each, and one report of them all.

Each child is this command again, with its share of the load; it prints its report, whose histograms
are added up here. Percentiles are those of all requests together, never means of percentiles.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

from hdrh.histogram import HdrHistogram

from bench.load.options import Options
from bench.load.results import TIMES, histogram, report_of
from bench.load.schedule import Rate

__all__ = ["merged", "run_processes", "share_of"]


def share_of(options: Options, part: int) -> Options:
    """What process number `part` of `options.processes` does."""
    n = options.processes
    rate = options.rate
    if rate is not None:
        rate = Rate(tuple(step / n for step in rate.steps), rate.ramp)
    concurrency = tuple(max(1, (c + n - 1 - part) // n) for c in options.concurrency)
    requests = (options.requests + n - 1 - part) // n
    return replace(options, rate=rate, concurrency=concurrency, requests=requests)


async def run_processes(options: Options, argv: list[str]) -> dict[str, Any]:
    """Run the children to their end; Ctrl-C reaches them too, and what they have counts."""
    cores = sorted(os.sched_getaffinity(0))
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench", "load", *argv, "--child", "--quiet", "--json", "-"),
            env=os.environ | {"FASTGATE_LOAD_PART": str(part)},
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=partial(os.sched_setaffinity, 0, {cores[part % len(cores)]}),
        )
        for part in range(options.processes)
    ]
    outputs = await asyncio.gather(*(child.communicate() for child in children))
    return merged(options, [json.loads(output) for output, _ in outputs if output])


def merged(options: Options, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """One report of several. Raises ValueError when there is none."""
    if not reports:
        raise ValueError("no client process gave a report")
    times: dict[str, HdrHistogram] = {name: histogram() for name in TIMES}
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    timeline: list[dict[str, Any]] = []
    for report in reports:
        for name, encoded in report["histograms"].items():
            times[name].decode_and_add(encoded)
        counts.update(
            started=report["started"],
            finished=report["requests"],
            good=report["goodput"]["requests"],
            events=report["events"],
            bytes=report["bytes"],
            missed=report["missed"],
            opened=report["connections"]["opened"],
        )
        errors.update(report["errors"])
        tokens.update(report["tokens"])
        timeline = _added(timeline, report["timeline"])
    client = {
        "elapsed_s": max(report["elapsed_s"] for report in reports),
        "cpu_s": sum(report["client_cpu_s"] for report in reports),
        "processes": len(reports),
    }
    return report_of(
        options,
        times,
        dict(counts),
        dict(errors),
        dict(tokens),
        client,
        interrupted=any(report["interrupted"] for report in reports),
        timeline=timeline,
    )


def _added(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds of two processes: counts add up; of the medians the larger is kept."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    made = [dict(second) for second in longer]
    for mine, theirs in zip(made, shorter, strict=False):
        mine["requests"] += theirs["requests"]
        mine["errors"] += theirs["errors"]
        for name in ("ttft_p50_ms", "latency_p50_ms"):
            mine[name] = max(filter(None, (mine[name], theirs[name])), default=None)
    return made
