"""Costs against the sum of fractions, straight from the fields that a configuration has."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastgate.spend.fields import steps_of
from fastgate.spend.price import Price

NANO = 10**9

# What each field charges for, and what else is charged as where it has no field of its own.
CHARGES = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "written_5m",
    "cache_creation_input_token_cost_above_1hr": "written_1h",
    "input_cost_per_audio_token": "audio_in",
    "input_cost_per_image_token": "image_in",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_audio_token": "audio_out",
    "output_cost_per_image_token": "image_out",
    "output_cost_per_image": "images",
    "input_cost_per_request": "requests",
    "input_cost_per_second": "seconds",
}
ELSE = {
    "cached": "input",
    "written_5m": "input",
    "written_1h": "written_5m",
    "audio_in": "input",
    "image_in": "input",
    "reasoning": "output",
    "audio_out": "output",
    "image_out": "output",
}
OTHER = ("images", "requests", "seconds")
TIERS = (32, 128, 200, 512)

# From femto-dollars to a few dollars: as published, and finer.
prices = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(-exponent),
    st.integers(0, 9_999_999),
    st.integers(7, 15),
)
tiered = st.builds(
    lambda name, tier: f"{name}_above_{tier}k_tokens" if tier else name,
    st.sampled_from(sorted(CHARGES)),
    st.sampled_from((0, 0, *TIERS)),
)
fields = st.dictionaries(tiered, prices, min_size=1, max_size=12)
counts = st.one_of(
    st.just(0),
    st.integers(0, 100),
    st.sampled_from([n * 1000 + d for n in TIERS for d in (0, 1)]),
    st.integers(0, 10**7),
)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, int]:
    """Return counts whose parts lie within their wholes."""
    inputs = [draw(counts) for _ in range(6)]
    outputs = [draw(counts) for _ in range(4)]
    return {
        "prompt": sum(inputs),
        "cached": inputs[1],
        "cache_write": inputs[2] + inputs[3],
        "cache_write_1h": inputs[3],
        "audio_in": inputs[4],
        "image_in": inputs[5],
        "completion": sum(outputs),
        "reasoning": outputs[1],
        "audio_out": outputs[2],
        "image_out": outputs[3],
        "images": draw(st.integers(0, 10)),
        "requests": draw(st.integers(0, 2)),
        "seconds_ns": draw(st.integers(0, 10**13)),
    }


def rate(fields: dict[str, Decimal], what: str, prompt: int) -> Fraction | None:
    """Return dollars for one of `what`; None: unknown."""
    held = [0] + [tier for tier in TIERS if tier * 1000 < prompt]
    named: dict[str, Fraction] = {}
    for tier in held:
        for name, charged in CHARGES.items():
            full = f"{name}_above_{tier}k_tokens" if tier else name
            if full in fields:
                named[charged] = Fraction(fields[full])
    while what not in named and what in ELSE:
        what = ELSE[what]
    if what in named:
        return named[what]
    free = what in OTHER or (bool(named) and set(named) <= set(OTHER))
    return Fraction(0) if free else None


def cost(fields: dict[str, Decimal], usage: dict[str, int]) -> int | None:
    parts = {
        "input": usage["prompt"]
        - sum(usage[part] for part in ("cached", "cache_write", "audio_in", "image_in")),
        "cached": usage["cached"],
        "written_5m": usage["cache_write"] - usage["cache_write_1h"],
        "written_1h": usage["cache_write_1h"],
        "audio_in": usage["audio_in"],
        "image_in": usage["image_in"],
        "output": usage["completion"]
        - sum(usage[part] for part in ("reasoning", "audio_out", "image_out")),
        "reasoning": usage["reasoning"],
        "audio_out": usage["audio_out"],
        "image_out": usage["image_out"],
        "images": usage["images"],
        "requests": usage["requests"],
        "seconds": Fraction(usage["seconds_ns"], NANO),
    }
    total = Fraction(0)
    for what, count in parts.items():
        if count:
            each = rate(fields, what, usage["prompt"])
            if each is None:
                return None
            total += count * each
    return math.floor(total * NANO + Fraction(1, 2))


def compiled(fields: dict[str, Decimal]) -> Price:
    try:
        return Price("test", steps_of(fields))
    except ValueError:
        assume(False)
        raise


@settings(max_examples=800, deadline=None)
@given(fields, usages())
def test_a_cost_is_the_sum_of_fractions_rounded_once(
    fields: dict[str, Decimal], usage: dict[str, int]
) -> None:
    assert compiled(fields).cost_nano(**usage) == cost(fields, usage)


@settings(max_examples=500, deadline=None)
@given(fields, usages(), st.integers(0, 100_000), st.integers(1, 4))
def test_no_request_within_its_bounds_costs_more_than_was_reserved(
    fields: dict[str, Decimal], usage: dict[str, int], room: int, n: int
) -> None:
    price = compiled(fields)
    usage = {**usage, "requests": 1, "seconds_ns": 0, "images": min(n, usage["images"])}
    most = price.max_cost_nano(usage["prompt"] + room, -(-usage["completion"] // n), n)
    spent = price.cost_nano(**usage)
    if most is not None:
        assert spent is not None
        assert spent <= most


@settings(max_examples=500, deadline=None)
@given(
    st.decimals(0, 1000, places=4),
    st.integers(1, 64),
    st.tuples(*[st.integers(1, 100_000)] * 3),
    st.tuples(*[st.integers(0, 10**7)] * 3),
)
def test_an_engine_costs_its_share_of_the_hour(
    gpu_hour_usd: Decimal, gpus: int, tps: tuple[int, int, int], tokens: tuple[int, int, int]
) -> None:
    names = ("prefill_tps", "cached_prefill_tps", "decode_tps")
    price = compiled(
        {
            "gpu_hour_usd": gpu_hour_usd,
            "gpus": Decimal(gpus),
            **{name: Decimal(value) for name, value in zip(names, tps, strict=True)},
        }
    )
    uncached, cached, decoded = tokens
    seconds = sum(Fraction(count, rate) for count, rate in zip(tokens, tps, strict=True))
    true = seconds / 3600 * gpus * Fraction(gpu_hour_usd) * NANO
    assert price.cost_nano(uncached + cached, cached, completion=decoded) == math.floor(
        true + Fraction(1, 2)
    )


def test_a_known_case_by_hand() -> None:
    fields: dict[str, Any] = {
        "input_cost_per_token": Decimal("0.0000025"),
        "cache_read_input_token_cost": Decimal("0.00000125"),
        "output_cost_per_token": Decimal("0.00001"),
    }
    usage = dict.fromkeys(
        ("cache_write", "cache_write_1h", "audio_in", "image_in", "reasoning"), 0
    ) | dict.fromkeys(("audio_out", "image_out", "images", "seconds_ns"), 0)
    usage |= {"prompt": 2006, "cached": 1920, "completion": 300, "requests": 1}
    # 86 x 2500 + 1920 x 1250 + 300 x 10000
    assert cost(fields, usage) == compiled(fields).cost_nano(**usage) == 5_615_000
