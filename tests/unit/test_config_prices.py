"""Prices in the configuration: read as they are written, refused where they make no sense."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from fastgate.config.load import Loaded, load
from fastgate.config.report import HONOURED, IGNORED, NOTE
from fastgate.config.snapshot import decode, encode
from fastgate.errors import ConfigError

PER_TOKEN = "input_cost_per_token: 1e-06, output_cost_per_token: 0.000002"


def read(tmp_path: Path, params: str = "", info: str = "", settings: str = "") -> Loaded:
    """Read a file in which numbers stand as a person writes them."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "model_list:\n"
        "- model_name: m\n"
        f"  litellm_params: {{model: openai/x, api_base: 'http://h/v1', {params}}}\n"
        f"  model_info: {{{info}}}\n"
        f"fastgate_settings: {{prices: [{settings}]}}\n"
    )
    return load(path, {"PRICE": "0.5"})


def fields(loaded: Loaded) -> dict[str, Decimal]:
    (deployment,) = loaded.config.deployments
    return deployment.prices


def faults(tmp_path: Path, params: str = "", info: str = "", settings: str = "") -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, params, info, settings)
    return {fault.path: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("written", "usd"),
    [
        ("3e-06", "0.000003"),
        ("3.0e-6", "0.000003"),
        ("'3e-06'", "0.000003"),
        ("0.0000000375", "0.0000000375"),
        ("0", "0"),
        ("1", "1"),
        ("os.environ/PRICE", "0.5"),
        # The noise of adding binary fractions is not a price.
        ("2.4000000000000003e-07", "0.00000024"),
        ("0.30000000000000004", "0.3"),
    ],
)
def test_an_amount_is_what_is_written(tmp_path: Path, written: str, usd: str) -> None:
    loaded = read(tmp_path, f"input_cost_per_token: {written}, output_cost_per_token: 0")
    assert fields(loaded)["input_cost_per_token"] == Decimal(usd)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("-1e-6", "from 0 to 1000000"),
        ("1e7", "from 0 to 1000000"),
        (".inf", "from 0 to 1000000"),
        (".nan", "from 0 to 1000000"),
        ("true", "expected a number"),
        ("[1]", "expected a number"),
        ("cheap", "got other text"),
        ("1e-19", "expected 0, or at least 1E-18"),
        ("'1e-999999999'", "expected 0, or at least 1E-18"),
    ],
)
def test_an_amount_that_is_none_is_refused(tmp_path: Path, written: str, message: str) -> None:
    found = faults(tmp_path, f"input_cost_per_token: {written}, output_cost_per_token: 0")
    assert list(found) == ["model_list[0].litellm_params.input_cost_per_token"]
    assert message in found["model_list[0].litellm_params.input_cost_per_token"]


def test_both_sections_have_prices_and_the_parameters_win(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        "input_cost_per_token: 1e-06",
        "input_cost_per_token: 5e-06, output_cost_per_token: 2e-06, base_model: gpt-4o",
    )
    assert fields(loaded) == {
        "input_cost_per_token": Decimal("0.000001"),
        "output_cost_per_token": Decimal("0.000002"),
    }
    assert loaded.config.deployments[0].base_model == "gpt-4o"


def test_tiers_of_any_number_of_thousands_are_prices(tmp_path: Path) -> None:
    loaded = read(tmp_path, f"{PER_TOKEN}, input_cost_per_token_above_300k_tokens: 4e-06")
    assert fields(loaded)["input_cost_per_token_above_300k_tokens"] == Decimal("0.000004")
    states = {entry.path: entry.status for entry in loaded.report.entries}
    where = "model_list[0].litellm_params.input_cost_per_token_above_300k_tokens"
    assert states[where] == HONOURED


def test_what_is_not_told_apart_is_ignored_with_a_reason(tmp_path: Path) -> None:
    loaded = read(
        tmp_path, f"{PER_TOKEN}, input_cost_per_token_priority: 2e-06, input_cost_per_character: 1"
    )
    told = {entry.path: (entry.status, entry.why) for entry in loaded.report.entries}
    for name in ("input_cost_per_token_priority", "input_cost_per_character"):
        state, why = told[f"model_list[0].litellm_params.{name}"]
        assert state == IGNORED
        assert "not told apart" in why
    assert len(fields(loaded)) == 2


def notes(loaded: Loaded) -> list[str]:
    return [entry.why for entry in loaded.report.entries if entry.status == NOTE]


def test_half_a_price_is_noted_unless_the_model_answers_no_tokens(tmp_path: Path) -> None:
    assert notes(read(tmp_path, PER_TOKEN)) == []
    assert "without output_cost_per_token" in notes(read(tmp_path, "input_cost_per_token: 0"))[0]
    assert notes(read(tmp_path, "input_cost_per_token: 0", "mode: embedding")) == []
    assert notes(read(tmp_path, "input_cost_per_request: 1")) == []


