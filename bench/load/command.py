"""`python -m bench load`: run, show progress, print a table, write JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench.load.live import Progress
from bench.load.options import Options, read_options
from bench.load.processes import run_processes, share_of
from bench.load.results import Results
from bench.load.run import Run

__all__ = ["main"]

_ROWS = ("latency", "ttft", "gap", "tpot", "late")
_LABELS = {"gap": "inter-token", "tpot": "per token", "late": "sent late by"}


def main(argv: list[str]) -> int:
    options, command = read_options(argv)
    if options.processes > 1 and not command.child:
        report = asyncio.run(_processes(options, argv))
    else:
        part = int(os.environ.get("FASTGATE_LOAD_PART", "0"))
        shared = share_of(options, part) if command.child else options
        report = uvloop.run(_steps(shared, part, command.quiet))
    if command.json == "-":
        print(json.dumps(report))
    else:
        print(table(report))
        if command.json:
            Path(command.json).write_text(json.dumps(report, indent=1) + "\n")
    warning = report["client"]["warning"]
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if command.child:
        return 0
    return 1 if report["errors"] or not report["requests"] else 0


async def _processes(options: Options, argv: list[str]) -> dict[str, Any]:
    # Ctrl-C goes to the children of the terminal's group; they end, and their reports are read.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    return await run_processes(options, argv)


async def _steps(options: Options, part: int, quiet: bool) -> dict[str, Any]:
    """Run one step, or those of a staircase one after the other."""
    rate = options.rate
    count = len(options.concurrency)
    if rate is not None:
        count = 1 if rate.ramp else len(rate.steps)
    reports = []
    for step in range(count):
        results = await _step(options, step, part, quiet, count)
        reports.append(results.report(options))
        if results.interrupted:
            break
    if len(reports) == 1:
        return reports[0]
    names = rate.steps if rate is not None else options.concurrency
    steps = [{"load": name} | report for name, report in zip(names, reports, strict=False)]
    # The last step stands for the whole; all are there.
    return reports[-1] | {"steps": steps}


async def _step(options: Options, step: int, part: int, quiet: bool, count: int) -> Results:
    loop = asyncio.get_running_loop()
    run = Run(loop, options, step, part)

    def interrupt() -> None:
        run.results.interrupted = True
        run.stop()
        # A second one does not wait for what is in flight.
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    label = f"step {step + 1}/{count}" if count > 1 else "load"
    progress = Progress(run, label, loop.call_later)
    if not quiet:
        progress.start()
    try:
        return await run.run()
    finally:
        if not quiet:
            progress.stop()


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = []
    for step in report.get("steps", [report]):
        if "load" in step:
            lines.append(f"-- {step['load']:g}")
        lines.append(
            f"{step['requests']} requests in {step['elapsed_s']:.2f} s: "
            f"{step['requests_per_s']:,.1f}/s"
            + (f", {step['events_per_s']:,.0f} events/s" if step["events"] else "")
            + (f", {step['output_tokens_per_s']:,.0f} tokens/s" if step["tokens"] else "")
        )
        lines.append(f"{'ms':<14}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
        for name in _ROWS:
            times = step[f"{name}_ms"]
            if times["count"]:
                shown = (times[key] for key in ("p50", "p90", "p99", "p999", "max"))
                cells = "".join(f"{value:>10.3f}" for value in shown)
                lines.append(f"{_LABELS.get(name, name):<14}{cells}")
        if step["options"]["slo"]:
            goodput = step["goodput"]
            lines.append(
                f"goodput {goodput['requests_per_s']:,.1f}/s, {goodput['share']:.1%} of requests"
            )
        if step["missed"]:
            lines.append(f"{step['missed']} were scheduled and never sent")
        for kind, number in sorted(step["errors"].items()):
            lines.append(f"error: {kind}: {number}")
    client = report["client"]
    opened = report["connections"]
    lines.append(
        f"{opened['opened']} connections, {opened['requests_per_connection']:g} requests each; "
        f"the client used {client['cpu_share']:.0%} of a core (its ceiling here: about "
        f"{client['ceiling_requests_per_s']:,} requests/s)"
    )
    if report["interrupted"]:
        lines.append("interrupted: what was measured until then")
    return "\n".join(lines)
