"""Every published price, compiled, against the package's own decimal arithmetic."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from genai_prices.types import ModelPrice, Provider, TieredPrices, Usage

from fastgate.spend import catalogue
from fastgate.spend.price import Price

NANO = Decimal("1e-9")

# Ours -> the package's names of what was counted.
NAMES = {
    "prompt": "input_tokens",
    "cached": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "audio_in": "input_audio_tokens",
    "image_in": "input_image_tokens",
    "completion": "output_tokens",
    "reasoning": "output_reasoning_tokens",
    "audio_out": "output_audio_tokens",
    "image_out": "output_image_tokens",
}
INPUTS = ("prompt", "cached", "cache_write", "cache_write_1h", "audio_in", "image_in")
# Which of the package's prices charge for which of our counts.
KEYS = {
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_in": "input_audio_mtok",
    "image_in": "input_image_mtok",
    "reasoning": "output_reasoning_mtok",
    "audio_out": "output_audio_mtok",
    "image_out": "output_image_mtok",
}


def models() -> Iterator[tuple[Provider, Any]]:
    snapshot = importlib.import_module(catalogue.SOURCE).get_snapshot()
    for provider in snapshot.providers:
        for model in provider.models:
            yield provider, model


def times(model: Any) -> list[datetime]:
    """Return moments on both sides of everything that changes the model's price."""
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    found = {now}
    if isinstance(model.prices, list):
        for each in model.prices:
            constraint = each.constraint
            if hasattr(constraint, "start_date"):
                start = datetime.combine(constraint.start_date, now.min.time(), UTC)
                found |= {start, start - timedelta(seconds=1)}
            elif hasattr(constraint, "start_time"):
                for moment in (constraint.start_time, constraint.end_time):
                    start = datetime.combine(now.date(), moment.replace(tzinfo=UTC))
                    found |= {start, start - timedelta(seconds=1)}
    return sorted(found)


def thresholds(price: ModelPrice) -> list[int]:
    tiers = [p.tiers for p in vars(price).values() if isinstance(p, TieredPrices)]
    return sorted({tier.start for each in tiers for tier in each})


def usages(price: ModelPrice) -> Iterator[dict[str, int]]:
    """Yield counts on both sides of every tier, with a part for each price that there is."""
    has = vars(price)
    parts = {name: 100 + 7 * i for i, name in enumerate(KEYS) if has.get(KEYS[name]) is not None}
    for prompt in [1, 997, *(start + d for start in thresholds(price) for d in (0, 1))]:
        inputs = {name: n for name, n in parts.items() if name in INPUTS}
        if "cache_write_1h" in inputs:
            inputs["cache_write"] += inputs["cache_write_1h"]
        fits = sum(inputs.values()) <= prompt
        completion = 1013 if has.get("output_mtok") is not None else 0
        outputs = {name: n for name, n in parts.items() if name not in INPUTS}
        yield {
            **(inputs if fits else {}),
            **(outputs if completion else {}),
            "prompt": prompt if has.get("input_mtok") is not None else 0,
            "completion": completion,
        }


def test_every_published_price_is_compiled_exactly() -> None:
    compared = tiers = 0
    for provider, model in models():
        for at in times(model):
            published = model.get_prices(at)
            steps = catalogue.steps_of(provider.id, model.id, at)
            found = provider.find_model(model.id)
            if steps is None or found is not model:
                # What has no price of tokens or time, or is shadowed by a model listed before.
                continue
            price = Price("genai-prices", steps)
            tiers += len(steps) - 1
            if vars(published).get("input_mtok") is None:
                continue
            for usage in usages(published):
                counted = {NAMES[name]: count for name, count in usage.items()}
                # We do not know of cached audio, so all that is cached is text.
                theirs = published.calc_price(
                    Usage(**counted, cache_audio_read_tokens=0, cache_image_read_tokens=0)
                )["total_price"]
                exact = theirs.quantize(NANO, ROUND_HALF_UP) / NANO
                assert price.cost_nano(**usage) == exact, (provider.id, model.id, at, usage)
                compared += 1
    # That nothing was left out unseen: the package listed 2,330 models when this was written.
    assert compared > 5000
    assert tiers > 100


def test_published_prices_per_second_are_exact() -> None:
    compared = 0
    for provider, model in models():
        published = model.get_prices(datetime(2026, 11, 1, tzinfo=UTC))
        has = {key for key, value in vars(published).items() if value is not None}
        if not has or has - {"audio_hours", "input_audio_hours"}:
            continue
        steps = catalogue.steps_of(provider.id, model.id, datetime(2026, 11, 1, tzinfo=UTC))
        assert steps is not None
        for seconds in (1, 7, 3600):
            theirs = published.calc_price(
                Usage(audio_seconds=seconds, input_audio_seconds=seconds)
            )["total_price"]
            cost = Price("genai-prices", steps).cost_nano(seconds_ns=seconds * 10**9)
            assert cost == theirs.quantize(NANO, ROUND_HALF_UP) / NANO
            compared += 1
    assert compared > 10
