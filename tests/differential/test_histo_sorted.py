"""Histograms against the sorted list of what was recorded."""

from math import ceil, isnan

from hypothesis import given, settings
from hypothesis import strategies as st

from fastgate._core.histo import HISTOGRAM_BYTES, Histogram

# The last bucket starts here; it has no end, so values in it are never "at most" anything.
LAST = 15 * 2**38

# Of every size alike, and around the edges of octaves.
values = st.one_of(
    st.integers(0, 42).flatmap(lambda bits: st.integers(0, min(2**bits, LAST) - 1)),
    st.integers(0, 41).flatmap(lambda bits: st.integers(2**bits - 1, 2**bits + 1)),
)


def histogram_of(recorded: list[int]) -> Histogram:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    for value in recorded:
        histogram.record(value)
    return histogram


@settings(max_examples=300)
@given(st.lists(values, min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_within_a_bucket_of_the_value_of_that_rank(
    recorded: list[int], q: float
) -> None:
    found = histogram_of(recorded).quantile(q)
    true = sorted(recorded)[max(1, ceil(q * len(recorded))) - 1]
    # Half of the eighth that a bucket is wide at most.
    assert abs(found - true) <= true / 16


@settings(max_examples=300)
@given(st.lists(values, max_size=50), values)
def test_a_cumulative_count_never_says_too_many_and_misses_one_bucket_at_most(
    recorded: list[int], bound: int
) -> None:
    counted = histogram_of(recorded).count_at_most(bound)
    assert counted <= sum(value <= bound for value in recorded)
    assert counted >= sum(value <= bound * 8 // 9 for value in recorded)


@given(st.lists(values, max_size=50), st.integers(0, 41))
def test_a_cumulative_count_is_exact_at_the_end_of_an_octave(
    recorded: list[int], bits: int
) -> None:
    bound = 2**bits - 1
    assert histogram_of(recorded).count_at_most(bound) == sum(v <= bound for v in recorded)


@given(st.lists(values, max_size=50), st.lists(values, max_size=50), values)
def test_merging_is_recording_in_one(a: list[int], b: list[int], bound: int) -> None:
    merged, both = histogram_of(a), histogram_of(a + b)
    merged.merge(histogram_of(b))
    assert merged.count() == both.count() == len(a + b)
    assert merged.sum() == both.sum() == sum(a + b)
    assert merged.count_at_most(bound) == both.count_at_most(bound)
    for q in (0, 0.5, 0.99, 1):
        quantile = both.quantile(q)
        assert merged.quantile(q) == quantile or (isnan(quantile) and not a + b)
