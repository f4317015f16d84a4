"""fastgate beside nginx and a direct connection: `python -m bench compare --json FILE`.

Engine and load client run on one core, the peer alone on another; each figure is taken from one
peer after the other, and that in rounds (A B C, A B C, ...), so that what drifts on the machine
meets all alike. Ratios are taken within a round, then their median. A measurement during which
strangers had more than 10 % of a core, or the hypervisor stole more than 5 %, is repeated once;
the calmer of both counts, and is marked if it was not calm either.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.figures import FIGURES, Measured
from bench.peers.fastgate import Fastgate
from bench.peers.nginx import Nginx
from bench.peers.peer import Direct, Peer
from bench.stand import ROOT, TOKENS, Failed, Stand, start_engine
from bench.stats import spread

__all__ = ["main"]

PEERS: dict[str, type[Peer]] = {"direct": Direct, "nginx": Nginx, "fastgate": Fastgate}
YARDSTICK = "nginx"
BASELINE = "direct"

FOREIGN_LIMIT = 0.10
STEAL_LIMIT = 0.05

QUICK_SCALE = 0.34
"""Makes a second out of three: enough to see whether something is badly off."""

Rounds = dict[tuple[str, str], list[Measured]]
"""By (figure, peer), one entry per round."""


def is_calm(measured: Measured) -> bool:
    found = measured.disturbance
    return found.foreign <= FOREIGN_LIMIT and found.steal <= STEAL_LIMIT


def measure(stand: Stand, figure: str, peer: Peer, scale: float) -> Measured:
    """Measure once, twice when the first time was disturbed; return the calmer one."""
    found: list[Measured] = []
    for _ in range(2):
        with stand.running(peer) as running:
            found.append(FIGURES[figure](stand, running, scale))
        if is_calm(found[-1]):
            break
    return min(found, key=lambda m: m.disturbance.foreign + m.disturbance.steal)


def run_rounds(
    stand: Stand, peers: list[Peer], figures: list[str], rounds: int, scale: float
) -> Rounds:
    taken: Rounds = {(figure, peer.name): [] for figure in figures for peer in peers}
    for number in range(rounds):
        for figure in figures:
            for peer in peers:
                print(f"round {number + 1}: {figure} {peer.name}", file=sys.stderr, flush=True)
                taken[figure, peer.name].append(measure(stand, figure, peer, scale))
    return taken


# ---- the report


def ratio(taken: Rounds, figure: str, peer: str, value: str) -> float | None:
    """The median over the rounds of peer / yardstick."""
    pairs = zip(taken[figure, peer], taken.get((figure, YARDSTICK), []), strict=False)
    found = [
        mine.values[value] / theirs.values[value] for mine, theirs in pairs
        if value in mine.values and theirs.values.get(value)
    ]  # fmt: skip
    return statistics.median(found) if found else None


def added(taken: Rounds, figure: str, peer: str, value: str) -> float | None:
    """The median over the rounds of peer - direct; for latencies."""
    pairs = zip(taken[figure, peer], taken.get((figure, BASELINE), []), strict=False)
    found = [mine.values[value] - theirs.values[value] for mine, theirs in pairs]
    return statistics.median(found) if found else None


def summary(taken: Rounds) -> dict[str, Any]:
    """Medians, spreads and ratios, by figure, peer and value."""
    report: dict[str, Any] = {}
    for (figure, peer), rounds in taken.items():
        found = report.setdefault(figure, {}).setdefault(peer, {})
        for value in rounds[0].values:
            values = [measured.values[value] for measured in rounds]
            row: dict[str, Any] = {
                "median": statistics.median(values),
                "spread": spread(values),
                "values": values,
            }
            if peer not in (YARDSTICK, BASELINE):
                row["ratio_to_nginx"] = ratio(taken, figure, peer, value)
            if figure.startswith("ttft") and value.endswith("_ms") and peer != BASELINE:
                over = added(taken, figure, peer, value)
                row |= {} if over is None else {"added_over_direct": over}
            found[value] = row
        found["disturbed_rounds"] = sum(not is_calm(measured) for measured in rounds)
    return report


def machine() -> dict[str, Any]:
    """Where the figures come from; enough to judge whether others compare with them."""
    models = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    cpu = next((line.partition(":")[2].strip() for line in models if "model name" in line), "")
    return {
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": output_of("nginx", "-v"),
        "commit": output_of("git", "rev-parse", "HEAD"),
        "uncommitted": bool(output_of("git", "status", "--porcelain", "--untracked-files=no")),
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def cell(row: dict[str, Any] | None) -> str:
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
        values = dict.fromkeys(v for peer in found.values() for v in peer if v[:9] != "disturbed")
        marks = {name: "*" * bool(found[name]["disturbed_rounds"]) for name in names}
        for value in values:
            rows = {name: found[name].get(value) for name in names}
            ratios = ((rows[name] or {}).get("ratio_to_nginx") for name in compared)
            lines.append(
                [
                    f"{figure} {value}",
                    *(cell(rows[name]) + marks[name] for name in names),
                    *("-" if found is None else f"{found:.2f}" for found in ratios),
                ]
            )
        for name in names:
            for value, row in found[name].items():
                if value[:9] != "disturbed" and "added_over_direct" in row:
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


def choose_peers(names: str) -> list[Peer]:
    chosen = []
    for name in names.split(","):
        if name not in PEERS:
            raise Failed(f"no peer {name!r}: there are {', '.join(PEERS)}")
        peer = PEERS[name]()
        hint = peer.missing()
        if hint:
            raise Failed(f"{name} is not installed; try: {hint}")
        chosen.append(peer)
    return chosen


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench compare")
    parser.add_argument("--only", default=",".join(PEERS), help="peers, comma-separated")
    parser.add_argument("--figures", default=",".join(FIGURES), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", default="", metavar="FILE")
    options = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))[:2]
    try:
        if len(cores) < 2:
            raise Failed("two cores are needed: one for the load, one for the peer")
        figures = options.figures.split(",")
        if unknown := set(figures) - FIGURES.keys():
            raise Failed(f"no figure {', '.join(sorted(unknown))}: there are {', '.join(FIGURES)}")
        peers = choose_peers(options.only)
        os.sched_setaffinity(0, {cores[0]})
        engine_options = ("--tokens", str(TOKENS), "--log-requests", "0")
        with start_engine(*engine_options, core=cores[0]) as (pid, port):
            stand = Stand(pid, port, (cores[0], cores[1]))
            rounds, scale = (1, QUICK_SCALE) if options.quick else (options.rounds, 1.0)
            taken = run_rounds(stand, peers, figures, rounds, scale)
    except (Failed, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    report = summary(taken)
    print(table(report, (peer.name for peer in peers)))
    if options.json:
        commands = {f"{f} {p}": taken_once[0].command for (f, p), taken_once in taken.items()}
        whole = {"machine": machine(), "rounds": rounds, "figures": report, "commands": commands}
        Path(options.json).write_text(json.dumps(whole, indent=1) + "\n")
    return 0
