"""Gateways and proxies side by side: `python -m bench compare --only nginx,fastgate --json FILE`.

Engine and load client run on one core, the peer alone on another; the figures are taken from one
peer after the other, and that in rounds (A B C, A B C, ...), so that what drifts on the machine
meets all alike. In each round every peer is started anew. A measurement during which strangers had
more than 10 % of a core, or the hypervisor stole more than 5 %, is repeated once; the calmer of
both counts, and is marked if it was not calm either. What is not installed is left out, with how to
install it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import FIGURES, Measured
from bench.install import version_of
from bench.peers.peer import Peer, load_peer, peer_names
from bench.report.html import page
from bench.report.markdown import markdown
from bench.stand import ENGINE_OPTIONS, ROOT, Failed, Running, Stand, end_on_sigterm, start_engine
from bench.summary import Rounds, is_calm, summary, table

__all__ = ["SCHEMA", "compare", "main"]

SCHEMA = "fastgate-compare/1"

QUICK_SCALE = 0.34
"""Makes a second out of three: enough to see whether something is badly off."""

FEWEST = 2
"""Rounds: of one alone nobody knows the spread."""

SHORT = ("footprint", "stream_paced", "plain_c64", "stream_flat", "ttft_50rps")
"""What is measured unless other figures are named: six peers, two or three rounds, in ten minutes.
Memory comes first: of a peer that has done nothing yet.
"""


def measure(stand: Stand, figure: str, running: Running, scale: float) -> Measured:
    """Measure once, twice when the first time was disturbed; return the calmer one."""
    found: list[Measured] = []
    for _ in range(2):
        found.append(FIGURES[figure](stand, running, scale))
        if is_calm(found[-1]):
            break
    return min(found, key=lambda m: m.disturbance.foreign + m.disturbance.steal)


def run_rounds(
    stand: Stand,
    peers: list[Peer],
    figures: list[str],
    rounds: int,
    scale: float,
    limit_s: float = math.inf,
) -> tuple[Rounds, dict[str, str], int]:
    """Measure all; a peer that fails at a figure is left out of it. Returns the failures, too, and
    how many rounds there were: after FEWEST, none is begun that might end after `limit_s`.
    """
    taken: Rounds = {}
    failures: dict[str, str] = {}
    begun = [time.monotonic()]
    for number in range(rounds):
        if number >= FEWEST and 2 * begun[-1] - begun[-2] - begun[0] > limit_s:
            break
        for peer in peers:
            print(f"round {number + 1}/{rounds}: {peer.name}", file=sys.stderr, flush=True)
            wanted = [figure for figure in figures if f"{figure} {peer.name}" not in failures]
            for figure, measured in _one_round(stand, peer, wanted, scale):
                if isinstance(measured, Failed):
                    print(f"  {figure} failed: {measured}", file=sys.stderr, flush=True)
                    failures[f"{figure} {peer.name}"] = str(measured)
                    taken.pop((figure, peer.name), None)
                else:
                    taken.setdefault((figure, peer.name), []).append(measured)
        begun.append(time.monotonic())
    return taken, failures, len(begun) - 1


def _one_round(
    stand: Stand, peer: Peer, figures: list[str], scale: float
) -> Iterator[tuple[str, Measured | Failed]]:
    done: list[str] = []
    try:
        with stand.running(peer) as running:
            for figure in figures:
                done.append(figure)
                try:
                    yield figure, measure(stand, figure, running, scale)
                except Failed as error:
                    yield figure, error
    except Failed as error:
        # It did not start.
        for figure in figures:
            if figure not in done:
                yield figure, error


def compare(
    names: list[str],
    figures: list[str],
    rounds: int,
    scale: float,
    limit_s: float = math.inf,
) -> dict[str, Any]:
    """Run a whole comparison; returns its report. Raises Failed."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the load, one for the peer")
    if unknown := set(figures) - FIGURES.keys():
        raise Failed(f"no figure {', '.join(sorted(unknown))}: there are {', '.join(FIGURES)}")
    peers, skipped = choose_peers(names)
    for name, hint in skipped.items():
        print(f"{name} is left out: it is not installed; {hint}", file=sys.stderr)
    with pinned(cores[0]), start_engine(*ENGINE_OPTIONS, core=cores[0]) as (pid, port):
        stand = Stand(pid, port, (cores[0], cores[1]))
        taken, failures, rounds = run_rounds(stand, peers, figures, rounds, scale, limit_s)
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "rounds": rounds,
        "scale": scale,
        "peers": {peer.name: {"about": peer.about, "version": version_of(peer)} for peer in peers},
        "skipped": skipped,
        "failures": failures,
        "figures": summary(taken),
        "commands": {f"{figure} {peer}": each[0].command for (figure, peer), each in taken.items()},
        "details": {f"{figure} {peer}": each[-1].details for (figure, peer), each in taken.items()},
    }


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process off the other cores until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_peers(names: list[str]) -> tuple[list[Peer], dict[str, str]]:
    """Return those that can run, and how to install the others. Raises Failed."""
    peers: list[Peer] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            peer = load_peer(name)
        except KeyError:
            raise Failed(f"no peer {name!r}: there are {', '.join(peer_names())}") from None
        hint = peer.missing()
        if hint:
            skipped[name] = f"try: {hint}"
        else:
            peers.append(peer)
    if not peers:
        raise Failed("none of these peers is installed")
    return peers, skipped


def machine() -> dict[str, Any]:
    """Where the figures come from; enough to judge whether others compare with them."""
    models = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    cpu = next((line.partition(":")[2].strip() for line in models if "model name" in line), "")
    return {
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
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


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    add = parser.add_argument
    add("--only", default="direct,nginx,fastgate", metavar="A,B", help=", ".join(peer_names()))
    add("--figures", default=",".join(SHORT), metavar="F,G", help=f"of {', '.join(FIGURES)}")
    add("--rounds", type=int, default=3, help="at most (default: %(default)s)")
    limit = f"begin no round that may end later, after the first {FEWEST} (default: %(default)g)"
    add("--minutes", type=float, default=10.0, metavar="M", help=limit)
    add("--quick", action="store_true", help="a third of the time for each; for a first look")
    add("--json", default="", metavar="FILE")
    add("--html", default="", metavar="FILE", help="one self-contained page")
    add("--markdown", default="", metavar="FILE", help="a table")
    options = parser.parse_args(argv)
    end_on_sigterm()
    try:
        report = compare(
            options.only.split(","),
            options.figures.split(","),
            options.rounds,
            QUICK_SCALE if options.quick else 1.0,
            options.minutes * 60,
        )
    except (Failed, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    report["command"] = " ".join(["python -m bench compare", *argv])
    print(table(report["figures"], report["peers"]))
    for path, text in (
        (options.json, json.dumps(report, indent=1) + "\n"),
        (options.html, page(report) if options.html else ""),
        (options.markdown, markdown(report) if options.markdown else ""),
    ):
        if path:
            Path(path).write_text(text)
    return 0
