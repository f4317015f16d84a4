"""What the load client can be told: one frozen object, read from the command line."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load.bodies import KINDS, kind_of_path
from bench.load.lengths import Lengths
from bench.load.slo import Slo
from bench.load.traces import BadTrace, timed

__all__ = ["Options", "read_options"]

PROMPT = "Tell me, in a few words, what a gateway is for and why one would want one."


@dataclass(frozen=True, slots=True)
class Options:
    url: str
    model: str = "sim"
    key: str = ""
    kind: str = ""
    """One of KINDS; empty: what the URL's path says, else chat."""
    headers: tuple[str, ...] = ()
    body: str = ""
    """JSON members that every request has besides."""
    unix: str = ""
    insecure: bool = False
    ca: str = ""
    # How many, how long
    concurrency: str = ""
    """Closed loop; with commas: a staircase, one stage each. Empty without a rate: 1."""
    rate: str = ""
    """Open loop, requests per second; with commas: a staircase."""
    arrivals: str = "constant"
    duration_s: float = 5.0
    requests: int = 0
    """Stop after that many; 0: only the duration counts."""
    warmup_s: float = 0.0
    ramp_s: float = 0.0
    grace_s: float = 30.0
    """How long requests in flight at the end may take to finish."""
    timeout_s: float = 60.0
    processes: int = 1
    # What is asked
    stream: bool = False
    include_usage: bool = False
    prompt: str = PROMPT
    prompt_tokens: str = ""
    max_tokens: str = ""
    prompts: str = ""
    shared_prefix: int = 0
    prefixes: int = 1
    turns: int = 1
    trace: str = ""
    speed: float = 1.0
    seed: int = 0
    # What is judged
    slo: str = ""
    verify: bool = False

    @property
    def stages(self) -> list[tuple[int, float]]:
        """(concurrency, rate) one after the other; (0, 0): when the trace says."""
        if self.rate:
            return [(0, float(rate)) for rate in self.rate.split(",")]
        if self.concurrency:
            return [(int(count), 0.0) for count in self.concurrency.split(",")]
        return [(0 if self.trace and timed(Path(self.trace)) else 1, 0.0)]

    @property
    def api(self) -> str:
        """The kind of request: one of KINDS."""
        return self.kind or kind_of_path(urlsplit(self.url).path) or "chat"


def faults(options: Options) -> list[str]:
    """Say what can't be meant; each names the option, what was expected and what came."""
    found = [*load_faults(options), *number_faults(options)]
    url = urlsplit(options.url)
    try:
        sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        sound = False
    if not sound:
        found.append(f"--url: expected http://HOST:PORT or https://HOST, got {options.url!r}")
    for name, read in (("prompt-tokens", Lengths), ("max-tokens", Lengths), ("slo", Slo)):
        try:
            read(getattr(options, name.replace("-", "_")))
        except ValueError as error:
            found.append(f"--{name}: {error}")
    if sum(map(bool, (options.trace, options.prompts, options.prompt_tokens))) > 1:
        found.append("--trace, --prompts and --prompt-tokens: at most one of them says what to ask")
    if any(":" not in header for header in options.headers):
        found.append(f"--header: expected 'NAME: VALUE', got {options.headers}")
    try:
        sound = isinstance(json.loads(options.body or "{}"), dict)
    except ValueError:
        sound = False
    if not sound:
        found.append(f"--body: expected a JSON object, got {options.body!r}")
    return found


def load_faults(options: Options) -> list[str]:
    if options.rate and options.concurrency:
        return ["--rate and --concurrency: an open loop or a closed one, not both"]
    name, given = ("rate", options.rate) if options.rate else ("concurrency", options.concurrency)
    try:
        stages = options.stages
        if given and not all(0 < number < math.inf for number in map(max, stages)):
            raise ValueError
    except (BadTrace, OSError) as error:
        return [f"--trace: {error}"]
    except ValueError:
        return [f"--{name}: expected numbers above 0, separated by commas, got {given!r}"]
    return []


def number_faults(options: Options) -> list[str]:
    least = dict.fromkeys(("requests", "warmup_s", "ramp_s", "grace_s", "shared_prefix"), 0)
    least |= dict.fromkeys(("prefixes", "turns", "processes"), 1)
    found = [
        f"--{name.removesuffix('_s').replace('_', '-')}: expected at least {bound}, "
        f"got {getattr(options, name)}"
        for name, bound in least.items()
        if not bound <= getattr(options, name) < math.inf
    ]
    found += [
        f"--{name.removesuffix('_s')}: expected a number above 0, got {getattr(options, name)}"
        for name in ("duration_s", "timeout_s", "speed")
        if not 0 < getattr(options, name) < math.inf
    ]
    return found


DESCRIPTION = """\
Load an OpenAI-compatible server and measure it.

Closed loop (--concurrency C): C connections, each sends its next request when it has its answer.
Open loop (--rate R): requests leave at their scheduled times, whatever the answers do, and every
time counts from the scheduled time. Method and pitfalls: docs/bench-method.md."""

