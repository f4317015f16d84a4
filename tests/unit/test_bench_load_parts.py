"""The parts of the load client that know no sockets: lengths, schedules, traces, reports."""

from __future__ import annotations

import json
import random
import re
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.load.client import Tally
from bench.load.command import table
from bench.load.distribution import parse_distribution
from bench.load.options import Options, parse_slo, read_options
from bench.load.processes import merged, share_of
from bench.load.results import Results, summary
from bench.load.schedule import arrivals, parse_rate
from bench.load.traces import read_trace
from bench.load.workload import Workload, build_request, read_prompts
from tests.corpus import corpus


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        ("200", 200),
        ("uniform:100,300", 200),
        ("normal:200,20", 200),
        ("exponential:200", 200),
        ("lognormal:200,0.1", 201),
    ],
)
def test_lengths_have_the_mean_that_was_asked_for(text: str, mean: float) -> None:
    length = parse_distribution(text)
    rng = random.Random(1)
    samples = [length.sample(rng) for _ in range(4000)]
    assert min(samples) >= 1
    assert statistics.fmean(samples) == pytest.approx(mean, rel=0.04)
    assert str(length) == text


@pytest.mark.parametrize(
    "text", ["", "x", "normal:5", "uniform:9,3", "zipf:2", "lognormal:0,1", "fixed:1,2", "-3"]
)
def test_lengths_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_distribution(text)


def test_constant_arrivals_are_evenly_spaced() -> None:
    times = list(arrivals(parse_rate("50"), 0, 2.0, False, 0))
    assert len(times) == 100
    assert [round(b - a, 9) for a, b in pairwise(times)] == [0.02] * 99


def test_poisson_arrivals_have_the_rate_and_its_spread() -> None:
    gaps = [b - a for a, b in pairwise(arrivals(parse_rate("200"), 0, 30.0, True, 7))]
    assert len(gaps) == pytest.approx(6000, rel=0.05)
    # Of an exponential distribution mean and deviation are the same.
    assert statistics.stdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.08)


def test_a_ramp_reaches_its_end() -> None:
    times = list(arrivals(parse_rate("10-190"), 0, 10.0, False, 0))
    assert len(times) == pytest.approx(1000, abs=1)
    assert sum(t < 1 for t in times) == pytest.approx(19, abs=1)
    assert sum(t >= 9 for t in times) == pytest.approx(181, abs=1)
    falling = list(arrivals(parse_rate("190-10"), 0, 10.0, False, 0))
    assert len(falling) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("text", ["0", "x", "5-", "1-2-3", "-5", "5,0"])
def test_rates_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        parse_rate(text)


def test_objectives() -> None:
    assert parse_slo("ttft:200ms,itl:50ms,e2e:2s") == {"ttft_ms": 200, "itl_ms": 50, "e2e_ms": 2000}
    with pytest.raises(ValueError, match="expected"):
        parse_slo("ttfb:3ms")


def told(tally: Tally) -> dict[str, float]:
    results = Results()
    results.latency = tally
    return summary(results.times()["latency"])


