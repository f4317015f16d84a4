"""Token counting beside tiktoken and bpe-openai: MB/s per kind of text, cold and warm.

Cold is the first count of a text by a counter that has seen none; warm is a count of text that was
counted before, as system prompts and histories are. The texts are the machine's own sources and
what a generator makes of Unicode (bench/texts.py). Each figure is the best of several rounds over
pieces of 32 KiB, taken piece by piece in turn, so that what else the machine does is left out.
All three must agree on every count.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import tiktoken
import tiktoken_ext.openai_public as public

from bench.texts import KINDS, text_of
from fastgate._core.bpe import Count, Counter
from fastgate.tokens import SLICE_BYTES
from fastgate.tokens.encodings import ranks

__all__ = ["main"]

ENCODINGS = ("cl100k_base", "o200k_base")
PIECE = 1 << 15
ROUNDS = 9
COLUMNS = (
    *("cold", "warm", "tiktoken", "bpe-openai", "warm / tiktoken", "warm / bpe-openai"),
    "worst cold slice, ms",
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench tokens",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = ", ".join(KINDS)
    parser.add_argument("--kinds", default="prose,code,chinese,arabic,emoji,runs", help=kinds)
    parser.add_argument("--kb", type=int, default=500, help="characters of each kind, in 1,000")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(argv)
    wanted = options.kinds.split(",")
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        parser.error(f"expected kinds of {kinds}, got {', '.join(unknown)}")
    if options.kb < 1:
        parser.error(f"expected --kb to be at least 1, got {options.kb}")
    report = {name: measure(name, wanted, options.kb * 1000) for name in ENCODINGS}
    print(show(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def measure(name: str, kinds: Iterable[str], size: int) -> dict[str, dict[str, float]]:
    """Return kind -> column -> figure; under "load" what a counter takes."""
    text = ranks(name)
    tiktokens = tiktoken_with(name, text)
    # What its Python layer wraps, and slows down; imported here, for that takes a second.
    rust = importlib.import_module("bpe_openai._bindings").tokenizer_for_encoding(name)
    before = time.perf_counter()
    counter = fresh(name, text)
    load_ms = (time.perf_counter() - before) * 1e3
    report = {"load": {"ms": round(load_ms), "MB": round(counter.memory_bytes / 1e6, 1)}}
    for kind in kinds:
        whole = text_of(kind, size, 1)
        parts = [whole[i : i + PIECE] for i in range(0, len(whole), PIECE)]
        data = [part.encode() for part in parts]
        counter, another = fresh(name, text), fresh(name, text)
        total = sum(map(len, data)) / 1e6
        cold = total / seconds(counter.count, data, rounds=1)
        warm = total / seconds(counter.count, data)
        theirs = total / seconds(tiktokens.encode_ordinary, parts, rounds=3)
        rusts = total / seconds(rust.count, parts, rounds=3)
        slice_ms = 1e3 * max(worst_slice(another, part) for part in data)
        figures = (cold, warm, theirs, rusts, warm / theirs, warm / rusts, slice_ms)
        report[kind] = {
            column: round(figure, 2) for column, figure in zip(COLUMNS, figures, strict=True)
        }
        for part, encoded in zip(parts, data, strict=True):
            counts = (
                counter.count(encoded),
                len(tiktokens.encode_ordinary(part)),
                rust.count(part),
            )
            if len(set(counts)) > 1:
                raise RuntimeError(f"{name}, {kind}: counts differ: {counts}")
    return report


def fresh(name: str, text: bytes) -> Counter:
    return Counter(text, name.removesuffix("_base"))


def seconds(
    count: Callable[[str], object] | Callable[[bytes], object],
    parts: list[str] | list[bytes],
    rounds: int = ROUNDS,
) -> float:
    """Return the time for all parts, each taken at its best."""
    best = [float("inf")] * len(parts)
    for _ in range(rounds):
        for i, part in enumerate(parts):
            before = time.perf_counter()
            count(part)  # type: ignore[arg-type]
            best[i] = min(best[i], time.perf_counter() - before)
    return sum(best)


def worst_slice(counter: Counter, data: bytes) -> float:
    count, worst, done = Count(counter, data), 0.0, False
    while not done:
        before = time.perf_counter()
        done = count.advance(SLICE_BYTES)
        worst = max(worst, time.perf_counter() - before)
    return worst


def tiktoken_with(name: str, text: bytes) -> tiktoken.Encoding:
    """Return tiktoken's own encoding, its ranks taken from `text` instead of the network."""
    lines = (line.split() for line in text.splitlines())
    mergeable = {base64.b64decode(token): int(rank) for token, rank in lines}
    kept = public.load_tiktoken_bpe
    public.load_tiktoken_bpe = lambda url, expected_hash: mergeable
    try:
        return tiktoken.Encoding(**public.ENCODING_CONSTRUCTORS[name]())
    finally:
        public.load_tiktoken_bpe = kept


def show(report: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for name, kinds in report.items():
        load = kinds["load"]
        lines += [f"{name}: built in {load['ms']} ms, {load['MB']} MB", ""]
        lines.append("| MB/s | " + " | ".join(COLUMNS) + " |")
        lines.append("| --- |" + " ---: |" * len(COLUMNS))
        lines += [
            f"| {kind} | " + " | ".join(f"{speeds[column]:.3g}" for column in COLUMNS) + " |"
            for kind, speeds in kinds.items()
            if kind != "load"
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