EPILOG = """\
examples:
  python -m bench load --url http://localhost:4000 --model m --concurrency 64 --duration 10
  python -m bench load --url http://localhost:8000/v1 --model m --stream --include-usage \\
      --rate 20 --arrivals poisson --prompt-tokens lognormal:800,0.8 --max-tokens 200 \\
      --slo ttft:500ms,itl:50ms
  python -m bench load --url http://localhost:8000 --model m --stream --rate 5,10,20,40
  python -m bench load --url http://localhost:8000 --model m --stream --trace mooncake.jsonl \\
      --speed 10 --duration 60
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench load", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument_group("where").add_argument
    add("--url", required=True, help="http(s)://HOST:PORT[/v1[/chat/completions]]")
    add("--kind", choices=sorted(KINDS), help="what to ask for (default: by the URL's path; chat)")
    add("--model", help="sent with every request (default: sim)")
    add("--key", help="sent as a bearer token")
    add("--header", action="append", dest="headers", metavar="'NAME: VALUE'")
    add("--body", metavar="JSON", help="members of every request, such as '{\"ignore_eos\": true}'")
    add("--unix", metavar="PATH", help="connect to this Unix socket")
    add("--ca", metavar="FILE", help="trust these certificates only")
    add("--insecure", action="store_true", help="trust any certificate")
    add = parser.add_argument_group("how many, how long").add_argument
    add("--concurrency", metavar="C[,C...]", help="closed loop; several: a staircase (default: 1)")
    add("--rate", metavar="R[,R...]", help="open loop: requests per second; several: a staircase")
    add("--arrivals", choices=("constant", "poisson"), help="of an open loop (default: constant)")
    add("--duration", type=float, dest="duration_s", metavar="S", help="of each stage (default: 5)")
    add("--requests", type=int, metavar="N", help="stop a stage after that many")
    add("--warmup", type=float, dest="warmup_s", metavar="S", help="sent before, and not counted")
    add("--ramp", type=float, dest="ramp_s", metavar="S", help="reach the full load in that time")
    add("--grace", type=float, dest="grace_s", metavar="S", help="to finish in (default: 30)")
    add("--timeout", type=float, dest="timeout_s", metavar="S", help="of a request (default: 60)")
    add("--processes", type=int, metavar="N", help="share the load among so many (default: 1)")
    add = parser.add_argument_group("what is asked").add_argument
    add("--stream", action="store_true", help="ask for event streams")
    add("--include-usage", action="store_true", help="ask for token counts in streams, too")
    add("--prompt", help="one prompt for all requests")
    add("--prompt-tokens", metavar="DIST", help="made-up prompts: 200, uniform:100,300, "
        "normal:200,50 (mean, deviation), lognormal:200,0.5 (median, sigma)")  # fmt: skip
    add("--max-tokens", metavar="DIST", help="output limit of each request, likewise")
    add("--prompts", metavar="PATH", help="a directory (a prompt a file), .jsonl or lines of text")
    add("--shared-prefix", type=int, metavar="TOKENS", help="a system prompt that requests share")
    add("--prefixes", type=int, metavar="K", help="so many different shared prefixes (default: 1)")
    add("--turns", type=int, metavar="N", help="conversations of N turns, each with all before it")
    add("--trace", metavar="FILE", help="replay Mooncake JSONL, Azure CSV, ShareGPT or batch JSONL")
    add("--speed", type=float, metavar="X", help="replay X times as fast (default: 1)")
    add("--seed", type=int, metavar="N", help="of all that is drawn by chance (default: 0)")
    add = parser.add_argument_group("what is judged and shown").add_argument
    add("--slo", metavar="LIST", help="goodput within ttft:200ms,itl:50ms,tpot:40ms,e2e:2s")
    add("--verify", action="store_true", help="find lost and duplicated events: each stream must "
        "have as many beyond its output tokens as the first (implies --include-usage)")  # fmt: skip
    add("--json", dest="path", metavar="FILE", help="write the whole report there; - is stdout")
    add("--quiet", action="store_true", help="nothing on standard error but errors")
    return parser


def read_options(argv: list[str]) -> tuple[Options, str, bool]:
    """Return the options, where the report goes ("": nowhere) and whether to talk meanwhile."""
    parser = build_parser()
    given: dict[str, Any] = vars(parser.parse_args(argv))
    path, quiet = given.pop("path") or "", given.pop("quiet")
    given["headers"] = tuple(given["headers"] or ())
    known = {field.name for field in fields(Options)}
    options = Options(**{k: v for k, v in given.items() if k in known and v is not None})
    if options.verify and options.stream:
        options = replace(options, include_usage=True)
    found = faults(options)
    if path not in ("", "-") and not Path(path).absolute().parent.is_dir():
        found.append(f"--json: expected a file in a folder that exists, got {path!r}")
    if found:
        parser.error("\n  ".join(found))
    return options, path, not quiet
