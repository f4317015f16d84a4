import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from fastgate.observe import memory
from fastgate.observe.metrics import FAMILIES, MAX_HISTOGRAMS, MAX_SERIES, render

MS = 1_000_000
REQUESTS = {"endpoint": "chat", "model": "m", "deployment": "d", "code": "200"}

# The text format 0.0.4, as narrow as what we write: no timestamps, no escapes, no blank lines.
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
HELP = re.compile(rf"# HELP ({NAME}) ([^\\\n]+)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"'
SAMPLE = re.compile(
    rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?)"
)

Labels = frozenset[tuple[str, str]]


@pytest.fixture
def fd() -> Iterator[int]:
    fd = memory.create(4)
    yield fd
    os.close(fd)


def parse(page: bytes) -> dict[str, dict[Labels, float]]:
    """Return the page's samples, having checked each line and the order of lines."""
    samples: dict[str, dict[Labels, float]] = defaultdict(dict)
    lines = page.decode().split("\n")
    assert lines.pop() == ""
    family = kind = ""
    described = set()
    for line in lines:
        if found := HELP.fullmatch(line):
            family, kind = found[1], ""
            assert family not in described
            described.add(family)
        elif found := TYPE.fullmatch(line):
            assert found[1] == family
            assert not kind
            kind = found[2]
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert kind and found[1] in {family + suffix for suffix in suffixes}, line
            labels = frozenset(re.findall(r'([a-zA-Z0-9_]+)="([^"]*)"', found[2] or ""))
            assert labels not in samples[found[1]], line
            samples[found[1]][labels] = float(found[3])
    return samples


def value(page: bytes, name: str, **labels: str) -> float:
    return parse(page)[name][frozenset(labels.items())]


def test_counters_and_gauges_are_added_up_over_processes(fd: int) -> None:
    for worker in (0, 3, memory.CONTROL):
        metrics = memory.open(fd, worker).metrics(worker)
        metrics.counter("fastgate_requests_total", **REQUESTS).add(worker + 1)
        metrics.gauge("fastgate_in_flight").set(10)
        metrics.gauge("fastgate_in_flight").add(-3)
    page = render(memory.open(fd, memory.CONTROL))
    assert value(page, "fastgate_requests_total", **REQUESTS) == 1 + 4 + memory.CONTROL + 1
    assert value(page, "fastgate_in_flight") == 21


def test_a_gauge_below_zero_is_shown_as_such(fd: int) -> None:
    shared = memory.open(fd, 0)
    shared.metrics(0).gauge("fastgate_connections").set(-1)
    assert value(render(shared), "fastgate_connections") == -1


def test_histograms_are_merged_and_shown_in_seconds(fd: int) -> None:
    for worker in range(2):
        histogram = (
            memory.open(fd, worker)
            .metrics(worker)
            .histogram("fastgate_ttft_seconds", model="m", deployment="d")
        )
        for ms in (1, 4, 40, 40, 700, 3_000_000):
            histogram.record(ms * MS)
    samples = parse(render(memory.open(fd, 0)))
    buckets = {
        dict(labels)["le"]: count
        for labels, count in samples["fastgate_ttft_seconds_bucket"].items()
    }
    bounds = FAMILIES["fastgate_ttft_seconds"].buckets_s
    assert [float(bound) for bound in buckets] == [*bounds, math.inf]
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["0.005"] == 4
    assert buckets["0.025"] == 4
    assert buckets["0.05"] == 8
    assert buckets["0.5"] == 8
    assert buckets["1"] == 10
    assert buckets["600"] == 10
    assert buckets["+Inf"] == 12
    labels = frozenset({("model", "m"), ("deployment", "d")})
    assert samples["fastgate_ttft_seconds_count"][labels] == 12
    assert samples["fastgate_ttft_seconds_sum"][labels] == pytest.approx(6001.570)


def test_every_family_is_a_line_of_the_text_format(fd: int) -> None:
    shared = memory.open(fd, 1)
    metrics = shared.metrics(1)
    for name, family in FAMILIES.items():
        labels = dict.fromkeys(family.labels, "x")
        getattr(metrics, family.type)(name, **labels)
    samples = parse(render(shared))
    scalars = {name for name, family in FAMILIES.items() if family.type != "histogram"}
    assert scalars <= samples.keys()
    assert all(name.startswith("fastgate_") for name in samples)
    for name, family in FAMILIES.items():
        assert name.endswith("_total") == (family.type == "counter")
        assert (family.type == "histogram") == bool(family.buckets_s)
        assert family.type != "histogram" or name.endswith("_seconds")


def test_asking_again_gives_the_same_series(fd: int) -> None:
    shared = memory.open(fd, 0)
    metrics = shared.metrics(0)
    assert shared.metrics(0) is metrics
    one = metrics.counter("fastgate_limited_total", kind="tokens")
    assert metrics.counter("fastgate_limited_total", kind="tokens") is one
    assert metrics.counter("fastgate_limited_total", kind="requests") is not one
    assert memory.open(fd, 1).metrics(1) is not metrics


