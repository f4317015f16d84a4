"""A load client for OpenAI-compatible servers: `python -m bench load --url U --model M`.

    options.py    what is asked for          workload.py, traces.py, words.py, bodies.py: requests
    crew.py       the main process           worker.py   a process: one stage after the other
    run.py        a stage: when, on what     client.py   one connection (compiled)
    tally.py, counts.py  what is counted     results.py  added up      report.py, live.py  shown

The method, and how it avoids known traps, is in docs/bench-method.md; the JSON is described in
docs/bench-load-json.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.load.crew import Died, run_crew
from bench.load.live import progress
from bench.load.options import Options, read_options
from bench.load.report import build_report, show
from bench.load.run import tls_context
from bench.load.traces import BadTrace
from bench.load.workload import build_request, plan

__all__ = ["Options", "build_request", "main"]


def main(argv: list[str]) -> int:
    options, path, wanted = read_options(argv)
    try:
        # What can't be read is said before anything is started.
        next(plan(options))
        tls_context(options)
        with progress(options, wanted and path != "-") as on_second:
            stages = run_crew(options, on_second)
        if not stages:
            print("load: interrupted before the first request", file=sys.stderr)
            return 130
        report = build_report(options, stages)
        text = json.dumps(report, indent=1)
        if path == "-":
            print(text)
        else:
            print(show(report))
            if path:
                Path(path).write_text(text + "\n")
    except KeyboardInterrupt:  # the second one
        return 130
    except (BadTrace, Died, OSError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    if path == "-" and wanted:
        for warning in report["warnings"]:
            print(f"warning: {warning}", file=sys.stderr)
    return 0 if report["requests"] else 1