def test_percentiles_are_those_of_the_values() -> None:
    rng = random.Random(3)
    values_us = sorted(int(rng.lognormvariate(11, 1.2)) + 1 for _ in range(1000))
    tally = Tally()
    for us in values_us:
        tally.add(us * 1000)
    found = told(tally)
    assert found["count"] == 1000
    for name, rank in (("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)):
        assert found[name] == pytest.approx(values_us[rank - 1] / 1000, rel=0.01)
    assert found["mean"] == pytest.approx(statistics.fmean(values_us) / 1000, rel=0.01)


def test_times_longer_than_two_minutes_are_kept() -> None:
    tally = Tally()
    tally.add(500 * 10**9)
    tally.add(-5)
    assert told(tally)["max"] == pytest.approx(500_000, rel=0.001)
    assert told(Tally()) == {"count": 0}


def report(latencies_ms: list[int], **given: Any) -> dict[str, Any]:
    results = Results()
    for ms in latencies_ms:
        results.latency.add(ms * 1_000_000)
    results.finished = results.started = len(latencies_ms)
    results.elapsed_s = 2.0
    for name, value in given.items():
        setattr(results, name, value)
    return results.report(Options(url="http://a", key="sk-secret", headers=("x-key: secret",)))


def test_reports_of_processes_are_those_of_all_requests_together() -> None:
    one, other = report([1] * 90), report([100] * 10)
    together = merged(Options(url="http://a"), [one, other])
    assert together["requests"] == 100
    assert together["requests_per_s"] == 50
    assert together["latency_ms"]["p50"] == pytest.approx(1, rel=0.01)
    assert together["latency_ms"]["p99"] == pytest.approx(100, rel=0.01)
    with pytest.raises(ValueError, match="no client"):
        merged(Options(url="http://a"), [])


@pytest.mark.parametrize(("cpu_s", "warns"), [(1.0, False), (1.5, True)])
def test_a_client_that_is_its_own_bottleneck_says_so(cpu_s: float, warns: bool) -> None:
    client = report([1] * 100, cpu_s=cpu_s)["client"]
    assert bool(client["warning"]) is warns
    assert client["ceiling_requests_per_s"] == round(50 / (cpu_s / 2))


def test_a_report_holds_no_secret() -> None:
    assert "secret" not in json.dumps(report([1]))
    assert "1 requests in 2.00 s" in table(report([1]))


def test_shares_of_processes_add_up() -> None:
    options = read_options(
        ["--url", "http://a", "--rate", "90", "--requests", "10", "--processes", "3"]
    )[0]
    shares = [share_of(options, part) for part in range(3)]
    assert sum(share.requests for share in shares) == 10
    assert all(share.rate is not None and share.rate.steps == (30,) for share in shares)


@pytest.mark.parametrize(
    "argv",
    [
        ["--url", "ftp://a"],
        ["--url", "http://a", "--rate", "x"],
        ["--url", "http://a", "--concurrency", "0"],
        ["--url", "http://a", "--trace", "/nowhere.jsonl"],
        ["--url", "http://a", "--slo", "x"],
        [],
    ],
)
def test_bad_options_are_explained(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(argv)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def body(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(build_request(options).partition(b"\r\n\r\n")[2])
    return found


def test_bodies_are_those_of_their_endpoints() -> None:
    asked = {"url": "http://a:1", "stream": True, "max_tokens": parse_distribution("7")}
    chat = body(Options(**asked, prompt_tokens=parse_distribution("30")))
    assert len(chat["messages"][0]["content"].split()) == 30
    assert (chat["max_tokens"], chat["stream_options"]) == (7, {"include_usage": True})
    assert "stream_options" not in body(Options(**asked, usage=False))
    assert body(Options(**asked, endpoint="responses"))["max_output_tokens"] == 7
    assert body(Options(**asked, endpoint="messages"))["max_tokens"] == 7
    assert isinstance(body(Options(**asked, endpoint="completions"))["prompt"], str)
    assert set(body(Options(url="http://a", endpoint="embeddings"))) == {"model", "input"}
    head = build_request(Options(url="http://a:1/custom/path", key="k")).split(b"\r\n")
    assert head[0] == b"POST /custom/path HTTP/1.1"
    assert b"host: a:1" in head
    assert b"authorization: Bearer k" in head


def test_prompts_share_what_they_are_told_to_and_nothing_else() -> None:
    drawn = {"prompt_tokens": parse_distribution("normal:20,5"), "distinct": 50}
    contents = []
    for shared in (0, 100):
        workload = Workload(Options(url="http://a", shared_prefix=shared, **drawn))
        items = [workload.next() for _ in range(50)]
        bodies = [json.loads(item.payload.partition(b"\r\n\r\n")[2]) for item in items if item]
        contents.append([made["messages"][0]["content"].split() for made in bodies])
    alone, sharing = contents
    assert len({tuple(words[:8]) for words in alone}) == 50
    assert len({tuple(words[:100]) for words in sharing}) == 1
    assert len({tuple(words) for words in sharing}) == 50


def test_prompts_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.jsonl").write_text('{"prompt": "three"}\n{"turns": ["four", "five"]}\n')
    assert read_prompts(str(tmp_path / "a.txt")) == ["one", "two"]
    assert read_prompts(str(tmp_path / "b.jsonl")) == ["three", "four"]
    assert len(read_prompts(str(tmp_path))) == 2
    (tmp_path / "c.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(ValueError, match="expected objects with"):
        read_prompts(str(tmp_path / "c.jsonl"))


@pytest.mark.corpus
def test_mooncake_s_blocks_become_shared_prefixes() -> None:
    entries = []
    for entry in read_trace(str(corpus("traces") / "mooncake_conversation.jsonl")):
        entries.append(entry)
        if len(entries) == 40:
            break
    prompts = [entry.prompt().split() for entry in entries]
    assert [len(prompt) for prompt in prompts] == [entry.input_tokens for entry in entries]
    for one, words in zip(entries, prompts, strict=True):
        for other, others in zip(entries, prompts, strict=True):
            same = sum(a == b for a, b in zip(one.blocks, other.blocks, strict=False))
            shared = min(same * 512, one.input_tokens, other.input_tokens)
            assert words[:shared] == others[:shared]
            if shared < min(len(words), len(others)):
                assert words[shared] != others[shared]


@pytest.mark.corpus
def test_azure_s_times_begin_at_zero() -> None:
    entries = list(read_trace(str(corpus("traces") / "azure_llm_2023_conv.csv")))
    assert len(entries) == 19_366
    assert entries[0].at_s == 0
    assert entries[-1].at_s == pytest.approx(3502, abs=1)
    assert (entries[0].input_tokens, entries[0].output_tokens) == (374, 44)


def test_other_traces(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(
        '{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "a b"}]}\n'
        '{"custom_id": "1", "method": "POST", "url": "/v1/x", "body": {"model": "m", "n": 1}}\n'
    )
    talk, batch = read_trace(str(file))
    assert (talk.prompt(), talk.output_tokens) == ("hi", 2)
    assert batch.body == {"model": "m", "n": 1}
    workload = Workload(Options(url="http://a", model="sim", trace=str(file)))
    first, second = workload.next(), workload.next()
    assert first is not None
    assert second is not None
    assert workload.next() is None
    assert json.loads(second.payload.partition(b"\r\n\r\n")[2]) == {"model": "sim", "n": 1}
    file.write_text('{"what": 1}\n')
    with pytest.raises(ValueError, match=r"t\.jsonl:1: not a request of a known trace"):
        list(read_trace(str(file)))


def test_every_member_of_a_report_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs/bench-load-json.md").read_text()
    described = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert set(report([1])) | {"steps"} == described
    for member in ("goodput", "client", "connections"):
        for name in report([1])[member]:
            assert f"`{name}`" in text
