"""Progress on standard error: a live table on a terminal, a plain line each second elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from bench.load.options import Options
from bench.load.results import Results

try:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
except ImportError:  # the extra [bench] is not installed: plain lines will do
    Live = None  # type: ignore[assignment, misc]

__all__ = ["progress"]

ROWS = 12
"""Seconds that the table shows."""

COLUMNS = {
    "s": "at_s", "req/s": "requests", "events/s": "events", "in flight": "in_flight",
    "errors": "errors", "p50 ms": "latency_p50_ms", "p99 ms": "latency_p99_ms",
    "TTFT p50": "ttft_p50_ms", "TTFT p99": "ttft_p99_ms", "ITL p99": "itl_p99_ms",
}  # fmt: skip


@contextlib.contextmanager
def progress(options: Options, wanted: bool) -> Iterator[Callable[[Results], None]]:
    """Yield what is to be called with the results whenever a second is complete."""
    if not wanted:
        yield lambda results: None
    elif Live is None or not sys.stderr.isatty():
        yield lambda results: print(line_of(results.rows[-1]), file=sys.stderr, flush=True)
    else:
        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            yield lambda results: live.update(table_of(options, results), refresh=True)


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def line_of(row: dict[str, Any]) -> str:
    return "  ".join(f"{title} {cell(row[name])}" for title, name in COLUMNS.items())


def table_of(options: Options, results: Results) -> Any:
    load = f"{results.rate:g} requests/s" if results.rate else f"{results.concurrency} connections"
    # Without lines between them all columns fit the 80 of a terminal.
    table = Table(
        title=f"{options.url}  {load}  (Ctrl-C: the report so far)",
        caption="\n".join(f"{n:,} x {kind}" for kind, n in sorted(results.tally.errors.items())),
        caption_style="red",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in results.rows[-ROWS:]:
        table.add_row(*(cell(row[name]) for name in COLUMNS.values()))
    return table
