"""From results to the report: JSON as docs/bench-load-json.md has it, and lines for people."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hdrh.histogram import HdrHistogram

from bench.load.counts import Counts, middle
from bench.load.options import Options
from bench.load.results import RATES, Results
from bench.load.tally import DISTRIBUTIONS

__all__ = ["SCHEMA", "build_report", "show"]

SCHEMA = "fastgate-load/1"

QUANTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p999": 99.9}

NAGLE_NS = (38_000_000, 45_000_000)
"""Where delays land that come from Nagle's algorithm and a peer's 40 ms delayed acknowledgement."""

LATE_NS = 1_000_000
"""A send later than this after its time counts as late: more than a loop's own grain."""

CEILING_SHARE = 0.7
"""Of the client's core; above, its own queueing shows in the times it takes."""

WAITED_SHARE = 0.2
"""Of the run in which the client was ready and had no core: others ran on it."""

SHORT_S = 0.2
"""What is over sooner was mostly start and end, and says nothing of how busy the client is."""

LONGEST_NS = 3_600_000_000_000


def library(counts: Counts) -> HdrHistogram:
    """The same counts as the library's histogram, 1 ns to an hour, three significant figures."""
    histogram = HdrHistogram(1, LONGEST_NS, 3)
    for cell, count in counts.used():
        histogram.record_value(min(middle(cell), LONGEST_NS), count)
    return histogram


def distribution(counts: Counts) -> dict[str, Any]:
    """Count, mean, percentiles and maximum in ms, and the whole histogram encoded."""
    if not counts.count:
        return {"count": 0}
    histogram = library(counts)
    found = {
        name: min(histogram.get_value_at_percentile(q), counts.largest)
        for name, q in QUANTILES.items()
    }
    found |= {"mean": counts.total / counts.count, "max": counts.largest}
    rounded = {name: round(value / 1e6, 4) for name, value in found.items()}
    return {"count": counts.count} | rounded | {"hdr_ns": histogram.encode().decode()}


def ratio(part: float, whole: float, digits: int = 4) -> float:
    return round(part / whole, digits) if whole else 0.0


def figures(options: Options, results: Results) -> dict[str, Any]:
    """The members that a stage and a whole run have alike."""
    tally = results.tally
    window_s = min(results.window_s, results.elapsed_s) or results.elapsed_s
    failed = sum(tally.errors.values())
    late = tally.late
    found: dict[str, Any] = {
        "started": tally.started,
        "requests": tally.finished,
        "failed": failed,
        "abandoned": results.abandoned,
        "errors": dict(sorted(tally.errors.items())),
        "elapsed_s": round(results.elapsed_s, 4),
        "window_s": round(window_s, 4),
        "requests_per_s": ratio(results.window["finished"], window_s, 2),
        "events": tally.events,
        "content_events": tally.content_events,
        "content_segments": tally.content_segments,
        "events_per_s": ratio(results.window["events"], window_s, 2),
        "bytes": tally.bytes,
        "input_tokens": tally.input_tokens,
        "cached_tokens": tally.cached_tokens,
        "output_tokens": tally.output_tokens,
        "metered_requests": tally.metered,
        "input_tokens_per_s": ratio(results.window["input_tokens"], window_s, 2),
        "output_tokens_per_s": ratio(results.window["output_tokens"], window_s, 2),
        "goodput_per_s": ratio(results.window["good"], window_s, 2) if options.slo else None,
        "good_share": ratio(tally.good, tally.finished + failed) if options.slo else None,
        "connections_opened": tally.opened,
        "requests_per_connection": ratio(tally.finished + failed, tally.opened, 2),
        "schedule": {
            "sent": late.count,
            "late_share": round(late.share_between(LATE_NS, LONGEST_NS * 2), 6),
            "unsent": results.unsent,
        },
    }
    for name in DISTRIBUTIONS:
        found[f"{name}_ms"] = distribution(getattr(tally, name))
    found["gap_ms"] = found["itl_ms"]
    found["share_38_45_ms"] = {
        "ttft": round(tally.ttft.share_between(*NAGLE_NS), 6),
        "gap": round(tally.itl.share_between(*NAGLE_NS), 6),
    }
    found["client"] = client(results)
    found["client_cpu_s"] = round(sum(results.cpu_s), 4)
    return found


def client(results: Results) -> dict[str, Any]:
    """How much of itself the client used, and what it could do at most by that measure."""
    # Of the whole stage: a process with little to do is over soon, and was all start until then.
    busy_s = max(results.busy_s, default=0.0) or math.inf
    share = max(results.cpu_s, default=0.0) / busy_s
    waited = max(results.waited_s, default=0.0) / busy_s
    # CPU was counted in the warm-up, too; requests were not.
    cpu_s = results.elapsed_s * sum(results.cpu_s) / busy_s
    return {
        "processes": len(results.cpu_s),
        "cpu_share": round(share, 4),
        "waited_share": round(waited, 4),
        "ceiling_requests_per_s": ratio(results.tally.finished, cpu_s, 0),
        "ceiling_events_per_s": ratio(results.tally.events, cpu_s, 0),
    }


