"""Metrics: a registry in each process's block of shared memory, all rendered as one page.

A block has one writer. Its directory is a log of records (kind, cell, series text) that only grows;
the length of the log is stored after the record, so a reader in another process always sees whole
records. A process that starts in a slot used before finds its series there and goes on counting;
only gauges, which told of connections that died with the last one, start from zero.

Everything is bounded: names and labels come from FAMILIES, label values are cut to an alphabet and
a length, and when a block is full, further series of a family are counted together under the label
value "other". Processes that run one configuration make the same series, so a block's bound is the
page's.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from fastgate._core.histo import HISTOGRAM_BYTES, Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastgate.observe.memory import SharedMemory

__all__ = [
    "BLOCK_BYTES",
    "FAMILIES",
    "MAX_HISTOGRAMS",
    "MAX_SERIES",
    "Family",
    "Registry",
    "render",
    "zero_gauges",
]

MAX_SERIES = 2_000
"""In a block. A page of so many is about 200 kB, which Prometheus scrapes without thought."""
MAX_HISTOGRAMS = 256
"""In a block; each is 2.6 kB when used."""
_MAX_VALUE_CHARS = 64
"""Of a label value: the longest names of models in use have about 60."""

_OTHER = "other"
# What names of models, deployments and routes are made of. Nothing in it needs escaping in the text
# format.
_STRANGE = re.compile(r"[^A-Za-z0-9_.:/@*+-]")
_NS_PER_S = 1_000_000_000

# LiteLLM's buckets for durations, thinned out, and up to its longest default timeout.
_DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 420, 600)
# The gateway's own time: tens of microseconds when all is well.
_OVERHEADS_S = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)


class Family(NamedTuple):
    """The series of one name. `buckets_s`: a histogram's upper bounds; its values come in ns."""

    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets_s: tuple[float, ...] = ()


FAMILIES = {
    "fastgate_requests_total": Family(
        "counter",
        "Requests answered, by HTTP status.",
        ("endpoint", "model", "deployment", "code"),
    ),
    "fastgate_errors_total": Family(
        "counter", "Requests that failed, by whose fault it was.", ("source", "kind")
    ),
    "fastgate_spend_rows_total": Family(
        "counter",
        "Requests posted to the spend log: new, adjusted (billed before as orphans), known before.",
        ("outcome",),
    ),
    "fastgate_spend_lag_seconds": Family(
        "gauge", "What was recorded longer ago than this is in the database."
    ),
    "fastgate_journal_bytes": Family(
        "gauge", "Of the disk, what the workers' spend journals take; damaged segments included."
    ),
    "fastgate_unpriced_requests_total": Family(
        "counter", "Requests booked without a cost, for want of a price.", ("model",)
    ),
    "fastgate_request_duration_seconds": Family(
        "histogram",
        "From a request's first byte to its answer's last.",
        ("endpoint", "model"),
        _DURATIONS_S,
    ),
    "fastgate_ttft_seconds": Family(
        "histogram",
        "From a request fully read to its answer's first content.",
        ("model", "deployment"),
        _DURATIONS_S,
    ),
    "fastgate_overhead_seconds": Family(
        "histogram", "The gateway's own time in a request.", ("endpoint",), _OVERHEADS_S
    ),
    "fastgate_upstream_seconds": Family(
        "histogram",
        "From a request sent upstream to its answer's first byte.",
        ("deployment",),
        _DURATIONS_S,
    ),
    "fastgate_in_flight": Family("gauge", "Requests being served."),
    "fastgate_connections": Family("gauge", "Open downstream connections."),
    "fastgate_upstream_connections": Family(
        "gauge", "Open upstream connections.", ("deployment", "state")
    ),
    "fastgate_upstream_connects_total": Family(
        "counter", "Attempts to open an upstream connection.", ("deployment", "outcome")
    ),
    "fastgate_retries_total": Family(
        "counter", "Requests tried again, by the deployment that failed.", ("deployment", "reason")
    ),
    "fastgate_fallbacks_total": Family(
        "counter", "Requests that went to a fallback of their model group.", ("model",)
    ),
    "fastgate_cooldowns_total": Family(
        "counter", "Times that a deployment was taken out of use.", ("deployment",)
    ),
    "fastgate_limited_total": Family("counter", "Requests refused by a limit.", ("kind",)),
    "fastgate_tokens_total": Family(
        "counter", "Tokens, as the engines counted them.", ("model", "kind")
    ),
    "fastgate_access_log_dropped_total": Family(
        "counter", "Access log lines lost because the reader was too slow."
    ),
    "fastgate_worker_restarts_total": Family("counter", "Workers that died and were replaced."),
    "fastgate_reloads_total": Family("counter", "Configuration reloads.", ("outcome",)),
}
_HISTOGRAM_FAMILIES = sum(family.type == "histogram" for family in FAMILIES.values())

