"""A load client for OpenAI-compatible servers: `python -m bench load --url U --model M`.

    options.py     what was asked for            distribution.py  lengths: fixed, normal, ...
    workload.py    requests as ready bytes       traces.py        requests recorded elsewhere
    schedule.py    when they leave               client.py        one connection (compiled)
    run.py         one measurement               processes.py     several clients, one result
    results.py     what came of it: the report   live.py          progress while it runs

What is measured, and how the usual traps are avoided, stands in docs/bench-method.md.
"""

from __future__ import annotations

from bench.load.command import main
from bench.load.options import Options
from bench.load.results import Results
from bench.load.run import run
from bench.load.workload import build_request

__all__ = ["Options", "Results", "build_request", "main", "run"]
