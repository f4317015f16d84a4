"""Two comparisons side by side: `python -m bench diff BEFORE.json AFTER.json`.

A figure is better or worse only when the change of its median is larger than what rounds of either
run differed by (half of both spreads together), and than 2 %. Figures that grow with the machine
(requests/s, CPU) are compared as ratios to nginx, where both runs have it. Exit status 1: something
is worse.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

from bench.report.command import read_report

__all__ = ["Change", "changes", "main"]

LEAST_CHANGE = 0.02

HIGHER_IS_BETTER = ("per_s",)
NEUTRAL = ("rate", "disturbed_rounds")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one peer, in both runs."""

    figure: str
    peer: str
    value: str
    before: float
    after: float
    noise: float
    """What the rounds of the two runs differed by, as a share."""
    as_ratio: bool
    verdict: str


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Compare what both runs have."""
    found = []
    for figure, peers in before["figures"].items():
        for peer, values in peers.items():
            others = after["figures"].get(figure, {}).get(peer, {})
            for value, row in values.items():
                if value not in NEUTRAL and value in others:
                    found.append(_change(figure, peer, value, row, others[value]))
    return found


def _change(
    figure: str, peer: str, value: str, before: dict[str, Any], after: dict[str, Any]
) -> Change:
    as_ratio = "ratio_to_nginx" in before and "ratio_to_nginx" in after
    name = "ratio_to_nginx" if as_ratio else "median"
    old, new = before[name], after[name]
    noise = (before["spread"] + after["spread"]) / 2
    verdict = "same"
    moved = (new - old) / abs(old) if old else 0.0
    if abs(moved) > max(noise, LEAST_CHANGE):
        up = value.startswith(HIGHER_IS_BETTER)
        verdict = "better" if (moved > 0) == up else "worse"
    return Change(figure, peer, value, old, new, noise, as_ratio, verdict)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench diff",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", metavar="BEFORE.json")
    parser.add_argument("after", metavar="AFTER.json")
    parser.add_argument("--all", action="store_true", help="also what stayed the same")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        found = changes(read_report(options.before), read_report(options.after))
    except (OSError, ValueError) as error:
        print(f"diff: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(change) for change in found], indent=1))
    else:
        for change in found:
            if options.all or change.verdict != "same":
                moved = (change.after / change.before - 1) if change.before else 0.0
                print(
                    f"{change.verdict:<7}{change.figure} {change.peer} {change.value}: "
                    f"{change.before:.4g} -> {change.after:.4g} ({moved:+.1%}, noise "
                    f"{change.noise:.1%}{', as a ratio to nginx' if change.as_ratio else ''})"
                )
        counts = {v: sum(c.verdict == v for c in found) for v in ("better", "worse", "same")}
        print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return 1 if any(change.verdict == "worse" for change in found) else 0