# Of a record: its length, whether the cell is a histogram's, the number of the cell; then the
# series text.
_RECORD = struct.Struct("<HBxI")
# A family has at most 4 labels; name and label names together stay below 200.
_MAX_RECORD_BYTES = 512
_LOG_START = 64
_CELLS_START = _LOG_START + MAX_SERIES * _MAX_RECORD_BYTES
_HISTOGRAMS_START = _CELLS_START + MAX_SERIES * 8
BLOCK_BYTES = _HISTOGRAMS_START + MAX_HISTOGRAMS * HISTOGRAM_BYTES


class Registry:
    """A process's own metrics. Asking for a series takes microseconds: keep what it returns."""

    def __init__(self, block: memoryview) -> None:
        self._block = block
        self._log_bytes = Counter(block, 0)
        self._series: dict[str, Counter | Histogram] = {}
        self._scalars = 0
        self._histograms = 0
        zero_gauges(block)
        for text, is_histogram, cell in _records(block):
            self._open(text, is_histogram, cell)

    def counter(self, name: str, **labels: str) -> Counter:
        """Return the counter of these labels, made when it is new."""
        return self._scalar("counter", name, labels)

    def gauge(self, name: str, **labels: str) -> Counter:
        """Return the gauge of these labels, made when it is new."""
        return self._scalar("gauge", name, labels)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return the histogram of these labels, made when it is new. It takes nanoseconds."""
        found = self._find("histogram", name, labels)
        assert isinstance(found, Histogram)
        return found

    def _scalar(self, kind: str, name: str, labels: dict[str, str]) -> Counter:
        found = self._find(kind, name, labels)
        assert isinstance(found, Counter)
        return found

    def _find(self, kind: str, name: str, labels: dict[str, str]) -> Counter | Histogram:
        family = FAMILIES[name]
        if family.type != kind or labels.keys() != set(family.labels):
            raise ValueError(f"{name} is a {family.type} with labels {family.labels}")
        text = _series_text(name, family, labels)
        found = self._series.get(text)
        if found is not None:
            return found
        # Room is kept for one more series of each family.
        full = self._scalars + self._histograms >= MAX_SERIES - len(FAMILIES) or (
            kind == "histogram" and self._histograms >= MAX_HISTOGRAMS - _HISTOGRAM_FAMILIES
        )
        if full:
            text = _series_text(name, family, dict.fromkeys(labels, _OTHER))
            found = self._series.get(text)
        return found if found is not None else self._add(text, kind == "histogram")

    def _add(self, text: str, is_histogram: bool) -> Counter | Histogram:
        cell = self._histograms if is_histogram else self._scalars
        data = text.encode("ascii")
        at = self._log_bytes.value()
        size = _RECORD.size + len(data)
        _RECORD.pack_into(self._block, _LOG_START + at, size, is_histogram, cell)
        self._block[_LOG_START + at + _RECORD.size : _LOG_START + at + size] = data
        self._log_bytes.set(at + size)
        return self._open(text, is_histogram, cell)

    def _open(self, text: str, is_histogram: bool, cell: int) -> Counter | Histogram:
        series: Counter | Histogram
        if is_histogram:
            self._histograms = cell + 1
            series = Histogram(self._block, _HISTOGRAMS_START + cell * HISTOGRAM_BYTES)
        else:
            self._scalars = cell + 1
            series = Counter(self._block, _CELLS_START + cell * 8)
        self._series[text] = series
        return series


def zero_gauges(block: memoryview) -> None:
    """Forget what a block's gauges say: the process that they tell of is dead."""
    for text, _, cell in _records(block):
        if FAMILIES[text.partition("{")[0]].type == "gauge":
            Counter(block, _CELLS_START + cell * 8).set(0)