def warnings_of(found: dict[str, Any], options: Options) -> list[str]:
    """What a reader of the figures must know before believing them."""
    said = []
    used = found["client"]
    long = found["elapsed_s"] >= SHORT_S
    if long and used["cpu_share"] > CEILING_SHARE:
        said.append(
            f"the client used {used['cpu_share']:.0%} of its core (limit {CEILING_SHARE:.0%}): "
            "these figures are its own, not the server's; add --processes, or lower the load"
        )
    if long and used["waited_share"] > WAITED_SHARE:
        said.append(
            f"the client waited for a core {used['waited_share']:.0%} of the time, and its waiting "
            "is in every figure: give it a core of its own (taskset)"
        )
    schedule = found["schedule"]
    if schedule["unsent"] or schedule["late_share"] > 0.01:
        said.append(
            f"the schedule was missed: {schedule['unsent']} requests not sent at all, "
            f"{schedule['late_share']:.1%} sent over 1 ms late; the rate asked for was not offered"
        )
    if options.stream and found["requests"] and not found["metered_requests"]:
        said.append("no answer said its usage, so tokens and TPOT are unknown: add --include-usage")
    if found["content_segments"] and found["content_events"] > 1.5 * found["content_segments"]:
        each = found["content_events"] / found["content_segments"]
        said.append(
            f"{each:.1f} content events came per read: somebody gathers them, or the client is "
            "behind; gaps are between reads"
        )
    return said


def build_report(options: Options, stages: Sequence[Results]) -> dict[str, Any]:
    """The whole report; its members are those of the sum of all stages."""
    whole = stages[0] if len(stages) == 1 else summed(stages)
    found = figures(options, whole)
    report = {
        "schema": SCHEMA,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "options": asdict(options)
        | {"key": "set" if options.key else "", "headers": names(options)},
        **found,
        "warnings": warnings_of(found, options),
        "stages": [
            {"concurrency": stage.concurrency, "rate": stage.rate, **figures(options, stage)}
            for stage in (stages if len(stages) > 1 else ())
        ],
        "over_time": [
            {"stage": number} | row for number, stage in enumerate(stages) for row in stage.rows
        ],
    }
    return report


def names(options: Options) -> list[str]:
    """The names of the extra headers: their values may be secrets."""
    return [header.partition(":")[0] for header in options.headers]


def summed(stages: Sequence[Results]) -> Results:
    whole = Results(0, 0.0)
    whole.window_s = 0.0
    for stage in stages:
        whole.tally.add(stage.tally.state())
        for name in RATES:
            whole.window[name] += stage.window[name]
        whole.elapsed_s += stage.elapsed_s
        whole.window_s += min(stage.window_s, stage.elapsed_s) or stage.elapsed_s
        whole.unsent += stage.unsent
        whole.abandoned += stage.abandoned
        for mine, theirs in (
            (whole.cpu_s, stage.cpu_s),
            (whole.waited_s, stage.waited_s),
            (whole.busy_s, stage.busy_s),
        ):
            mine[:] = [a + b for a, b in zip(mine or [0.0] * len(theirs), theirs, strict=True)]
    return whole


# ---- for people


def show(report: dict[str, Any]) -> str:
    lines = []
    for stage in report["stages"]:
        load = (
            f"{stage['rate']:g} requests/s"
            if stage["rate"]
            else f"{stage['concurrency']} connections"
        )
        lines += [f"--- {load}", *shown(stage), ""]
    lines += (["--- all stages"] if report["stages"] else []) + shown(report)
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def shown(found: dict[str, Any]) -> list[str]:
    used = found["client"]
    lines = [
        f"{found['requests']} requests in {found['elapsed_s']:.2f} s: "
        f"{found['requests_per_s']:,.1f}/s, {found['failed']} failed, "
        f"{found['connections_opened']} connections opened",
    ]
    if found["events"]:
        lines.append(f"{found['events']:,} events: {found['events_per_s']:,.1f}/s")
    if found["metered_requests"]:
        lines.append(
            f"tokens/s: {found['input_tokens_per_s']:,.1f} in, "
            f"{found['output_tokens_per_s']:,.1f} out"
        )
    if found["goodput_per_s"] is not None:
        share = f"{found['good_share']:.1%} of all"
        lines.append(f"goodput {found['goodput_per_s']:,.1f}/s, {share}")
    columns = (*QUANTILES, "max")
    lines.append(f"{'ms':<9}" + "".join(f"{name:>11}" for name in columns))
    for name in DISTRIBUTIONS:
        values = found[f"{name}_ms"]
        if values["count"]:
            cells = "".join(f"{values[column]:>11,.3f}" for column in columns)
            lines.append(f"{name:<9}{cells}")
    lines += [f"{count:>9} x {kind}" for kind, count in found["errors"].items()]
    ceiling = f"{used['ceiling_requests_per_s']:,.0f} requests/s"
    if used["ceiling_events_per_s"]:
        ceiling += f", {used['ceiling_events_per_s']:,.0f} events/s"
    lines.append(
        f"client: {used['cpu_share']:.0%} of a core in each of {used['processes']}; "
        f"its ceiling here: {ceiling}"
    )
    return lines
