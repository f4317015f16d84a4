"""What came of a measurement: times as HDR histograms, counts, and the report made of them.

The report is JSON, `schema` "fastgate-load/1"; docs/bench-load-json.md describes every member.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from bench.load.client import Tally
from bench.load.options import Options

__all__ = ["SCHEMA", "Results", "summary"]

SCHEMA = "fastgate-load/1"

HOUR_US = 3_600_000_000
DIGITS = 3
"""Significant digits that a histogram keeps."""

QUANTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}

CEILING_SHARE = 0.7
"""Above that share of what it can do, the client measures itself."""

NAGLE_US = (38_000, 45_000)
"""Where delays land that come from Nagle's algorithm and a peer's 40 ms delayed acknowledgement."""

TIMES = ("latency", "ttft", "gap", "tpot", "late")


def histogram() -> HdrHistogram:
    return HdrHistogram(1, HOUR_US, DIGITS)


def summary(times: HdrHistogram) -> dict[str, float]:
    """Count; mean, percentiles and maximum in milliseconds."""
    if not times.total_count:
        return {"count": 0}
    found = {name: times.get_value_at_percentile(q) / 1000 for name, q in QUANTILES.items()}
    found |= {"mean": round(times.get_mean_value() / 1000, 4), "max": times.max_value / 1000}
    return {"count": times.total_count} | found


def share_between(times: HdrHistogram, low_us: int, high_us: int) -> float:
    """The part of the values, 0 to 1, that lies in [low_us, high_us]."""
    if not times.total_count:
        return 0.0
    inside = sum(
        item.count_added_in_this_iter_step
        for item in times.get_recorded_iterator()
        if low_us <= item.value_iterated_to <= high_us
    )
    return round(inside / times.total_count, 6)


@dataclass
class Second:
    """One second of the run, for plots."""

    requests: int = 0
    errors: int = 0
    ttft_us: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)


class Results:
    """Counts while the run goes on; `report` when it is over."""

    def __init__(self) -> None:
        self.latency = Tally()
        self.ttft = Tally()
        self.gap = Tally()
        self.tpot = Tally()
        self.late = Tally()
        """Open loop: how much later than scheduled the client itself sent."""
        self.errors: Counter[str] = Counter()
        self.started = 0
        self.finished = 0
        self.good = 0
        """Finished within the objectives."""
        self.events = 0
        self.bytes = 0
        self.missed = 0
        """Scheduled, and never sent: no connection came about."""
        self.opened = 0
        self.tokens: Counter[str] = Counter()
        self.elapsed_s = 0.0
        self.cpu_s = 0.0
        self.interrupted = False
        self.seconds: list[Second] = []

    def second(self, at_s: float) -> Second:
        index = max(0, int(at_s))
        while len(self.seconds) <= index:
            self.seconds.append(Second())
        return self.seconds[index]

    def times(self) -> dict[str, HdrHistogram]:
        return {name: _histogram_of(getattr(self, name)) for name in TIMES}

    def report(self, options: Options) -> dict[str, Any]:
        counts = {
            name: getattr(self, name)
            for name in ("started", "finished", "good", "events", "bytes", "missed", "opened")
        }
        return report_of(
            options,
            self.times(),
            counts,
            dict(self.errors),
            dict(self.tokens),
            {"elapsed_s": self.elapsed_s, "cpu_s": self.cpu_s, "processes": 1},
            interrupted=self.interrupted,
            timeline=[_second(index, each) for index, each in enumerate(self.seconds)],
        )


def report_of(
    options: Options,
    times: dict[str, HdrHistogram],
    counts: dict[str, int],
    errors: dict[str, int],
    tokens: dict[str, int],
    client: dict[str, Any],
    *,
    interrupted: bool,
    timeline: list[dict[str, Any]],
) -> dict[str, Any]:
    """The report; of several processes, with everything added up."""
    elapsed_s = client["elapsed_s"] or math.inf
    finished = counts["finished"]
    requests_per_s = finished / elapsed_s
    events_per_s = counts["events"] / elapsed_s
    return {
        "schema": SCHEMA,
        "options": _shown(options),
        "interrupted": interrupted,
        "started": counts["started"],
        "requests": finished,
        "missed": counts["missed"],
        "errors": errors,
        "requests_per_s": round(requests_per_s, 2),
        "events": counts["events"],
        "events_per_s": round(events_per_s, 2),
        "bytes": counts["bytes"],
        "tokens": tokens,
        "output_tokens_per_s": round(tokens.get("output", 0) / elapsed_s, 2),
        **{f"{name}_ms": summary(times[name]) for name in TIMES},
        "goodput": {
            "slo": options.slo,
            "requests": counts["good"],
            "requests_per_s": round(counts["good"] / elapsed_s, 2),
            "share": round(counts["good"] / max(1, finished + sum(errors.values())), 6),
        },
        "connections": {
            "opened": counts["opened"],
            "requests_per_connection": round(finished / max(1, counts["opened"]), 2),
        },
        "share_38_45_ms": {name: share_between(times[name], *NAGLE_US) for name in ("ttft", "gap")},
        "elapsed_s": round(client["elapsed_s"], 4),
        "client": _client(client, requests_per_s, events_per_s),
        "client_cpu_s": round(client["cpu_s"], 4),
        "timeline": timeline,
        "histograms": {
            name: each.encode().decode() for name, each in times.items() if each.total_count
        },
    }


def _client(client: dict[str, Any], requests_per_s: float, events_per_s: float) -> dict[str, Any]:
    """How busy the client itself was: its ceiling is what it would reach with a whole core."""
    share = client["cpu_s"] / (client["elapsed_s"] or math.inf) / client["processes"]
    found: dict[str, Any] = {
        "processes": client["processes"],
        "cpu_share": round(share, 4),
        "ceiling_requests_per_s": round(requests_per_s / share) if share else 0,
        "ceiling_events_per_s": round(events_per_s / share) if share else 0,
        "warning": "",
    }
    if share > CEILING_SHARE:
        found["warning"] = (
            f"the client used {share:.0%} of each of its cores, more than {CEILING_SHARE:.0%}: "
            "these figures are partly its own; use --processes or a smaller load"
        )
    return found


def _shown(options: Options) -> dict[str, Any]:
    shown = asdict(options) | {
        "key": "set" if options.key else "",
        "headers": [header.partition(":")[0] for header in options.headers],
        "rate": str(options.rate) if options.rate else "",
        "duration_s": options.duration_s if math.isfinite(options.duration_s) else None,
        "max_tokens": str(options.max_tokens),
        "prompt_tokens": str(options.prompt_tokens),
    }
    return shown


def _histogram_of(tally: Tally) -> HdrHistogram:
    made = histogram()
    for us, count in enumerate(tally.fine):
        if count:
            made.record_value(max(1, us), count)
    for step, count in enumerate(tally.coarse):
        if count:
            # The middle of the 1,024 us that it stands for.
            made.record_value((step << 10) + 512, count)
    for us in tally.longer:
        made.record_value(min(us, HOUR_US))
    return made


def _second(index: int, second: Second) -> dict[str, Any]:
    def middle(values: list[int]) -> float | None:
        return sorted(values)[len(values) // 2] / 1000 if values else None

    return {
        "second": index,
        "requests": second.requests,
        "errors": second.errors,
        "ttft_p50_ms": middle(second.ttft_us),
        "latency_p50_ms": middle(second.latency_us),
    }
