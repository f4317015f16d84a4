"""A comparison as a Markdown table: for READMEs and pull requests."""

from __future__ import annotations

from typing import Any

from bench.summary import BASELINE, YARDSTICK

__all__ = ["markdown", "readme_table"]

# Of the README's table: figure, value, what people call it, digits.
_README_ROWS = (
    ("plain_c64", "cpu_us", "CPU µs per request, 64 connections", 1),
    ("plain_c64", "per_s", "requests/s, 64 connections", 0),
    ("stream_flat", "cpu_us", "CPU µs per streamed event, 64 streams flat out", 1),
    ("stream_paced", "cpu_us", "CPU µs per streamed event, 256 streams at 10/s", 1),
    ("ttft_50rps", "p50_ms", "TTFT p50 at 50 requests/s, ms", 2),
    ("ttft_50rps", "added", "added to it over a direct connection, ms", 2),
    ("ttft_50rps", "tail_40ms_share", "share of times at 38 to 45 ms", 0),
    ("stream_paced", "rss_mib", "memory of all processes with 256 streams, MiB", 0),
    ("stream_paced", "stream_kib", "memory for each open stream, KiB", 1),
    ("footprint", "start_s", "start to first answer, s", 2),
)


def markdown(report: dict[str, Any]) -> str:
    """All figures, a row each, medians ± half the spread."""
    return _table(
        report,
        [
            (figure, value, f"{figure} {value}", 3)
            for figure, found in report["figures"].items()
            for value in dict.fromkeys(v for peer in found.values() for v in peer)
            if value not in ("disturbed_rounds", "rate")
        ],
    )


def readme_table(report: dict[str, Any]) -> str:
    """The rows that the README shows, and below them where they come from."""
    machine = report["machine"]
    versions = "; ".join(found["version"] for found in report["peers"].values() if found["version"])
    return (
        f"{_table(report, [row for row in _README_ROWS if row[0] in report['figures']])}\n"
        f"{machine['when'][:10]}, {machine['cores']} cores of an {machine['cpu']}, Python "
        f"{machine['python']}, commit {machine['commit'][:12]}; {versions}. Medians of "
        f"{report['rounds']} rounds, ± half the spread; ratios: medians of those within rounds.\n"
        f"`{report['command']}`\n"
    )


def _table(report: dict[str, Any], rows: list[tuple[str, str, str, int]]) -> str:
    names = list(report["peers"])
    compared = [n for n in names if n not in (YARDSTICK, BASELINE)] if YARDSTICK in names else []
    head = ["figure", *names, *(f"{name} ÷ {YARDSTICK}" for name in compared)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for figure, value, label, digits in rows:
        found = report["figures"].get(figure, {})
        cells = [_cell(found.get(name, {}), value, digits) for name in names]
        if any(cells):
            ratios = [_ratio(found.get(name, {}), value) for name in compared]
            lines.append([label, *cells, *ratios])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: dict[str, Any], value: str, digits: int) -> str:
    if value == "added":
        over = found.get("p50_ms", {}).get("added_over_direct")
        return "" if over is None else f"{over:.{digits}f}"
    row = found.get(value)
    if row is None:
        return ""
    mark = "\\*" if found.get("disturbed_rounds") else ""
    spread = f" ± {row['spread'] * 50:.0f} %" if row["spread"] > 0.01 else ""
    return f"{row['median']:,.{digits}f}{spread}{mark}"


def _ratio(found: dict[str, Any], value: str) -> str:
    over = found.get(value, {}).get("ratio_to_nginx") if value != "added" else None
    return "" if over is None else f"**{over:.2f}**"
