"""The page: figures as bars, distributions and frontiers as lines, and where they come from.

One file without scripts and without anything from elsewhere: it can be mailed, printed and kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

from bench.report.svg import Series, bars, lines
from bench.summary import cell, values_of

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #d9dee4; --soft: #57606a;
  --c0: #57606a; --c1: #1f77b4; --c2: #e36209; --c3: #2da44e; --c4: #8250df; --c5: #cf222e;
  --c6: #0e8a8a; --c7: #9a6700; --c8: #bf3989; --c9: #4c6ef5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --faint: #30363d;
  --soft: #9198a1; --c0: #9198a1; --c1: #58a6ff; --c2: #ffa657; --c3: #56d364; --c4: #d2a8ff;
  --c5: #ff7b72; --c6: #39c5cf; --c7: #e3b341; --c8: #f778ba; --c9: #91a7ff; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; max-width: 1100px; padding: 16px; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: 24px; }
figure { margin: 0; break-inside: avoid; } figcaption { color: var(--soft); }
svg { width: 100%; height: auto; font-size: 12px; }
svg text { fill: var(--ink); } svg .name { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--faint); } svg .spread { stroke: var(--ink); stroke-width: 1.5; }
svg polyline { stroke-width: 1.8; }
.legend span { margin-right: 1em; white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; border-bottom: 1px solid var(--faint); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
code { font-size: .85em; overflow-wrap: anywhere; }
dt { color: var(--soft); } dd { margin: 0 0 .4em; }
@media (max-width: 600px) { body { padding: 8px; } }
@media print { :root { --ink: #000; --paper: #fff; --faint: #bbb; --soft: #444; }
  body { max-width: none; font-size: 11px; } .wide { overflow: visible; }
  h2 { break-after: avoid; } }
"""

# Of each chart of bars: figure, value, heading, unit.
_BARS = (
    ("plain_c64", "cpu_us", "CPU per request, 64 connections", "us"),
    ("plain_c64", "per_s", "Requests per second, 64 connections, one core", "requests/s"),
    ("stream_flat", "cpu_us", "CPU per streamed event, 64 streams flat out", "us"),
    ("stream_paced", "cpu_us", "CPU per streamed event, 256 streams at 10 events/s", "us"),
    ("footprint", "rss_mib", "Memory of all processes, idle", "MiB"),
    ("footprint", "start_s", "From start to the first answer", "s"),
)


def page(report: dict[str, Any]) -> str:
    """Return the page for a report of `compare`."""
    names = list(report["peers"])
    colours = {name: index % 10 for index, name in enumerate(names)}
    machine = report["machine"]
    charts = [*_bar_charts(report, colours), *_added_charts(report, colours)]
    charts += [*_distributions(report, colours), *_frontier(report, colours)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Gateways compared, {escape(machine['when'][:10])}</title>"
        f"<style>{STYLE}</style></head><body>"
        f"<h1>Gateways compared</h1><p>{escape(_where(report))}</p>"
        f'<div class="charts">{"".join(charts)}</div>'
        f"<h2>All figures</h2><p>Medians of {report['rounds']} rounds, ± half the spread; * marks "
        "a round that other processes disturbed.</p>"
        f"{_table(report, names)}{_notes(report)}{_origin(report)}</body></html>\n"
    )


def _where(report: dict[str, Any]) -> str:
    machine = report["machine"]
    commit = machine["commit"][:12] + (" with changes" if machine["uncommitted"] else "")
    return (
        f"{machine['when']}, {machine['cores']} cores of {machine['cpu']}, Linux "
        f"{machine['kernel']}, Python {machine['python']}, commit {commit}"
    )


def _figure(heading: str, chart: str) -> str:
    return f"<figure><figcaption>{escape(heading)}</figcaption>{chart}</figure>"


def _bar_charts(report: dict[str, Any], colours: dict[str, int]) -> list[str]:
    charts = []
    for figure, value, heading, unit in _BARS:
        found = report["figures"].get(figure, {})
        rows = [
            (name, found[name][value]["median"], found[name][value]["spread"])
            for name in report["peers"]
            if value in found.get(name, {})
        ]
        if rows:
            charts.append(_figure(f"{heading} ({unit})", bars(rows, unit, colours)))
    return charts


def _added_charts(report: dict[str, Any], colours: dict[str, int]) -> list[str]:
    charts = []
    for figure, found in report["figures"].items():
        rows = [
            (name, max(0.0, found[name]["p50_ms"]["added_over_direct"]), 0.0)
            for name in report["peers"]
            if "added_over_direct" in found.get(name, {}).get("p50_ms", {})
        ]
        if rows:
            heading = f"{figure}: added to p50 over a direct connection (ms)"
            charts.append(_figure(heading, bars(rows, "ms", colours)))
    return charts


def _details(report: dict[str, Any], figure: str, name: str) -> list[Series]:
    details = report.get("details", {})
    found = ((peer, details.get(f"{figure} {peer}", {}).get(name)) for peer in report["peers"])
    return [(peer, [(x, y) for x, y in points]) for peer, points in found if points]


def _distributions(report: dict[str, Any], colours: dict[str, int]) -> list[str]:
    charts = []
    for figure in report["figures"]:
        # Percentiles by how far they are from the last: 50 -> 2, 90 -> 10, 99 -> 100.
        if series := _details(report, figure, "percentiles"):
            chart = lines(series, "one in so many", "ms", colours, log_x=True, log_y=True)
            charts.append(_figure(f"{figure}: latency distribution", chart))
        if series := _details(report, figure, "timeline"):
            charts.append(_figure(f"{figure}: p50 over time", lines(series, "s", "ms", colours)))
    return charts


def _frontier(report: dict[str, Any], colours: dict[str, int]) -> list[str]:
    series = _details(report, "frontier", "points")
    if not series:
        return []
    chart = lines(series, "requests/s", "p99, ms", colours, log_x=True, log_y=True)
    return [_figure("throughput against latency, 1 to 256 connections", chart)]


def _table(report: dict[str, Any], names: list[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for figure, found in report["figures"].items():
        for value in values_of(found):
            cells = []
            for name in names:
                row = found.get(name, {}).get(value)
                mark = "*" if row and found[name].get("disturbed_rounds") else ""
                cells.append(f"<td>{cell(row)}{mark}</td>")
            rows.append(f"<tr><td>{escape(figure)} {escape(value)}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _notes(report: dict[str, Any]) -> str:
    notes: list[str] = []
    say: Callable[[str], None] = notes.append
    for name, hint in report["skipped"].items():
        say(f"{name} is not installed; {hint}")
    for name, error in report["failures"].items():
        say(f"{name} failed: {error.splitlines()[0]}")
    for figure, found in report["figures"].items():
        rates = {name: each["rate"]["median"] for name, each in found.items() if "rate" in each}
        for name, rate in rates.items():
            if rate < max(rates.values()):
                say(f"{figure}: {name} was asked for {rate:g}/s only")
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _origin(report: dict[str, Any]) -> str:
    peers = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(found['about'])} {escape(found['version'])}</dd>"
        for name, found in report["peers"].items()
    )
    commands = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(command)}</code></dd>"
        for name, command in report["commands"].items()
    )
    machine = escape(json.dumps(report["machine"]))
    return (
        f"<h2>What was compared</h2><dl>{peers}</dl><h2>How</h2>"
        f"<p><code>{escape(report.get('command', ''))}</code></p><dl>{commands}</dl>"
        f"<p><code>{machine}</code></p>"
    )