def test_a_price_of_a_million_tokens_where_that_of_one_belongs_is_noted(tmp_path: Path) -> None:
    (note,) = notes(read(tmp_path, "input_cost_per_token: 2.5, output_cost_per_token: 0"))
    assert "is that the price of a million?" in note


def test_prices_that_can_not_be_exact_together_are_refused(tmp_path: Path) -> None:
    found = faults(tmp_path, "input_cost_per_token: 1.1e-17, output_cost_per_token: 1000000")
    assert found == {
        "model_list[0].litellm_params": "expected prices with fewer digits, or less far apart"
    }


def test_a_tier_without_a_base_is_refused(tmp_path: Path) -> None:
    found = faults(tmp_path, info="input_cost_per_token_above_200k_tokens: 1e-6")
    assert found == {
        "model_list[0].model_info": "expected a price without a tier, too: "
        "what shorter prompts cost"
    }


def test_an_engine_is_priced_by_its_time(tmp_path: Path) -> None:
    loaded = read(tmp_path, info="gpu_hour_usd: 2.5, gpus: 4, prefill_tps: 20000, decode_tps: 2500")
    assert fields(loaded) == {
        "gpu_hour_usd": Decimal("2.5"),
        "gpus": Decimal(4),
        "prefill_tps": Decimal(20000),
        "decode_tps": Decimal(2500),
    }


@pytest.mark.parametrize(
    ("info", "path", "message"),
    [
        ("gpu_hour_usd: 2, prefill_tps: 5", "decode_tps", "missing"),
        ("prefill_tps: 5, decode_tps: 5", "gpu_hour_usd", "missing"),
        ("gpu_hour_usd: 2, prefill_tps: 0, decode_tps: 5", "prefill_tps", "from 1 to"),
        ("gpu_hour_usd: 2, prefill_tps: 1.5, decode_tps: 5", "prefill_tps", "whole number"),
        ("gpu_hour_usd: 2, gpus: 0, prefill_tps: 5, decode_tps: 5", "gpus", "from 1 to 1024"),
        (
            "gpu_hour_usd: 2, prefill_tps: 5, decode_tps: 5, input_cost_per_token: 0",
            "input_cost_per_token",
            "either this or gpu_hour_usd",
        ),
    ],
)
def test_half_an_engine_is_refused(tmp_path: Path, info: str, path: str, message: str) -> None:
    found = faults(tmp_path, info=info)
    assert list(found) == [f"model_list[0].model_info.{path}"]
    assert message in found[f"model_list[0].model_info.{path}"]


def test_entries_say_what_they_are_for_and_since_when(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        settings=f"{{model: gpt-*, provider: openai, since: 2026-03-01, {PER_TOKEN}}}, "
        f"{{deployment: eu-1, since: '2026-03-01T12:30Z', {PER_TOKEN}}}",
    )
    first, second = loaded.config.prices
    assert (first.model, first.provider, first.deployment) == ("gpt-*", "openai", "")
    assert first.since_us == 1_772_323_200_000_000
    assert (second.model, second.deployment) == ("*", "eu-1")
    assert second.since_us == first.since_us + 45_000_000_000
    assert first.fields["output_cost_per_token"] == Decimal("0.000002")


@pytest.mark.parametrize(
    ("entry", "path", "message"),
    [
        (f"{{{PER_TOKEN}}}", ".model", "missing"),
        ("{model: x}", "", "expected a price"),
        ("gpt", "", "expected a mapping"),
        (f"{{model: 'a*b*', {PER_TOKEN}}}", ".model", "at most one *"),
        (f"{{model: x, since: soon, {PER_TOKEN}}}", ".since", "expected a day"),
        (f"{{model: x, since: 2026-02-30, {PER_TOKEN}}}", ".since", "expected a day"),
        (f"{{model: x, since: '2026-02-03T10:00+01:00', {PER_TOKEN}}}", ".since", "UTC"),
        ("{model: x, input_cost_per_token: -1}", ".input_cost_per_token", "from 0"),
    ],
)
def test_entries_that_say_nothing_are_refused(
    tmp_path: Path, entry: str, path: str, message: str
) -> None:
    found = faults(tmp_path, settings=entry)
    assert message in found[f"fastgate_settings.prices[0]{path}"]


def test_prices_travel_to_other_processes_as_they_are(tmp_path: Path) -> None:
    config = read(tmp_path, PER_TOKEN, settings=f"{{model: x, {PER_TOKEN}}}").config
    assert decode(encode(config)) == config
