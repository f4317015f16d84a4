"""Which price holds: sources in order, times, and the catalogue of published prices."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fastgate._core.cost import CARD_BYTES, Rates
from fastgate.config.schema import Deployment, PriceEntry
from fastgate.providers.registry import registry
from fastgate.spend import catalogue
from fastgate.spend.price import Price
from fastgate.spend.prices import HORIZON, compile_price, compile_schedule, periods, unix_us

# What the catalogue says of a day that is past does not change with its next version.
DAY = datetime(2026, 6, 15, tzinfo=UTC)


def deployment(provider: str = "openai", model: str = "gpt-4o", **fields: object) -> Deployment:
    return Deployment(
        **{
            "id": "d",
            "group": "g",
            "provider": provider,
            "model": model,
            "host": "h",
            "port": 1,
            "api_base": "",
            **fields,
        }  # type: ignore[arg-type]
    )


def fields(input_usd: str, output_usd: str = "0") -> dict[str, Decimal]:
    return {
        "input_cost_per_token": Decimal(input_usd),
        "output_cost_per_token": Decimal(output_usd),
    }


def entry(usd: str, model: str = "*", **given: object) -> PriceEntry:
    return PriceEntry(model=model, fields=fields(usd), **given)  # type: ignore[arg-type]


def nano(price: Price | None) -> int | None:
    """Return what one token of the prompt costs."""
    return None if price is None else price.cost_nano(prompt=1)


def test_the_sources_in_order() -> None:
    own = deployment(prices=fields("0.000005"))
    assert nano(compile_price(own, "gpt-4o", DAY, [entry("0.000007")])) == 7000
    assert nano(compile_price(own, "gpt-4o", DAY)) == 5000
    assert nano(compile_price(deployment(), "gpt-4o", DAY)) == 2500
    assert compile_price(deployment(), "no-such-model", DAY) is None


def test_a_source_gives_the_whole_price_and_nothing_is_mixed() -> None:
    half = deployment(prices={"input_cost_per_token": Decimal("0.000001")})
    price = compile_price(half, "gpt-4o", DAY)
    assert price is not None
    assert price.cost_nano(prompt=10) == 10_000
    assert price.cost_nano(prompt=10, completion=1) is None


def test_the_entry_that_names_it_most_exactly_holds() -> None:
    entries = [
        entry("0.000001"),
        entry("0.000002", "gpt-*"),
        entry("0.000003", "gpt-4*", provider="openai"),
        entry("0.000004", "gpt-4o"),
        entry("0.000005", "gpt-4o", deployment="eu"),
        entry("0.000006", "gpt-4o", provider="azure"),
    ]

    def holds(model: str, **given: object) -> int | None:
        return nano(compile_price(deployment(**given), model, DAY, entries))

    assert holds("o1") == 1000
    assert holds("gpt-3") == 2000
    assert holds("gpt-4-turbo") == 3000
    assert holds("gpt-4-turbo", provider="groq") == 2000
    assert holds("gpt-4o") == 4000
    assert holds("gpt-4o", id="eu") == 5000


def test_of_entries_alike_the_latest_begun_holds() -> None:
    march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    entries = [
        entry("0.000003", since_us=unix_us(april)),
        entry("0.000002", since_us=unix_us(march)),
    ]
    own = deployment("openai_like")
    assert compile_price(own, "x", march - timedelta(microseconds=1), entries) is None
    assert nano(compile_price(own, "x", march, entries)) == 2000
    assert nano(compile_price(own, "x", april - timedelta(microseconds=1), entries)) == 2000
    assert nano(compile_price(own, "x", april, entries)) == 3000
    again = [*entries, entry("0.000004", since_us=unix_us(april))]
    assert nano(compile_price(own, "x", april, again)) == 4000


def test_workers_know_of_changes_before_they_come() -> None:
    change = DAY + timedelta(hours=30)
    entries = [
        entry("0.000001"),
        entry("0.000002", since_us=unix_us(change)),
        entry("0.000003", since_us=unix_us(DAY + HORIZON + timedelta(hours=1))),
        entry("0.000009", "other", since_us=unix_us(DAY + timedelta(hours=1))),
    ]
    cards = compile_schedule(deployment("openai_like"), "x", DAY, entries)
    assert len(cards) == 2 * CARD_BYTES
    rates = Rates.decode(cards)
    at = unix_us(change)
    assert [rates.cost_nano(when, prompt=1) for when in (0, at - 1, at)] == [1000, 1000, 2000]


def test_a_price_that_begins_later_is_unknown_until_then() -> None:
    entries = [entry("0.000002", since_us=unix_us(DAY) + 5)]
    rates = Rates.decode(compile_schedule(deployment("openai_like"), "x", DAY, entries))
    assert rates.cost_nano(unix_us(DAY) + 4, prompt=1) is None
    assert rates.cost_nano(unix_us(DAY) + 5, prompt=1) == 2000


def test_hours_of_the_day_are_changes_of_the_price() -> None:
    # 00:30 to 16:30 UTC at the full price, else at half of it.
    found = periods(
        deployment("deepseek"),
        "deepseek-chat",
        datetime(2025, 6, 15, tzinfo=UTC),
        datetime(2025, 6, 16, 12, tzinfo=UTC),
    )
    clock = [
        datetime.fromtimestamp(since / 1e6, UTC).strftime("%d %H:%M") for since, _ in found[1:]
    ]
    assert clock == ["15 00:30", "15 16:30", "16 00:30"]
    assert [nano(price) for _, price in found] == [135, 270, 135, 270]


@pytest.mark.parametrize(
    ("provider", "model", "base_model", "nano_usd"),
    [
        ("openai", "gpt-4o-2024-08-06", "", 2500),
        ("openai", "GPT-4o", "", 2500),
        ("azure", "gpt-4o", "", 2500),
        ("azure", "our-own-name", "azure/gpt-4o", 2500),
        ("azure", "our-own-name", "gpt-4o", 2500),
        ("azure", "our-own-name", "", None),
        ("anthropic", "claude-sonnet-4-5-20250929", "", 3000),
        ("bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "", 3000),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "", 3300),
        ("vertex_ai", "claude-sonnet-4-5@20250929", "", 3000),
        ("gemini", "gemini-2.5-pro", "", 1250),
        # Engines of one's own speak OpenAI's words; they have not OpenAI's prices.
        ("openai_like", "gpt-4o", "", None),
        ("custom_openai", "gpt-4o", "", None),
        ("hosted_vllm", "gpt-4o", "", None),
        ("hosted_vllm", "gpt-4o", "openai/gpt-4o", 2500),
        ("openrouter", "deepseek/deepseek-r1:free", "", 0),
    ],
)
def test_published_prices_by_every_form_of_a_name(
    provider: str, model: str, base_model: str, nano_usd: int | None
) -> None:
    price = compile_price(deployment(provider, model, base_model=base_model), model, DAY)
    assert nano(price) == nano_usd


def test_a_model_listed_without_a_price_is_unknown_not_free() -> None:
    assert catalogue.steps_of("openai", "omni-moderation-latest", DAY) is None


def test_long_prompts_have_published_tiers() -> None:
    price = compile_price(deployment("gemini"), "gemini-2.5-pro", DAY)
    assert price is not None
    assert price.cost_nano(prompt=200_000, completion=1) == 200_000 * 1250 + 10_000
    assert price.cost_nano(prompt=200_001, completion=1) == 200_001 * 2500 + 15_000


def test_every_published_name_is_one_of_the_catalogue() -> None:
    names = {provider for provider, _, _ in listed()}
    assert set(registry().published.values()) <= names


def listed() -> list[tuple[str, str, object]]:
    snapshot = importlib.import_module(catalogue.SOURCE).get_snapshot()
    return [
        (provider.id, model.id, model)
        for provider in snapshot.providers
        for model in provider.models
    ]


def test_without_the_package_only_the_configuration_has_prices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not catalogue.available()
    assert compile_price(deployment(), "gpt-4o", DAY) is None
    assert nano(compile_price(deployment(prices=fields("0.000001")), "gpt-4o", DAY)) == 1000
    assert "pip install 'fastgate[prices]'" in catalogue.MISSING


def test_the_package_is_loaded_only_when_it_is_asked() -> None:
    script = (
        "import sys, fastgate.gateway.worker, fastgate.config.load, fastgate.spend.prices\n"
        "from fastgate.spend import catalogue\n"
        "assert catalogue.available()\n"
        "print('genai_prices' in sys.modules, 'httpx2' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False", "False"]
