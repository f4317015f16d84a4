"""Published prices: what vendors charge, by provider and model, from the genai-prices package.

The package is optional (`pip install 'fastgate[prices]'`), costs 30 MB and 0.2 s to load, and reads
nothing from the network. So it is loaded when first asked for, and only the control process asks.

Of what it lists, only what we meter is taken over: a model charged by the character or the page has
no price here, and web searches beside the tokens are not charged. A model listed without any price
is unknown, not free, unless its name says so.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fastgate.spend.price import Lanes

__all__ = ["MISSING", "available", "changes", "steps_of"]

SOURCE = "genai_prices.data_snapshot"
MISSING = (
    "published prices are not installed: what the configuration does not price costs an unknown "
    "amount; pip install 'fastgate[prices]'"
)

_MILLION, _THOUSAND, _HOUR = 1_000_000, 1000, 3600
_LANES = {
    "input_mtok": ("input", _MILLION),
    "cache_read_mtok": ("cached", _MILLION),
    "cache_write_mtok": ("cache_write", _MILLION),
    "cache_write_1h_mtok": ("cache_write_1h", _MILLION),
    "input_audio_mtok": ("audio_in", _MILLION),
    "input_image_mtok": ("image_in", _MILLION),
    "output_mtok": ("output", _MILLION),
    "output_reasoning_mtok": ("reasoning", _MILLION),
    "output_audio_mtok": ("audio_out", _MILLION),
    "output_image_mtok": ("image_out", _MILLION),
    "requests_kcount": ("requests", _THOUSAND),
    "audio_hours": ("seconds", _HOUR),
    # Stands beside audio_hours, and is what transcription is charged by.
    "input_audio_hours": ("seconds", _HOUR),
}
"""Its keys: the lane, and how many of it the price is for."""
_FREE = ":free"


def available() -> bool:
    """Return whether the package is installed, without loading it."""
    return importlib.util.find_spec("genai_prices") is not None


def steps_of(provider: str, model: str, at: datetime) -> dict[int, Lanes] | None:
    """Return what a `Price` is made of; None: no price is published for it.

    `provider` is the package's id; `model` any name by which the vendor takes requests for it.
    """
    info = _model(provider, model)
    if info is None:
        return None
    steps: dict[int, dict[str, Fraction]] = {-1: {}}
    for key, price in vars(info.get_prices(at)).items():
        if key not in _LANES or price is None:
            continue
        lane, per = _LANES[key]
        steps[-1][lane] = _usd(getattr(price, "base", price), per)
        for tier in getattr(price, "tiers", ()):
            steps.setdefault(tier.start, {})[lane] = _usd(tier.price, per)
    if not steps[-1]:
        free = info.id.endswith(_FREE) and model.endswith(_FREE)
        return {-1: {"requests": Fraction(0)}} if free else None
    return dict(steps)


def changes(provider: str, model: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the moments between `start` and `end` at which the model's price may change."""
    info = _model(provider, model)
    if info is None or not isinstance(info.prices, list):
        return
    for constraint in (each.constraint for each in info.prices):
        if hasattr(constraint, "start_date"):
            yield datetime.combine(constraint.start_date, time(), UTC)
        elif hasattr(constraint, "start_time"):
            # One day early: a time with an offset may fall on the day before or after.
            day = start.date() - timedelta(days=1)
            while day <= end.date() + timedelta(days=1):
                for moment in (constraint.start_time, constraint.end_time):
                    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                    yield datetime.combine(day, moment).astimezone(UTC)
                day += timedelta(days=1)


def _usd(price: Decimal, per: int) -> Fraction:
    return Fraction(price) / per


def _model(provider: str, model: str) -> Any:
    """Return the package's entry for a model, or None."""
    if not available():
        return None
    # Not by the package's own look-up: it remembers every name, and clients make names up.
    snapshot = importlib.import_module(SOURCE).get_snapshot()
    for known in snapshot.providers:
        if known.id == provider:
            return known.find_model(model, all_providers=snapshot.providers)
    return None
