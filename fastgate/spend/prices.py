"""Which price holds for a request: sources in order, and the time at which each holds.

    fastgate_settings.prices    the entry that names it most exactly; of those, the latest begun
    the deployment              price fields of litellm_params and model_info
    the catalogue               published prices, by provider and model
    unknown                     the cost is null: counted and warned about, never 0

The first source that knows a price gives the whole of it; nothing is mixed. Control compiles, since
only it has the catalogue; workers get cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from fastgate.config.patterns import literal_length, matches
from fastgate.config.schema import Deployment, PriceEntry
from fastgate.providers.registry import registry
from fastgate.spend import catalogue, fields
from fastgate.spend.price import EVER_US, Price, encoded

__all__ = [
    "HORIZON",
    "Price",
    "compile_price",
    "compile_schedule",
    "configured",
    "periods",
    "unix_us",
]

HORIZON = timedelta(days=2)
"""How far ahead workers know of changes: with one compilation a day, never less than a day."""

FROM_SETTINGS = "fastgate_settings.prices"
FROM_DEPLOYMENT = "model_list"
FROM_CATALOGUE = "genai-prices"
FAR_US = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def compile_price(
    deployment: Deployment,
    upstream_model: str,
    at: datetime,
    entries: Sequence[PriceEntry] = (),
) -> Price | None:
    """Return what `upstream_model` costs at `deployment` at the moment `at`; None: unknown.

    `entries` are those of the configuration. `at` has a time zone.
    """
    entry = _entry(entries, deployment, upstream_model, unix_us(at))
    if entry is not None:
        return Price(FROM_SETTINGS, fields.steps_of(entry.fields))
    if deployment.prices:
        return Price(FROM_DEPLOYMENT, fields.steps_of(deployment.prices))
    for provider, model in _published_names(deployment, upstream_model):
        steps = catalogue.steps_of(provider, model, at)
        if steps is not None:
            # What can't be compiled exactly is unknown, as is what isn't listed.
            with suppress(ValueError):
                return Price(FROM_CATALOGUE, steps)
    return None


def compile_schedule(
    deployment: Deployment,
    upstream_model: str,
    at: datetime,
    entries: Sequence[PriceEntry] = (),
) -> bytes:
    """Return the cards (`Rates.decode`) of what holds at `at`, and of each change up to HORIZON.

    So that a price begins to hold with the first request of its day, in all workers.
    """
    return encoded(periods(deployment, upstream_model, at, at + HORIZON, entries))


def configured(deployment: Deployment, entries: Sequence[PriceEntry]) -> bytes:
    """Return the cards of what the configuration alone says, for ever; empty: it says nothing of
    some time, or the deployment takes any model. The catalogue is not loaded for it.
    """
    model = deployment.model
    if "*" in model:
        return b""
    mine = [e for e in entries if _entry([e], deployment, model, FAR_US) is not None]
    if not deployment.prices and not any(entry.since_us < 0 for entry in mine):
        return b""
    moments = sorted({entry.since_us for entry in mine if entry.since_us >= 0})
    found: list[tuple[int, Price | None]] = []
    for moment_us in [EVER_US, *moments]:
        at = _EPOCH + max(moment_us, 0) * _MICROSECOND
        price = compile_price(deployment, model, at, mine)
        if not found or price != found[-1][1]:
            found.append((moment_us, price))
    return encoded(found)


def periods(
    deployment: Deployment,
    upstream_model: str,
    start: datetime,
    end: datetime,
    entries: Sequence[PriceEntry] = (),
) -> list[tuple[int, Price | None]]:
    """Return every price from `start` to `end`, each with the Unix time in µs when it begins.

    The first one holds for what was before, too.
    """
    moments = {_EPOCH + entry.since_us * _MICROSECOND for entry in entries if entry.since_us >= 0}
    for provider, model in _published_names(deployment, upstream_model):
        moments.update(catalogue.changes(provider, model, start, end))
    found = [(EVER_US, compile_price(deployment, upstream_model, start, entries))]
    for moment in sorted(moment for moment in moments if start < moment <= end):
        price = compile_price(deployment, upstream_model, moment, entries)
        if price != found[-1][1]:
            found.append((unix_us(moment), price))
    return found


def _entry(
    entries: Iterable[PriceEntry], deployment: Deployment, upstream_model: str, at_us: int
) -> PriceEntry | None:
    """Return the entry that holds; of two that are alike in all, the one listed later."""
    found = [
        entry
        for entry in entries
        if entry.since_us <= at_us
        and entry.deployment in ("", deployment.id)
        and entry.provider in ("", deployment.provider)
        and matches(entry.model, upstream_model)
    ]
    return max(reversed(found), key=_exactness, default=None)


def _exactness(entry: PriceEntry) -> tuple[bool, bool, int, bool, int]:
    return (
        bool(entry.deployment),
        "*" not in entry.model,
        literal_length(entry.model),
        bool(entry.provider),
        entry.since_us,
    )


def _published_names(deployment: Deployment, upstream_model: str) -> list[tuple[str, str]]:
    """Return provider and model as the catalogue may know them; `base_model` wins."""
    published = registry().published
    name = deployment.base_model or upstream_model
    prefix, slash, rest = name.partition("/")
    found = []
    if deployment.base_model and slash and prefix in published:
        found.append((published[prefix], rest))
    if deployment.provider in published:
        found.append((published[deployment.provider], name))
    return found


def unix_us(at: datetime) -> int:
    """Return the Unix time in microseconds of a moment that has a time zone."""
    return (at - _EPOCH) // _MICROSECOND
