"""The words that prices are written in: LiteLLM's fields, and ours for engines of one's own.

They stand under `litellm_params`, under `model_info` and in the entries of
`fastgate_settings.prices`; all amounts are dollars. `config/prices.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from fastgate.spend.price import Lanes

__all__ = ["ENGINE", "FIELDS", "Field", "steps_of", "tier_of"]

SECONDS_PER_HOUR = 3600
BASE = -1
"""The step that holds for any number of prompt tokens."""


class Field(NamedTuple):
    """A field that is a price."""

    lane: str
    """What is priced, by the names of `_core.cost`."""
    meaning: str


FIELDS = {
    "input_cost_per_token": Field("input", "Dollars for a token of the prompt."),
    "output_cost_per_token": Field("output", "Dollars for a token of the answer."),
    "cache_read_input_token_cost": Field(
        "cached", "For one read from the provider's cache; default: as any other."
    ),
    "cache_creation_input_token_cost": Field(
        "cache_write", "For one written to that cache; default: as any other."
    ),
    "cache_creation_input_token_cost_above_1hr": Field(
        "cache_write_1h", "For one written to be kept an hour; default: as for five minutes."
    ),
    "input_cost_per_audio_token": Field("audio_in", "For audio in the prompt; default: as text."),
    "input_cost_per_image_token": Field("image_in", "For images in the prompt; default: as text."),
    "output_cost_per_reasoning_token": Field(
        "reasoning", "For reasoning; default: as the rest of the answer."
    ),
    "output_cost_per_audio_token": Field("audio_out", "For audio answered; default: as text."),
    "output_cost_per_image_token": Field("image_out", "For images answered; default: as text."),
    "output_cost_per_image": Field("images", "Dollars for an image made."),
    "input_cost_per_request": Field("requests", "Dollars for a request."),
    "input_cost_per_query": Field("requests", "The same, as rerank models call it."),
    "input_cost_per_second": Field("seconds", "Dollars for a second of audio, or of the request."),
    "output_cost_per_second": Field("seconds", "The same; where both are given they add up."),
}
"""Each may have a tier behind it, `_above_200k_tokens` or any number of thousands: what holds for
the whole of a request with a longer prompt."""

ENGINE = {
    "gpu_hour_usd": "Dollars for an hour of one GPU of an engine of your own.",
    "gpus": "How many GPUs the engine runs on; default: 1.",
    "prefill_tps": "Prompt tokens that the whole engine computes in a second.",
    "cached_prefill_tps": "Prompt tokens that it takes from its cache; default: as `prefill_tps`.",
    "decode_tps": "Tokens that it answers in a second, with its usual batch.",
}
"""Whose price is that of the engine's time: a token's share of a second is 1 / tps."""

_TIMES = {"input": "prefill_tps", "cached": "cached_prefill_tps", "output": "decode_tps"}
_TIER = re.compile(r"(.+)_above_([1-9][0-9]{0,5})k_tokens")


def tier_of(name: str) -> tuple[str, int]:
    """Return a field's name without its tier, and the prompt tokens above which it holds."""
    match = _TIER.fullmatch(name)
    return (match[1], int(match[2]) * 1000) if match and match[1] in FIELDS else (name, BASE)


def steps_of(fields: Mapping[str, Decimal]) -> dict[int, Lanes]:
    """Return what a `Price` is made of."""
    if "gpu_hour_usd" in fields:
        second = Fraction(fields["gpu_hour_usd"]) * Fraction(fields.get("gpus", 1))
        second /= SECONDS_PER_HOUR
        lanes = {
            lane: second / Fraction(fields[name]) for lane, name in _TIMES.items() if name in fields
        }
        return {BASE: lanes}
    steps: dict[int, dict[str, Fraction]] = {BASE: {}}
    for name, usd in fields.items():
        base, above = tier_of(name)
        if base in FIELDS:
            step = steps.setdefault(above, {})
            lane = FIELDS[base].lane
            step[lane] = step.get(lane, Fraction(0)) + Fraction(usd)
    return dict(steps)
