"""The load client's parts without a server: lengths, schedules, counts, options, traces, bodies."""

from __future__ import annotations

import io
import itertools
import json
import random
import statistics
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from rich.console import Console

from bench.load.bodies import KINDS, build_body, build_head, text_of_answer
from bench.load.counts import CELLS, Counts, middle
from bench.load.lengths import Lengths
from bench.load.live import table_of
from bench.load.options import Options, read_options
from bench.load.report import build_report
from bench.load.results import Results
from bench.load.schedule import arrivals
from bench.load.slo import Slo
from bench.load.traces import BadTrace, read_prompts
from bench.load.words import Words
from bench.load.workload import build_request, plan
from tests.corpus import corpus

URL = "http://127.0.0.1:1"


def bodies(count: int, **given: object) -> list[dict]:  # type: ignore[type-arg]
    options = Options(url=URL, **given)  # type: ignore[arg-type]
    requests = [request for _, request in itertools.islice(plan(options), count)]
    return [json.loads(request.payload.partition(b"\r\n\r\n")[2]) for request in requests]


def prompt_of(body: dict) -> str:  # type: ignore[type-arg]
    return str(body["messages"][-1]["content"])


# ---- counts


def test_counts_have_the_cells_of_the_library() -> None:
    histogram = HdrHistogram(1, 3_600_000_000_000, 3)
    assert histogram.counts_len == CELLS
    counts = Counts()
    chance = random.Random(3)
    values = [int(10 ** chance.uniform(0, 12.5)) for _ in range(3000)]
    for value in values:
        counts.record(value)
        histogram.record_value(value)
    low = histogram.get_lowest_equivalent_value
    mine = {low(middle(cell)): count for cell, count in counts.used()}
    recorded = histogram.get_recorded_iterator()
    assert mine == {low(at.value_iterated_to): at.count_at_value_iterated_to for at in recorded}
    for q in (1, 10, 50, 90, 99, 99.9):
        exact = sorted(values)[round(q * 30) - 1]
        assert counts.quantile(q / 100) == pytest.approx(exact, rel=0.001, abs=1)
        assert histogram.get_value_at_percentile(q) == pytest.approx(exact, rel=0.001, abs=1)


def test_counts_of_two_add_up() -> None:
    both, one, other = Counts(), Counts(), Counts()
    for value in range(0, 5_000_000, 997):
        (one if value % 2 else other).record(value)
        both.record(value)
    one.add((other.total, other.largest, other.used()))
    assert one.used() == both.used()
    assert (one.count, one.total, one.largest) == (both.count, both.total, both.largest)
    one.clear()
    assert (one.used(), one.count, one.quantile(0.5)) == ([], 0, 0)


def test_what_is_longer_than_the_last_cell_is_exact_in_the_largest() -> None:
    counts = Counts()
    counts.record(10**15)
    counts.record(-5)
    assert (counts.largest, counts.count) == (10**15, 2)
    assert counts.used()[0] == (0, 1)


# ---- lengths and schedules


@pytest.mark.parametrize(
    ("text", "middle_of", "deviation"),
    [("200", 200, 0), ("uniform:100,300", 200, 57.7), ("normal:200,20", 200, 20),
     ("lognormal:200,0.1", 200, 20)],
)  # fmt: skip
def test_lengths_have_their_distribution(text: str, middle_of: float, deviation: float) -> None:
    lengths = Lengths(text)
    chance = random.Random(0)
    drawn = [lengths.draw(chance) for _ in range(4000)]
    assert statistics.median(drawn) == pytest.approx(middle_of, rel=0.03)
    assert statistics.pstdev(drawn) == pytest.approx(deviation, rel=0.1, abs=0.01)


@pytest.mark.parametrize("text", ["x", "0", "-5", "nan", "uniform:3", "uniform:9,1", "gamma:1,2"])
def test_lengths_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of tokens or"):
        Lengths(text)


def test_constant_arrivals_are_evenly_spaced_and_shared_out() -> None:
    whole = list(itertools.islice(arrivals(1000, "constant", 0, 0), 9))
    assert whole == [k * 1_000_000 for k in range(9)]
    shares = [list(itertools.islice(arrivals(1000, "constant", 0, 0, i, 3), 3)) for i in range(3)]
    assert sorted(itertools.chain(*shares)) == whole


