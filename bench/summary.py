"""The arithmetic of a comparison: medians and spreads over rounds, ratios and differences in them.

A ratio is taken within a round, where both sides met the same machine, and then its median. Rounds
that other processes disturbed count only where there are no others.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from bench.figures import Measured
from bench.stats import spread

__all__ = ["BASELINE", "YARDSTICK", "Rounds", "is_calm", "summary", "table"]

YARDSTICK = "nginx"
BASELINE = "direct"
OURS = "fastgate"

FOREIGN_LIMIT = 0.10
STEAL_LIMIT = 0.05

Rounds = dict[tuple[str, str], list[Measured]]
"""By (figure, peer), one entry per round."""

_LATENCY_FIGURES = ("ttft", "latency")


def is_calm(measured: Measured) -> bool:
    found = measured.disturbance
    return found.foreign <= FOREIGN_LIMIT and found.steal <= STEAL_LIMIT


def counted(rounds: list[tuple[Measured, ...]]) -> list[tuple[Measured, ...]]:
    """The rounds in which all was calm, or all rounds if there are none."""
    return [each for each in rounds if all(map(is_calm, each))] or rounds


def pairs_of(taken: Rounds, figure: str, peer: str, to: str) -> list[tuple[Measured, ...]]:
    return counted(list(zip(taken[figure, peer], taken.get((figure, to), []), strict=False)))


def ratio(taken: Rounds, figure: str, peer: str, value: str, to: str) -> float | None:
    """The median over the rounds of peer / `to`."""
    pairs = pairs_of(taken, figure, peer, to)
    found = [
        mine.values[value] / theirs.values[value]
        for mine, theirs in pairs
        if value in mine.values and theirs.values.get(value)
    ]
    return statistics.median(found) if found else None


def added(taken: Rounds, figure: str, peer: str, value: str) -> float | None:
    """The median over the rounds of peer - direct; for latencies."""
    pairs = pairs_of(taken, figure, peer, BASELINE)
    found = [mine.values[value] - theirs.values[value] for mine, theirs in pairs]
    return statistics.median(found) if found else None


def summary(taken: Rounds) -> dict[str, Any]:
    """Medians, spreads, ratios to nginx and to fastgate, by figure, peer and value."""
    report: dict[str, Any] = {}
    for (figure, peer), rounds in taken.items():
        found = report.setdefault(figure, {}).setdefault(peer, {})
        kept = [measured for (measured,) in counted([(measured,) for measured in rounds])]
        for value in rounds[0].values:
            values = [measured.values[value] for measured in kept]
            row: dict[str, Any] = {
                "median": statistics.median(values),
                "spread": spread(values),
                "values": values,
            }
            for to in (YARDSTICK, OURS):
                over = ratio(taken, figure, peer, value, to)
                if peer != to and over is not None:
                    row[f"ratio_to_{to}"] = over
            if figure.startswith(_LATENCY_FIGURES) and value.endswith("_ms") and peer != BASELINE:
                over = added(taken, figure, peer, value)
                row |= {} if over is None else {"added_over_direct": over}
            found[value] = row
        found["disturbed_rounds"] = sum(not is_calm(measured) for measured in rounds)
    return report


# ---- for people


def cell(row: dict[str, Any] | None) -> str:
    """A median and half its spread."""
    if row is None:
        return "-"
    median = row["median"]
    digits = 0 if abs(median) >= 1000 else 1 if abs(median) >= 100 else 3
    return f"{median:,.{digits}f} ±{row['spread'] * 50:.0f}%"


def table(report: dict[str, Any], peers: Iterable[str]) -> str:
    """Absolute medians (± half the spread), and ratios to nginx within rounds."""
    names = list(peers)
    compared = [name for name in names if name not in (YARDSTICK, BASELINE)]
    lines = [["figure", *names, *(f"{name}/{YARDSTICK}" for name in compared)]]
    for figure, found in report.items():
        lines += [
            _line(f"{figure} {value}", found, value, names, compared) for value in values_of(found)
        ]
        for name in names:
            for value, row in found.get(name, {}).items():
                if value != "disturbed_rounds" and "added_over_direct" in row:
                    shown = f"{row['added_over_direct']:.3f}"
                    lines.append([f"{figure} {value} added by {name}", shown])
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(lines[0]))]
    shown_lines = (
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=False))
        )
        for line in lines
    )
    return "\n".join(
        [*shown_lines, "* a round was disturbed by other processes even when repeated"]
    )


def values_of(found: dict[str, Any]) -> list[str]:
    """The names of a figure's values, over all peers."""
    names = dict.fromkeys(value for peer in found.values() for value in peer)
    return [name for name in names if name not in ("disturbed_rounds", "rate")]


def _line(
    label: str, found: dict[str, Any], value: str, names: list[str], compared: list[str]
) -> list[str]:
    cells = []
    for name in names:
        row = found.get(name, {}).get(value)
        mark = "*" if found.get(name, {}).get("disturbed_rounds") and row else ""
        cells.append(cell(row) + mark)
    ratios = ((found.get(name, {}).get(value) or {}).get("ratio_to_nginx") for name in compared)
    return [label, *cells, *("-" if over is None else f"{over:.2f}" for over in ratios)]
