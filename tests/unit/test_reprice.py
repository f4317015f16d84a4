"""Pricing rows again: what changes, what is left alone, and by how much balances move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fastgate.config.schema import Deployment, PriceEntry
from fastgate.spend.prices import compile_price, unix_us
from fastgate.spend.reprice import Repricer

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=30)
CHANGE = START + timedelta(days=10)


def deployment(name: str = "d", **fields: str) -> Deployment:
    return Deployment(
        id=name,
        group="g",
        provider="openai_like",
        model="m",
        host="h",
        port=1,
        api_base="",
        prices={key: Decimal(value) for key, value in fields.items()},
    )


PER_TOKEN = deployment(input_cost_per_token="0.000001", output_cost_per_token="0.000002")


def row(**given: Any) -> dict[str, Any]:
    return {
        "request_id": "r",
        "deployment_id": "d",
        "provider": "openai_like",
        "model": "m",
        "status": "success",
        "cache_hit": False,
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "completion_tokens": 10,
        "reasoning_tokens": 0,
        "total_tokens": 110,
        "spend_nano_usd": None,
        "price_version": None,
        "start_time": START,
        **given,
    }


def repricer(*deployments: Deployment, entries: tuple[PriceEntry, ...] = ()) -> Repricer:
    return Repricer(deployments, entries, START, END)


def test_a_row_without_a_cost_gets_one() -> None:
    (found,) = repricer(PER_TOKEN).corrections([row()])
    price = compile_price(PER_TOKEN, "m", START)
    assert price is not None
    assert found == ("r", 0, 120_000, price.version, 120_000, True)


def test_a_correction_moves_balances_by_the_difference() -> None:
    (found,) = repricer(PER_TOKEN).corrections([row(spend_nano_usd=150_000, price_version="old")])
    assert found.delta_nano_usd == -30_000
    assert not found.was_unknown


def test_a_row_that_is_right_is_not_touched_and_the_version_alone_is_corrected() -> None:
    (found,) = repricer(PER_TOKEN).corrections([row()])
    right = row(spend_nano_usd=120_000, price_version=found.price_version)
    assert list(repricer(PER_TOKEN).corrections([right])) == []
    (again,) = repricer(PER_TOKEN).corrections([row(spend_nano_usd=120_000, price_version="old")])
    assert again.delta_nano_usd == 0


def test_each_row_is_priced_at_its_own_time() -> None:
    entries = (
        PriceEntry(
            model="m",
            since_us=unix_us(CHANGE),
            fields={
                "input_cost_per_token": Decimal("0.00001"),
                "output_cost_per_token": Decimal("0"),
            },
        ),
    )
    times = [START, CHANGE - timedelta(microseconds=1), CHANGE, END]
    rows = [row(start_time=time) for time in times]
    found = repricer(PER_TOKEN, entries=entries).corrections(rows)
    assert [each.spend_nano_usd for each in found] == [120_000, 120_000, 1_000_000, 1_000_000]


def test_a_known_cost_never_becomes_unknown() -> None:
    priced = row(deployment_id="gone", spend_nano_usd=5, price_version="old")
    run = repricer(PER_TOKEN)
    assert list(run.corrections([priced, row()])) != []
    assert (run.examined, run.left) == (2, 1)


def test_a_deployment_no_longer_configured_has_its_providers_prices() -> None:
    gone = row(deployment_id="gone", provider="openai", model="gpt-4o")
    (found,) = repricer(PER_TOKEN).corrections([gone])
    assert found.spend_nano_usd == 100 * 2500 + 10 * 10_000


def test_what_is_charged_beyond_tokens_is_left_alone() -> None:
    timed = deployment(input_cost_per_second="0.001")
    run = repricer(timed)
    assert list(run.corrections([row(spend_nano_usd=7, price_version="old")])) == []
    assert run.left == 1


def test_what_reached_no_provider_costs_nothing() -> None:
    flat = deployment(input_cost_per_request="0.01")
    nothing = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    rows = [
        row(cache_hit=True, spend_nano_usd=0),
        row(status="failure", deployment_id=None, **nothing),
        row(status="failure", spend_nano_usd=0, **nothing),
        row(**nothing),
    ]
    found = list(repricer(flat).corrections(rows))
    assert [each.spend_nano_usd for each in found] == [0, 10_000_000]
    assert [each.delta_nano_usd for each in found] == [0, 10_000_000]


def test_a_failed_attempt_that_was_billed_is_a_row_as_well() -> None:
    attempt = row(attempt=2)
    del attempt["status"], attempt["cache_hit"]
    (found,) = repricer(PER_TOKEN).corrections([attempt])
    assert (found.attempt, found.spend_nano_usd) == (2, 120_000)
