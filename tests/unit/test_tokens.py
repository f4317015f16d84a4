"""Names to vocabularies, vocabularies to counters, requests to counts, usage to a ratio."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from bench.texts import text_of
from fastgate.tokens import (
    Ratio,
    VocabularyMissing,
    count_messages,
    counter,
    encoding_for,
    encodings,
)
from tests.corpus import corpus

CL100K_FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""How tiktoken names its download of cl100k_base."""


# Models


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("azure/eu/gpt-4.1-mini", "o200k_base"),
        ("ft:gpt-4o-mini:acme::abc", "o200k_base"),
        ("gpt-5.2-codex", "o200k_base"),
        ("GPT-5", "o200k_base"),
        ("openai/gpt-oss-120b", "o200k_base"),
        ("o1", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4@latest", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("ft:gpt-3.5-turbo:acme", "cl100k_base"),
        ("text-embedding-3-large", "cl100k_base"),
        ("gpt-4.7", None),
        ("gpt-40", None),
        ("o11", None),
        ("claude-sonnet-4-5", None),
        ("hosted_vllm/llama-3.1-8b", None),
        ("", None),
    ],
)
def test_the_encoding_of_a_model_follows_from_its_name(model: str, encoding: str | None) -> None:
    assert encoding_for(model) == encoding


# Vocabularies


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "_PACKAGE", "a_package_that_is_not_there")
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)


def test_a_counter_is_built_once() -> None:
    assert counter("cl100k_base") is counter("cl100k_base")
    assert counter("cl100k_base").count(b"hello world") == 2


def test_the_vocabularys_package_is_read_and_not_imported() -> None:
    script = (
        "import sys; from fastgate.tokens import counter; counter('cl100k_base');"
        "print([name for name in sys.modules if name.startswith(('bpe_openai', 'tokenizers'))])"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True)
    assert run.stdout.strip() == b"[]"


@pytest.mark.parametrize("name", ["p50k_base", "gpt-4o", "", "cl100k"])
def test_a_name_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of cl100k_base, o200k_base, or a path"):
        counter(name)


@pytest.mark.usefixtures("no_package")
def test_a_missing_vocabulary_names_the_extra() -> None:
    with pytest.raises(VocabularyMissing, match=r"pip install 'fastgate\[tokens\]'.*_CACHE_DIR"):
        encodings.ranks("cl100k_base")


@pytest.mark.usefixtures("no_package")
def test_tiktokens_own_cache_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as restored:
        restored.setattr(encodings, "_PACKAGE", "bpe_openai")
        text = encodings.ranks("cl100k_base")
    (tmp_path / CL100K_FILE).write_bytes(text)
    assert encodings.ranks("cl100k_base") == text


@pytest.mark.usefixtures("no_package")
def test_another_file_of_that_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / CL100K_FILE).write_bytes(b"IQ== 0\n")
    with pytest.raises(VocabularyMissing, match="is not OpenAI's file: its SHA-256 differs"):
        encodings.ranks("cl100k_base")


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 999)[:20]])
def test_a_damaged_file_of_the_package_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged_vocabularies/data").mkdir(parents=True)
    (tmp_path / "damaged_vocabularies/data/o200k_base.tiktoken.gz").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(encodings, "_PACKAGE", "damaged_vocabularies")
    with pytest.raises(VocabularyMissing, match=r"o200k_base\.tiktoken\.gz: Error -\d"):
        encodings.ranks("o200k_base")


def test_a_tokenizer_json_counts_by_its_library(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["hello hello hello world"], trainer)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    assert counter(str(path)).count(b"hello hello") == 2
    assert counter(str(path)).count("é\ufffd".encode()) == counter(str(path)).count(b"\xc3\xa9\xff")


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"model": 1}'])
def test_what_is_no_tokenizer_json_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json is not a tokenizer\.json: "):
        counter(str(path))


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(VocabularyMissing, match=r"reads x\.json: pip install 'fastgate\[tokens\]'"):
        counter("x.json")


# Messages

TOOL = {
    "name": "find_train",
    "description": "Find the next train.",
    "parameters": {
        "type": "object",
        "properties": {
            "to": {"type": "string", "description": "Where to."},
            "class": {"type": "string", "enum": ["first", "second"]},
        },
    },
}


def words(text: str, encoding: str = "o200k_base") -> int:
    return counter(encoding).count(text.encode())


def content(*parts: object) -> int:
    """Count a message's content alone."""
    empty = count_messages("gpt-4o", [{"role": "user", "content": ""}])
    return count_messages("gpt-4o", [{"role": "user", "content": list(parts)}]) - empty


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-sonnet-4-5"])
def test_a_message_of_text_costs_its_role_its_text_and_three(model: str) -> None:
    encoding = encoding_for(model) or "o200k_base"
    message = {"role": "user", "content": "What is the time?"}
    expected = 3 + 3 + words("user", encoding) + words("What is the time?", encoding)
    assert count_messages(model, [message]) == expected
    assert count_messages(model, [{**message, "name": "ann"}]) == (
        expected + words("ann", encoding) + 1
    )
    assert count_messages(model, []) == 3


@pytest.mark.parametrize(("model", "start"), [("gpt-4o", 7), ("gpt-4", 10)])
@pytest.mark.parametrize("shape", ["function", "input_schema", "bare"])
def test_a_tool_costs_by_its_properties_and_choices(model: str, start: int, shape: str) -> None:
    tools: dict[str, dict[str, Any]] = {
        "function": {"type": "function", "function": TOOL},
        "input_schema": {
            "name": TOOL["name"],
            "description": TOOL["description"],
            "input_schema": TOOL["parameters"],
        },
        "bare": TOOL,
    }
    encoding = encoding_for(model) or ""
    lines = ["find_train:Find the next train", "to:string:Where to", "class:string:"]
    lines += ["first", "second"]
    expected = start + 3 + 2 * 3 - 3 + 2 * 3 + 12 + sum(words(line, encoding) for line in lines)
    assert count_messages(model, [], [tools[shape]]) == 3 + expected
    assert count_messages(model, [], []) == 3


