"""What a request can ask the simulated engine to do wrong."""

from __future__ import annotations

import pytest

from bench.faults import NO_FAULTS, parse_faults, split_model


def test_every_kind_of_item_is_read() -> None:
    found = parse_faults("status=503; retry-after=7; cut=3b; stall=head; reset; delay-ms=1.5")
    assert (found.status, found.retry_after, found.cut_bytes) == (503, "7", 3)
    assert (found.stall, found.reset, found.delay_ms) == (-1, True, 1.5)


def test_a_cut_counts_events_unless_it_says_bytes() -> None:
    assert parse_faults("cut=3").cut_events == 3
    assert parse_faults("cut=3").cut_bytes is None


def test_error_first_is_an_error_event_before_any_other() -> None:
    assert parse_faults("error-first").error_event == 0


def test_later_faults_lie_over_earlier_ones() -> None:
    base = parse_faults("status=500;delay-ms=5")
    assert parse_faults("status=429", base=base).delay_ms == 5
    assert parse_faults("status=429", base=base).status == 429


def test_nothing_asked_for_is_the_base_itself() -> None:
    assert parse_faults("") is NO_FAULTS


@pytest.mark.parametrize("text", ["statsu=503", "status=x", "malformed=odd", "reset=1", "cut="])
def test_a_mistake_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parse_faults(text)


def test_a_model_carries_faults_behind_its_name() -> None:
    name, faults = split_model("sim+stall=3+delay-ms=5")
    assert name == "sim"
    assert parse_faults(faults, "+").stall == 3
    assert split_model("sim") == ("sim", "")