def render(memory: SharedMemory) -> bytes:
    """Return all processes' metrics added up, in Prometheus' text format 0.0.4."""
    scalars: dict[str, dict[str, int]] = {name: {} for name in FAMILIES}
    histograms: dict[str, dict[str, Histogram]] = {name: {} for name in FAMILIES}
    for block in memory.blocks():
        for text, is_histogram, cell in _records(block):
            name, _, labels = text.partition("{")
            if is_histogram:
                merged = histograms[name].get(labels)
                if merged is None:
                    merged = histograms[name][labels] = Histogram(bytearray(HISTOGRAM_BYTES))
                merged.merge(Histogram(block, _HISTOGRAMS_START + cell * HISTOGRAM_BYTES))
            else:
                value = Counter(block, _CELLS_START + cell * 8).value()
                scalars[name][labels] = scalars[name].get(labels, 0) + value
    lines: list[str] = []
    for name, family in FAMILIES.items():
        lines.append(f"# HELP {name} {family.help}")
        lines.append(f"# TYPE {name} {family.type}")
        for labels, value in sorted(scalars[name].items()):
            lines.append(f"{name}{{{labels} {value}" if labels else f"{name} {value}")
        bounds = [(_number(bound), round(bound * _NS_PER_S)) for bound in family.buckets_s]
        for labels, merged in sorted(histograms[name].items()):
            lines.extend(_histogram_lines(name, labels, merged, bounds))
    lines.append("")
    return "\n".join(lines).encode("ascii")


def _histogram_lines(
    name: str, labels: str, histogram: Histogram, bounds: list[tuple[str, int]]
) -> Iterator[str]:
    # The text of the labels ends in a brace; "le" comes before it.
    prefix = f"{name}_bucket{{{labels[:-1]},le="
    for text, bound_ns in bounds:
        yield f'{prefix}"{text}"}} {histogram.count_at_most(bound_ns)}'
    yield f'{prefix}"+Inf"}} {histogram.count()}'
    yield f"{name}_sum{{{labels} {histogram.sum() / _NS_PER_S!r}"
    yield f"{name}_count{{{labels} {histogram.count()}"


def _records(block: memoryview) -> Iterator[tuple[str, bool, int]]:
    """Yield a block's directory: series text, whether it is a histogram, number of its cell."""
    at = _LOG_START
    end = _LOG_START + Counter(block, 0).value()
    while at < end:
        size, is_histogram, cell = _RECORD.unpack_from(block, at)
        yield str(block[at + _RECORD.size : at + size], "ascii"), bool(is_histogram), cell
        at += size


def _series_text(name: str, family: Family, labels: dict[str, str]) -> str:
    if not labels:
        return name
    pairs = [f'{label}="{_value(labels[label])}"' for label in family.labels]
    return f"{name}{{{','.join(pairs)}}}"


def _value(text: str) -> str:
    return _STRANGE.sub("_", text[:_MAX_VALUE_CHARS])


def _number(value: float) -> str:
    """Return 0.00001 as such, not as 1e-05, so that dashboards can match on it."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