def test_blocks_of_either_api_count_by_their_text() -> None:
    assert content({"type": "text", "text": "Hello there"}) == words("Hello there")
    assert content({"type": "thinking", "thinking": "Hm"}) == words("Hm")
    assert content({"type": "tool_use", "name": "f", "input": {"a": 1}}) == words("f") + words(
        '{"a": 1}'
    )
    nested = {"type": "tool_result", "content": [{"type": "text", "text": "It is noon"}]}
    assert content(nested) == words("It is noon")


def test_calls_of_tools_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    plain = count_messages("gpt-4o", [{"role": "assistant", "content": None}])
    called = count_messages("gpt-4o", [{"role": "assistant", "tool_calls": [call]}])
    assert called - plain == words("f") + words('{"a":1}')


def test_pictures_cost_by_their_detail_and_not_by_their_bytes() -> None:
    url = "data:image/png;base64," + "A" * 10_000
    assert content({"type": "image_url", "image_url": {"url": url, "detail": "low"}}) == 85
    assert content({"type": "input_image", "image_url": url, "detail": "low"}) == 85
    assert content({"type": "image_url", "image_url": {"url": url}}) == 765
    assert content({"type": "image", "source": {"type": "base64", "data": url}}) == 765


def test_half_a_surrogate_pair_counts_as_a_replacement_character() -> None:
    assert content("a\ud800b") == words("a\ufffdb")
    assert content("\ud83d\ude00") == words("\U0001f600")


@pytest.mark.parametrize("odd", [None, 1, 1.5, True, {}, [[]], [None], {"type": "text"}, "x"])
def test_what_has_no_meaning_counts_nothing_and_does_no_harm(odd: object) -> None:
    message = {"role": odd, "content": odd, "tool_calls": odd, "name": odd, "other": odd}
    assert count_messages("gpt-4o", [message]) >= 6
    tools = [{"function": odd}, {"parameters": odd}, {"parameters": {"properties": odd}}]
    tools += [{"parameters": {"properties": {"a": odd, "b": {"enum": odd, "type": odd}}}}]
    assert count_messages("gpt-4o", [], tools) >= 12


def test_deep_blocks_do_not_recurse() -> None:
    deep: dict[str, object] = {"text": "x"}
    for _ in range(50_000):
        deep = {"content": deep}
    assert content(deep) == 1


def recorded() -> list[tuple[dict[str, Any], str, int]]:
    """Return (request, model, prompt tokens by the provider) of recorded chats."""
    folder = corpus("cassettes")
    found = []
    for line in (folder / "index.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if (entry["provider"], entry["endpoint"], entry["format"]) != ("openai", "chat", "json"):
            continue
        if entry["status"] != 200 or entry["multimodal"] or not entry["request_file"]:
            continue
        request = json.loads((folder / entry["request_file"]).read_text())
        response = json.loads((folder / entry["response_file"]).read_text())
        if "messages" in request and response.get("usage"):
            found.append((request, response["model"], response["usage"]["prompt_tokens"]))
    return found


@pytest.mark.corpus
def test_counts_are_what_the_provider_billed() -> None:
    exchanges = recorded()
    assert len(exchanges) >= 3
    for request, model, billed in exchanges:
        tools = request.get("tools")
        counted = count_messages(model, request["messages"], tools)
        assert abs(counted - billed) <= (0.05 * billed if tools else 0), model


# The ratio


def prompts(kind: str, count: int) -> list[tuple[int, int]]:
    """Return (bytes, tokens) of prompts from 64 to 8,192 bytes, each with a template's cost."""
    pick = random.Random(kind)
    text = text_of(kind, 300_000, 3).encode()
    found = []
    for _ in range(count):
        size = int(2 ** pick.uniform(6, 13))
        at = pick.randrange(len(text) - size)
        found.append((size, words(text[at : at + size].decode("utf-8", "ignore")) + 7))
    return found


@pytest.mark.parametrize("kind", ["prose", "code", "chinese", "arabic", "cyrillic", "base64"])
def test_after_fifty_requests_estimates_sum_up_within_ten_percent(kind: str) -> None:
    ratio = Ratio()
    before, after = prompts(kind, 50), prompts(kind, 550)[50:]
    for size, tokens in before:
        ratio.learn(size, tokens)
    estimated = sum(ratio.estimate(size) for size, _ in after)
    assert estimated == pytest.approx(sum(tokens for _, tokens in after), rel=0.1)


def test_a_ratio_follows_a_change_of_traffic() -> None:
    ratio = Ratio()
    for size, tokens in prompts("prose", 200):
        ratio.learn(size, tokens)
    after = prompts("chinese", 200)
    for size, tokens in after:
        ratio.learn(size, tokens)
    total = sum(size for size, _ in after)
    assert ratio.estimate(total) == pytest.approx(sum(tokens for _, tokens in after), rel=0.1)


def test_a_new_ratio_is_four_bytes_a_token_rounded_up() -> None:
    assert Ratio().bytes_per_token == 4
    assert [Ratio().estimate(size) for size in (0, 1, 4, 5, 400)] == [0, 1, 1, 2, 100]


@pytest.mark.parametrize(("size", "tokens"), [(0, 5), (5, 0), (-1, 5), (5, -1)])
def test_usage_that_can_not_be_teaches_nothing(size: int, tokens: int) -> None:
    ratio = Ratio()
    ratio.learn(size, tokens)
    assert ratio.bytes_per_token == 4
