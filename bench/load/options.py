"""What a measurement is asked to do: the command line, read and checked."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.load.distribution import Distribution, parse_distribution
from bench.load.schedule import Rate, parse_rate

__all__ = ["ENDPOINTS", "Options", "read_options"]

ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
_SLO_NAMES = {"ttft": "ttft_ms", "itl": "itl_ms", "tpot": "tpot_ms", "e2e": "e2e_ms"}
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

_EPILOG = """\
examples:
  closed loop, 64 at a time     --url http://127.0.0.1:4000 --concurrency 64 --duration 10
  open loop, Poisson arrivals   --rate 50 --arrivals poisson --stream
  a ramp, then a staircase      --rate 10-200 ; --rate 10,50,100
  goodput under an objective    --rate 20 --stream --slo ttft:200ms,itl:50ms
  recorded traffic, twice as fast  --trace mooncake.jsonl --speed 2

The report's members are described in docs/bench-load-json.md. The exit status is 0 when every
request was answered, 1 when some failed or none finished, 2 when the options are wrong.
"""


@dataclass(frozen=True, slots=True)
class Options:
    url: str
    endpoint: str = "chat"
    model: str = "sim"
    key: str = ""
    concurrency: tuple[int, ...] = (1,)
    """Closed loop: requests in flight; several: a staircase."""
    rate: Rate | None = None
    """Open loop: arrivals; None: closed loop."""
    arrivals: str = "constant"
    duration_s: float = 5.0
    """Of each step of a staircase, else of the whole."""
    warmup_s: float = 0.0
    ramp_up_s: float = 0.0
    """Spread the first requests of a closed loop over that time."""
    requests: int = 0
    """Stop after that many; 0: only the duration counts."""
    stream: bool = False
    usage: bool = True
    """Ask streams of chat and completions for their usage."""
    verify: bool = False
    """Each stream must have as many content events as its usage says tokens."""
    max_tokens: Distribution = field(default_factory=Distribution)
    prompt_tokens: Distribution = field(default_factory=lambda: Distribution("fixed", (16.0,)))
    shared_prefix: int = 0
    """Tokens that every prompt begins with."""
    turns: int = 1
    prompts: str = ""
    trace: str = ""
    speed: float = 1.0
    slo: dict[str, float] = field(default_factory=dict)
    """Objectives in milliseconds, by ttft_ms, itl_ms, tpot_ms, e2e_ms."""
    processes: int = 1
    grace_s: float = 30.0
    """How long requests in flight at the end may take to finish."""
    timeout_s: float = 60.0
    headers: tuple[str, ...] = ()
    unix: str = ""
    ca_file: str = ""
    insecure: bool = False
    seed: int = 0
    distinct: int = 1000
    """Different requests that are prepared when lengths are drawn."""

    @property
    def path(self) -> str:
        path = urlsplit(self.url).path.rstrip("/")
        if path in ("", "/v1"):
            return ENDPOINTS[self.endpoint]
        return path

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"


def parse_slo(text: str) -> dict[str, float]:
    """Read `ttft:200ms,itl:50ms`; raises ValueError."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, limit = part.partition(":")
        number = limit.rstrip("mus")
        unit = limit[len(number) :] or "ms"
        try:
            found[_SLO_NAMES[name]] = float(number) * _UNITS_MS[unit]
        except (KeyError, ValueError):
            names = "|".join(_SLO_NAMES)
            raise ValueError(f"expected {names}:NUMBERms,..., got {part!r}") from None
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench load",
        description="Drive an OpenAI-compatible server and measure what its clients would see.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("the server").add_argument
    add("--url", required=True, help="base URL (http or https); a longer path is used as it is")
    add("--endpoint", choices=ENDPOINTS, default="chat")
    add("--model", default="sim")
    add("--key", default="", help="API key, sent as a bearer token")
    add("--header", action="append", default=[], metavar="'NAME: VALUE'")
    add("--unix", default="", metavar="PATH", help="connect to this Unix socket")
    add("--ca-file", default="", help="trust these certificates")
    add("--insecure", action="store_true", help="don't verify the server's certificate")
    add = parser.add_argument_group("how much").add_argument
    add("--concurrency", default="1", metavar="C[,C...]", help="closed loop: so many in flight")
    add("--rate", default="", metavar="R", help="open loop: R/s, a ramp R-R, or a staircase R,R,R")
    add("--arrivals", choices=("constant", "poisson"), default="constant")
    add("--duration", type=float, metavar="S", help="of each step (5; a trace: to its end)")
    add("--warmup", type=float, default=0.0, metavar="S", help="not measured")
    add("--ramp-up", type=float, default=0.0, metavar="S", help="closed loop: start spread over S")
    add("--requests", type=int, default=0, metavar="N", help="stop after N")
    add("--processes", type=int, default=1, metavar="N", help="client processes, a core each")
    add("--timeout", type=float, default=60.0, metavar="S", help="of one request")
    add("--grace", type=float, default=30.0, metavar="S", help="for requests in flight at the end")
    add = parser.add_argument_group("what is asked").add_argument
    add("--stream", action="store_true")
    add("--no-usage", action="store_true", help="don't ask streams for their usage")
    add("--verify", action="store_true", help="streams: as many content events as tokens billed")
    lengths = "N, uniform:A,B, normal:M,D, lognormal:M,S or exponential:M"
    add("--prompt-tokens", default="16", metavar="L", help=f"{lengths} (short English words)")
    add("--max-tokens", default="0", metavar="L", help="the same; 0: the server's own")
    add("--shared-prefix", type=int, default=0, metavar="N", help="tokens all prompts begin with")
    add("--turns", type=int, default=1, metavar="N", help="requests of one conversation")
    add("--prompts", default="", metavar="PATH", help="a file (text: a line each; JSONL) or folder")
    add("--trace", default="", metavar="FILE", help="Mooncake, ShareGPT or batch JSONL; Azure CSV")
    add("--speed", type=float, default=1.0, help="of a trace's clock")
    add("--seed", type=int, default=0)
    add = parser.add_argument_group("what is told").add_argument
    add("--slo", default="", metavar="ttft:200ms,itl:50ms", help="goodput: requests within these")
    add("--json", default="", metavar="FILE", help="write the report there; - for standard output")
    add("--quiet", action="store_true", help="no progress")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def read_options(argv: list[str]) -> tuple[Options, argparse.Namespace]:
    """Return the options, and what concerns the command alone. Exits with 2 on bad ones."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        if urlsplit(given.url).scheme not in ("http", "https"):
            raise ValueError(f"expected a URL that begins with http:// or https://: {given.url!r}")
        concurrency = tuple(int(part) for part in given.concurrency.split(","))
        if min(concurrency) < 1 or given.processes < 1 or given.turns < 1:
            raise ValueError("expected at least 1 of --concurrency, --processes and --turns")
        if given.duration is None:
            given.duration = math.inf if given.trace and not given.rate else 5.0
        if given.duration <= 0 or given.speed <= 0:
            raise ValueError("expected a --duration and a --speed above 0")
        for path in filter(None, (given.prompts, given.trace, given.ca_file)):
            if not Path(path).exists():
                raise ValueError(f"there is no {path}")
        options = Options(
            url=given.url,
            endpoint=given.endpoint,
            model=given.model,
            key=given.key,
            concurrency=concurrency,
            rate=parse_rate(given.rate) if given.rate else None,
            arrivals=given.arrivals,
            duration_s=given.duration,
            warmup_s=given.warmup,
            ramp_up_s=given.ramp_up,
            requests=given.requests,
            stream=given.stream and given.endpoint != "embeddings",
            usage=not given.no_usage,
            verify=given.verify,
            max_tokens=parse_distribution(given.max_tokens),
            prompt_tokens=parse_distribution(given.prompt_tokens),
            shared_prefix=given.shared_prefix,
            turns=given.turns,
            prompts=given.prompts,
            trace=given.trace,
            speed=given.speed,
            slo=parse_slo(given.slo),
            processes=given.processes,
            grace_s=given.grace,
            timeout_s=given.timeout,
            headers=tuple(given.header),
            unix=given.unix,
            ca_file=given.ca_file,
            insecure=given.insecure,
            seed=given.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    return options, given