def test_poisson_arrivals_have_exponential_gaps() -> None:
    times = list(itertools.islice(arrivals(100, "poisson", 0, 1), 10_000))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(1e7, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(1e7, rel=0.05)


def test_a_ramp_climbs_to_the_rate() -> None:
    times = list(itertools.islice(arrivals(100, "constant", 2.0, 0), 300))
    # Half the requests of the full rate come in the ramp, and a quarter of those in its first half.
    assert sum(at < 2e9 for at in times) == 100
    assert sum(at < 1e9 for at in times) == 25
    assert times[200] - times[199] == pytest.approx(1e7)


def test_slo_reads_bounds_and_refuses_others() -> None:
    slo = Slo("ttft:200ms,itl:50ms,e2e:1.5s")
    assert slo.met(200_000_000, 50_000_000, 10**12, 1_500_000_000)
    assert not slo.met(200_000_001, 0, 0, 0)
    assert not slo.met(0, 50_000_001, 0, 0)
    for text in ("ttft", "ttft:5", "speed:5ms", "ttft:1.2.3s"):
        with pytest.raises(ValueError, match="expected bounds such as"):
            Slo(text)


# ---- options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--url", "localhost:8000"], "expected http://HOST:PORT"),
        (["--url", URL, "--rate", "0"], "--rate: expected numbers above 0"),
        (["--url", URL, "--concurrency", "1,x"], "--concurrency: expected numbers above 0"),
        (["--url", URL, "--concurrency", "1", "--rate", "1"], "not both"),
        (["--url", URL, "--max-tokens", "many"], "--max-tokens: expected a number of tokens"),
        (["--url", URL, "--duration", "0"], "--duration: expected a number above 0"),
        (["--url", URL, "--turns", "0"], "--turns: expected at least 1"),
        (["--url", URL, "--body", "[]"], "--body: expected a JSON object"),
        (["--url", URL, "--trace", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--url", URL, "--json", "/nowhere/x.json"], "--json: expected a file in a folder"),
        (["--url", URL, "--slo", "x:1ms"], "--slo: expected bounds"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_options(given)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


# ---- requests


def test_every_kind_has_its_path_and_its_body() -> None:
    asked = [("system", "be brief"), ("user", "why?")]
    paths = {}
    for kind in KINDS:
        paths[kind] = build_head(URL, kind, "k", ["x-a: b"], 5).split()[1].decode()
        body = build_body(kind, "m", asked, 7, True, True)
        assert body["model"] == "m"
        assert ("stream" in body) == (kind != "embeddings")
        assert ("stream_options" in body) == (kind in ("chat", "completions"))
        assert "be brief" in json.dumps(body)
    assert paths == {
        "chat": "/v1/chat/completions",
        "completions": "/v1/completions",
        "embeddings": "/v1/embeddings",
        "messages": "/v1/messages",
        "responses": "/v1/responses",
    }
    head = build_head("https://h:8/api/v2?x=1", "messages", "", [], 0)
    assert head.startswith(b"POST /api/v2/messages?x=1 HTTP/1.1\r\nhost: h:8\r\n")
    assert b"authorization" not in head


def test_the_api_follows_the_urls_path() -> None:
    assert Options(url=URL + "/v1/completions").api == "completions"
    assert Options(url=URL + "/v1/chat/completions").api == "chat"
    assert build_request(Options(url=URL + "/v1", kind="responses")).startswith(
        b"POST /v1/responses "
    )


def test_made_up_prompts_differ_and_have_their_length() -> None:
    found = bodies(50, prompt_tokens="uniform:5,66000", max_tokens="uniform:3,9", seed=4)
    prompts = [prompt_of(body) for body in found]
    assert len(set(prompts)) == 50
    lengths = [len(prompt.split()) for prompt in prompts]
    assert min(lengths) >= 5
    assert max(lengths) > 60_000
    assert {body["max_tokens"] for body in found} == set(range(3, 10))
    assert prompts == [prompt_of(b) for b in bodies(50, prompt_tokens="uniform:5,66000", seed=4,
                                                    max_tokens="uniform:3,9")]  # fmt: skip


def test_prefixes_are_shared() -> None:
    found = bodies(40, prompt_tokens="10", shared_prefix=300, prefixes=2)
    systems = {body["messages"][0]["content"] for body in found}
    assert [len(system.split()) for system in systems] == [300, 300]
    assert len({prompt_of(body) for body in found}) == 40


def test_processes_ask_different_things() -> None:
    options = Options(url=URL, prompt_tokens="20")
    mine = [next(plan(options, index, 2))[1].payload for index in range(2)]
    assert mine[0] != mine[1]


def test_prompts_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    (tmp_path / "rows.jsonl").write_text(
        '"a"\n{"prompt": "b"}\n{"turns": ["c", "d"]}\n'
        '{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "e"}]}\n'
    )
    assert read_prompts(tmp_path / "lines.txt") == [("one",), ("two",)]
    assert read_prompts(tmp_path / "rows.jsonl") == [("a",), ("b",), ("c", "d"), ("e",)]
    assert len(read_prompts(tmp_path)) == 2
    found = bodies(3, prompts=str(tmp_path / "lines.txt"))
    assert [prompt_of(body) for body in found] == ["one", "two", "one"]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "fine"}\n{"prompt": 5}\n')
    with pytest.raises(BadTrace, match=r"bad.jsonl:2: expected a prompt"):
        read_prompts(tmp_path / "bad.jsonl")


# ---- traces


def test_a_mooncake_trace_shares_its_blocks(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [(0, 1024, [1, 2]), (500, 1030, [1, 2, 3]), (2000, 600, [1, 9])]
    trace.write_text(
        "".join(
            json.dumps({"timestamp": t, "input_length": n, "output_length": 7, "hash_ids": ids})
            + "\n"
            for t, n, ids in rows
        )
    )
    options = Options(url=URL, trace=str(trace), speed=2.0)
    assert options.stages == [(0, 0.0)]
    assert [at_s for at_s, _ in plan(options)] == [0.0, 0.25, 1.0]
    found = bodies(3, trace=str(trace))
    prompts = [prompt_of(body).split() for body in found]
    assert [len(prompt) for prompt in prompts] == [1024, 1030, 600]
    assert prompts[1][:1024] == prompts[0]
    assert prompts[2][:512] == prompts[0][:512]
    assert prompts[2][512:] != prompts[0][512:600]
    assert {body["max_tokens"] for body in found} == {7}


def test_an_azure_trace_has_times_and_lengths(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    )
    options = Options(url=URL, trace=str(trace))
    assert [at_s for at_s, _ in plan(options)] == pytest.approx([0.0, 4.314579])
    found = bodies(2, trace=str(trace))
    assert [len(prompt_of(body).split()) for body in found] == [374, 396]
    assert [body["max_tokens"] for body in found] == [44, 109]


def test_sharegpt_and_batch_files_are_replayed(tmp_path: Path) -> None:
    shared = tmp_path / "sharegpt.json"
    shared.write_text(
        json.dumps([{"conversations": [
            {"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"},
            {"from": "human", "value": "on"}]}])
    )  # fmt: skip
    ((_, request),) = plan(Options(url=URL, trace=str(shared)))
    assert request.conversation is not None
    request.conversation.take_answer(request, b'{"choices":[{"message":{"content":"own"}}]}')
    second = json.loads(request.conversation.next_request().payload.partition(b"\r\n\r\n")[2])
    assert [m["content"] for m in second["messages"]] == ["hi", "own", "on"]
    batch = tmp_path / "batch.jsonl"
    body = {"model": "x", "messages": [{"role": "user", "content": "q"}], "temperature": 0}
    batch.write_text(json.dumps({"custom_id": "1", "url": "/v1/responses", "body": body}))
    ((_, request),) = plan(Options(url=URL, trace=str(batch), model="mine", stream=True))
    assert request.payload.startswith(b"POST /v1/responses ")
    sent = json.loads(request.payload.partition(b"\r\n\r\n")[2])
    assert sent == body | {"model": "mine", "stream": True}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.jsonl", '{"timestamp": 0, "hash_ids": [1]}\n', "t.jsonl:1: expected Mooncake"),
        ("t.jsonl", "{\n", "t.jsonl:1: expected JSON"),
        ("t.csv", "TIMESTAMP,ContextTokens\nx,1\n", "t.csv:2: expected TIMESTAMP"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadTrace, match=said):
        list(plan(Options(url=URL, trace=str(tmp_path / name), concurrency="1")))


@pytest.mark.corpus
def test_the_public_traces_are_read_whole() -> None:
    folder = corpus("traces")
    for name, first_tokens in (
        ("mooncake_conversation.jsonl", 6758),
        ("azure_llm_2023_conv.csv", 374),
    ):
        found = list(itertools.islice(plan(Options(url=URL, trace=str(folder / name))), 100))
        times = [at_s for at_s, _ in found]
        assert times == sorted(times)
        body = json.loads(found[0][1].payload.partition(b"\r\n\r\n")[2])
        assert len(prompt_of(body).split()) == first_tokens
    assert len(read_prompts(folder / "mtbench_question.jsonl")) == 80


# ---- texts


@pytest.mark.parametrize(("cpu_s", "elapsed_s", "warned"), [(0.6, 1.0, False), (0.8, 1.0, True),
    (0.08, 0.1, False)])  # fmt: skip
def test_a_client_that_is_its_own_bottleneck_says_so(
    cpu_s: float, elapsed_s: float, warned: bool
) -> None:
    results = Results(8, 0.0, elapsed_s)
    results.tally.finished = 10_000
    end = {"waited_s": 0.0, "elapsed_s": elapsed_s, "unsent": 0, "abandoned": 0}
    results.end(end | {"cpu_s": cpu_s, "busy_s": elapsed_s})
    # Another, without a share of the load: its short life counts for what it was.
    results.end(end | {"cpu_s": 0.0, "busy_s": 0.0, "elapsed_s": 0.0})
    report = build_report(Options("http://127.0.0.1:1", concurrency="8"), [results])
    assert report["client"]["cpu_share"] == pytest.approx(cpu_s / elapsed_s)
    assert report["client"]["ceiling_requests_per_s"] == pytest.approx(10_000 / cpu_s, rel=1e-3)
    assert any("of its core" in warning for warning in report["warnings"]) == warned


def test_a_terminal_of_80_columns_holds_the_table() -> None:
    results = Results(64, 0.0)
    times = dict.fromkeys(("latency_p50_ms", "ttft_p50_ms", "ttft_p99_ms", "itl_p99_ms"), 345.67)
    counts = {"requests": 36_712, "events": 680_123, "in_flight": 256, "errors": 3}
    results.rows = [{"at_s": 12, **counts, **times, "latency_p99_ms": 1234.56}]
    results.tally.errors["disconnected when reused"] = 3
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of(Options("http://127.0.0.1:4000"), results))
    shown = console.export_text()
    assert "\u2026" not in shown
    for cell in ("in flight", "ITL p99", "680,123", "1,234.56", "3 x disconnected when reused"):
        assert cell in shown


def test_words_are_a_text_of_their_own_for_each_mark() -> None:
    words = Words()
    texts = [words.text(mark, 100) for mark in range(300)]
    assert {len(text.split()) for text in texts} == {100}
    assert len({text.split(" ", 1)[1] for text in texts}) == 300
    assert words.text(7, 1) == "#7"


@pytest.mark.parametrize(
    ("kind", "plain", "event"),
    [
        ("chat", {"choices": [{"message": {"content": "ab"}}]},
         {"choices": [{"delta": {"content": "ab"}}]}),
        ("completions", {"choices": [{"text": "ab"}]}, {"choices": [{"text": "ab"}]}),
        ("messages", {"content": [{"type": "text", "text": "ab"}]},
         {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ab"}}),
        ("responses", {"output": [{"content": [{"type": "output_text", "text": "ab"}]}]},
         {"type": "response.output_text.delta", "delta": "ab"}),
    ],
)  # fmt: skip
def test_the_text_of_an_answer_is_found(kind: str, plain: dict, event: dict) -> None:  # type: ignore[type-arg]
    assert text_of_answer(kind, False, json.dumps(plain).encode()) == "ab"
    said = b"event: x\ndata: %b\n\ndata: [DONE]\n\n" % json.dumps(event).encode()
    assert text_of_answer(kind, True, said) == "ab"
