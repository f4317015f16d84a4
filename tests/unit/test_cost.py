"""The arithmetic of costs: lanes, tiers, time, the one rounding, and cards that are refused."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest

from fastgate._core.cost import CARD_BYTES, LANE_NAMES, MAX_RATE, MAX_STEPS, Rates
from fastgate.spend.price import EVER_US, Price, encoded

NEVER = 2**63 - 1
MOST = 2**63 - 1


def price(steps: dict[int, dict[str, str]] | None = None, **lanes: str) -> Price:
    """Return a price in nano-dollars."""
    nano = Fraction(1, 10**9)
    all_steps = {-1: lanes, **(steps or {})}
    return Price(
        "test",
        {
            above: {lane: Fraction(value) * nano for lane, value in named.items()}
            for above, named in all_steps.items()
        },
    )


def card(
    since_us: int = 0, scale: int = 1, above: tuple[int, ...] = (), rates: tuple[int, ...] = ()
) -> bytes:
    thresholds = (above or (-1,)) + (NEVER,) * (MAX_STEPS - len(above or (-1,)))
    table = rates + (0,) * (MAX_STEPS * len(LANE_NAMES) - len(rates))
    packed = struct.pack(f"=qQq{MAX_STEPS}q{len(table)}q", since_us, 0, scale, *thresholds, *table)
    assert len(packed) == CARD_BYTES
    return packed


TEXT = {"input": "10", "output": "40"}


def test_half_a_nano_dollar_is_rounded_up_and_less_is_not() -> None:
    assert price(input="0.5", output="0").cost_nano(prompt=1) == 1
    assert price(input="0.499999999", output="0").cost_nano(prompt=1) == 0
    assert price(input="1.5", output="0").cost_nano(prompt=1) == 2


def test_parts_are_summed_before_the_one_rounding() -> None:
    halves = price(input="0.4", cached="0.3", output="0.2", reasoning="0.1")
    assert halves.cost_nano(prompt=2, cached=1, completion=2, reasoning=1) == 1


def test_a_fraction_of_a_nano_dollar_a_token_is_exact() -> None:
    # $0.0375 per million tokens.
    assert price(input="37.5", output="0").cost_nano(prompt=3) == 113
    assert price(input="0.0375", output="0").cost_nano(prompt=1_000_000) == 37_500
    third = price(input="1/3", output="0")
    assert [third.cost_nano(prompt=n) for n in (1, 2, 3, 3 * 10**15)] == [0, 1, 1, 10**15]


def test_a_token_is_charged_once_by_the_most_particular_price() -> None:
    dear = price(
        **TEXT,
        cached="1",
        cache_write="12",
        cache_write_1h="20",
        audio_in="100",
        image_in="7",
        reasoning="50",
        audio_out="200",
        image_out="300",
    )
    assert dear.cost_nano(prompt=100) == 1000
    assert dear.cost_nano(prompt=100, cached=90) == 190
    assert dear.cost_nano(prompt=100, cache_write=90) == 100 + 1080
    assert dear.cost_nano(prompt=100, cache_write=90, cache_write_1h=40) == 100 + 600 + 800
    assert dear.cost_nano(prompt=100, audio_in=10, image_in=20) == 700 + 1000 + 140
    assert dear.cost_nano(completion=10, reasoning=4) == 240 + 200
    assert dear.cost_nano(completion=10, audio_out=1, image_out=2) == 280 + 200 + 600


def test_what_has_no_price_of_its_own_costs_what_its_kind_does() -> None:
    parts = {"cached": 1, "cache_write": 3, "cache_write_1h": 2, "audio_in": 1, "image_in": 1}
    assert price(**TEXT).cost_nano(prompt=10, **parts) == 100
    assert price(**TEXT).cost_nano(completion=10, reasoning=3, audio_out=3, image_out=3) == 400
    assert (
        price(**TEXT, cache_write="12").cost_nano(prompt=2, cache_write=2, cache_write_1h=1) == 24
    )


def test_parts_larger_than_their_whole_are_charged_in_full() -> None:
    assert price(**TEXT, cached="1").cost_nano(prompt=10, cached=25) == 25


def test_what_was_never_seen_counts_as_nothing() -> None:
    assert price(**TEXT).cost_nano(prompt=-1, cached=-1, completion=-1, reasoning=-1) == 0


def test_an_unpriced_kind_is_unknown_as_soon_as_it_is_used() -> None:
    embedding = price(input="10")
    assert embedding.cost_nano(prompt=5) == 50
    assert embedding.cost_nano(prompt=5, completion=1) is None
    assert embedding.cost_nano(prompt=5, completion=1, reasoning=1) is None
    assert embedding.max_cost_nano(5, 0) == 50
    assert embedding.max_cost_nano(5, 1) is None
    assert price(output="10").max_cost_nano(1, 1) is None


def test_a_price_without_tokens_makes_them_free() -> None:
    by_piece = price(requests="1000", images="5000", seconds="60")
    assert by_piece.cost_nano(prompt=100, completion=100) == 1000
    assert by_piece.cost_nano(images=3, requests=0) == 15_000
    assert by_piece.cost_nano(seconds_ns=500_000_000, requests=0) == 30
    assert by_piece.cost_nano(seconds_ns=8_333_333, requests=0) == 0
    assert by_piece.cost_nano(seconds_ns=8_333_334, requests=0) == 1


def test_a_tier_holds_for_the_whole_request_above_its_threshold() -> None:
    tiered = price({200_000: {"input": "20", "output": "60"}, 500_000: {"input": "30"}}, **TEXT)
    assert tiered.cost_nano(prompt=200_000, completion=1) == 2_000_040
    assert tiered.cost_nano(prompt=200_001, completion=1) == 4_000_080
    assert tiered.cost_nano(prompt=500_001, completion=1) == 15_000_090


def test_as_many_tiers_as_there_is_room_for() -> None:
    steps = {1000 * n: {"input": str(10 + n)} for n in range(1, MAX_STEPS)}
    tiered = price(steps, **TEXT)
    assert [tiered.cost_nano(prompt=1000 * n + 1) for n in range(6)] == [
        10 * 1,
        11 * 1001,
        12 * 2001,
        13 * 3001,
        14 * 4001,
        14 * 5001,
    ]
    with pytest.raises(ValueError, match="at most 4 tiers"):
        price({**steps, 9000: {"input": "9"}}, **TEXT)


COUNTS = (
    *("prompt", "cached", "cache_write", "cache_write_1h", "audio_in", "image_in"),
    *("completion", "reasoning", "audio_out", "image_out", "images", "requests", "seconds_ns"),
)


def test_a_cost_beyond_64_bits_is_the_largest_and_nothing_wraps() -> None:
    highest = (MAX_RATE,) * (MAX_STEPS * len(LANE_NAMES))
    for scale in (1, MAX_RATE):
        rates = Rates(card(scale=scale, rates=highest))
        assert rates.cost_nano(0, **dict.fromkeys(COUNTS, MOST)) == MOST
        assert rates.max_cost_nano(0, MOST, MOST, MOST) == MOST
    # As many units as 64 bits count, each of them at the highest rate and a nano-dollar.
    share = MOST // 10
    parts = dict.fromkeys(COUNTS, share) | {"prompt": 0, "cache_write": 0, "completion": 0}
    assert rates.cost_nano(0, **parts) == 10 * share
    assert price(input="1/2", output="1").cost_nano(prompt=MOST) == 2**62
    with pytest.raises(OverflowError):
        rates.cost_nano(0, prompt=2**63)


def test_the_bound_is_the_dearest_way_to_use_the_tokens() -> None:
    dear = price(**TEXT, cached="1", cache_write="12.5", reasoning="41", requests="3")
    assert dear.max_cost_nano(100, 10) == 1250 + 410 + 3
    assert dear.max_cost_nano(100, 10, n=3) == 1250 + 3 * 410 + 3
    assert dear.max_cost_nano(1, 0) == 16
    assert price(images="5", requests="0").max_cost_nano(100, 0, n=4) == 20


def test_the_bound_sees_a_lower_tier_that_is_dearer() -> None:
    odd = price({1000: {"input": "2"}}, **TEXT)
    assert odd.max_cost_nano(1001, 0) == 10_010


def test_the_price_of_a_time_is_the_last_one_begun() -> None:
    first, second = price(**TEXT), price(input="20", output="80")
    rates = Rates.decode(encoded([(EVER_US, first), (1000, second), (2000, None)]))
    assert [rates.cost_nano(at, prompt=1) for at in (-5, 999, 1000, 1999)] == [10, 10, 20, 20]
    assert rates.cost_nano(2000, prompt=1) is None
    assert rates.cost_nano(2000) is None
    assert rates.max_cost_nano(2000, 0, 0) is None
    versions = [rates.version(at) for at in (0, 1000, 2000)]
    assert [f"{version:016x}" for version in versions[:2]] == [first.version, second.version]
    assert versions[2] == 0


def test_before_the_first_price_the_first_one_holds() -> None:
    assert Rates.decode(price(**TEXT).encode(1000)).cost_nano(5, prompt=1) == 10


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got 0 bytes"),
        (card()[:-1], f"expected cards of {CARD_BYTES} bytes"),
        (card(scale=0), "card 0: not a price"),
        (card(scale=-1), "card 0: not a price"),
        (card(scale=MAX_RATE + 1), "card 0: not a price"),
        (card(above=(0, 5)), "card 0: not a price"),
        (card(above=(-1, 5, 4)), "ascending"),
        (card(rates=(0, 0, -2)), "expected rates up to"),
        (card(rates=(MAX_RATE + 1,)), "expected rates up to"),
        (card(5) + card(5), "card 1: expected a later time"),
    ],
)
def test_what_is_no_card_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rates.decode(data)


def test_rates_are_made_of_bytes_only() -> None:
    for wrong in (None, bytearray(CARD_BYTES), "x"):
        with pytest.raises(TypeError):
            Rates(wrong)  # type: ignore[arg-type]
    assert Rates(card()).cost_nano(0, prompt=1) == 0


def test_prices_too_far_apart_to_be_exact_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer digits, or less far apart"):
        price(input="0.000000000000000001", output="1000000")
    with pytest.raises(ValueError, match="fewer digits"):
        price(input=f"1/{2**61 - 1}", output="0")
    with pytest.raises(ValueError, match="expected a base"):
        Price("test", {200_000: {}})


def test_the_version_tells_prices_and_sources_apart() -> None:
    usd = {-1: {"input": Fraction(1, 10**6), "output": Fraction(3, 10**6)}}
    # Of what was charged with it, rows keep the version: it must never change by itself.
    assert Price("model_list", usd).version == Price("model_list", dict(usd)).version
    assert Price("model_list", usd) == Price("model_list", usd)
    assert Price("model_list", usd) != Price("genai-prices", usd)
    other = {-1: {"input": Fraction(1, 10**6), "output": Fraction(2, 10**6)}}
    assert Price("model_list", usd) != Price("model_list", other)
    assert len(Price("model_list", usd).version) == 16