def test_a_restarted_worker_goes_on_counting_and_its_gauges_start_anew(fd: int) -> None:
    for _ in range(3):
        metrics = memory.open(fd, 2).metrics(2)
        metrics.counter("fastgate_requests_total", **REQUESTS).add(5)
        metrics.histogram("fastgate_overhead_seconds", endpoint="chat").record(30_000)
        assert metrics.gauge("fastgate_connections").value() == 0
        metrics.gauge("fastgate_connections").add(7)
        metrics.counter("fastgate_limited_total", kind="tokens").add(1)
    page = render(memory.open(fd, 0))
    assert value(page, "fastgate_requests_total", **REQUESTS) == 15
    assert value(page, "fastgate_overhead_seconds_count", endpoint="chat") == 3
    assert value(page, "fastgate_connections") == 7
    assert value(page, "fastgate_limited_total", kind="tokens") == 3


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("openai/*", "openai/*"),
        ("ollama/qwen2.5:7b@sha256+x", "ollama/qwen2.5:7b@sha256+x"),
        ('a"b\\c\nd', "a_b_c_d"),
        ("gr\u00fcn \u2603}", "gr_n___"),
        ("x" * 65, "x" * 64),
        ("", ""),
    ],
)
def test_label_values_keep_to_an_alphabet_and_a_length(fd: int, given: str, shown: str) -> None:
    shared = memory.open(fd, 0)
    shared.metrics(0).counter("fastgate_fallbacks_total", model=given).add(1)
    assert value(render(shared), "fastgate_fallbacks_total", model=shown) == 1


def test_series_past_the_bound_are_counted_together(fd: int) -> None:
    shared = memory.open(fd, 0)
    metrics = shared.metrics(0)
    asked = MAX_SERIES + 100
    for i in range(asked):
        metrics.counter("fastgate_fallbacks_total", model=f"model-{i}").add(1)
    for i in range(3):
        metrics.counter("fastgate_requests_total", **{**REQUESTS, "model": f"{i}"}).add(1)
        metrics.gauge("fastgate_in_flight").add(1)
    page = render(shared)
    samples = parse(page)
    own = MAX_SERIES - len(FAMILIES)
    assert len(samples["fastgate_fallbacks_total"]) == own + 1
    assert value(page, "fastgate_fallbacks_total", model="other") == asked - own
    assert value(page, "fastgate_fallbacks_total", model=f"model-{own - 1}") == 1
    others = dict.fromkeys(REQUESTS, "other")
    assert value(page, "fastgate_requests_total", **others) == 3
    assert value(page, "fastgate_in_flight") == 3


def test_every_family_finds_room_in_a_full_block(fd: int) -> None:
    metrics = memory.open(fd, 0).metrics(0)
    for i in range(MAX_HISTOGRAMS):
        metrics.histogram("fastgate_upstream_seconds", deployment=f"{i}")
    for i in range(MAX_SERIES):
        metrics.counter("fastgate_fallbacks_total", model=f"{i}")
    for name, family in FAMILIES.items():
        series = getattr(metrics, family.type)(name, **dict.fromkeys(family.labels, "late"))
        other = getattr(metrics, family.type)(name, **dict.fromkeys(family.labels, "other"))
        assert series is other
    # And a restart finds all of it.
    again = memory.open(fd, 0).metrics(0)
    assert again.counter("fastgate_fallbacks_total", model="5").value() == 0
    samples = parse(render(memory.open(fd, 1)))
    assert len(samples["fastgate_upstream_seconds_count"]) == MAX_HISTOGRAMS - 3
    total = sum(
        len(found) for name, found in samples.items() if not name.endswith(("_bucket", "_sum"))
    )
    assert total <= MAX_SERIES


def test_the_longest_label_values_fit_the_directory(fd: int) -> None:
    shared = memory.open(fd, 0)
    metrics = shared.metrics(0)
    for i in range(MAX_SERIES):
        labels = dict.fromkeys(REQUESTS, f"{i:04}" + "x" * 80)
        metrics.counter("fastgate_requests_total", **labels).add(1)
    metrics.histogram("fastgate_overhead_seconds", endpoint="chat").record(1)
    page = render(shared)
    assert sum(parse(page)["fastgate_requests_total"].values()) == MAX_SERIES
    assert value(page, "fastgate_overhead_seconds_count", endpoint="other") == 1


def test_a_series_that_is_in_no_family_is_refused(fd: int) -> None:
    metrics = memory.open(fd, 0).metrics(0)
    with pytest.raises(KeyError):
        metrics.counter("fastgate_unheard_of_total")
    with pytest.raises(ValueError, match="fastgate_in_flight is a gauge"):
        metrics.counter("fastgate_in_flight")
    with pytest.raises(ValueError, match=r"with labels \('model', 'kind'\)"):
        metrics.counter("fastgate_tokens_total", model="m")
    with pytest.raises(ValueError, match=r"with labels \(\)"):
        metrics.gauge("fastgate_in_flight", model="m")


def test_a_full_page_renders_in_time(fd: int) -> None:
    for worker in range(4):
        metrics = memory.open(fd, worker).metrics(worker)
        for i in range(MAX_HISTOGRAMS):
            metrics.histogram("fastgate_upstream_seconds", deployment=f"d{i}").record(i * MS)
        for i in range(MAX_SERIES):
            metrics.counter("fastgate_fallbacks_total", model=f"model-{i}").add(i)
    shared = memory.open(fd, memory.CONTROL)
    taken = []
    for _ in range(3):
        start = time.process_time()
        render(shared)
        taken.append(time.process_time() - start)
    # Not a benchmark: ten times what it takes, so that only another order of growth fails.
    assert min(taken) < 0.5, taken
