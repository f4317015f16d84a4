from math import inf, isnan, nan

import pytest

from fastgate._core.histo import HISTOGRAM_BYTES, Counter, Histogram


def test_a_counter_is_the_cell_it_was_given() -> None:
    buffer = bytearray(24)
    counter = Counter(buffer, 8)
    counter.add(5)
    counter.add(-7)
    assert counter.value() == -2
    assert buffer == bytes(8) + (-2).to_bytes(8, "little", signed=True) + bytes(8)
    assert Counter(buffer, 8).value() == -2
    counter.set(2**63 - 1)
    assert Counter(buffer, 8).value() == 2**63 - 1
    assert Counter(buffer, 16).value() == 0


@pytest.mark.parametrize(("kind", "size"), [(Counter, 8), (Histogram, HISTOGRAM_BYTES)])
def test_cells_have_to_lie_in_the_buffer_aligned_and_writable(
    kind: type[Counter] | type[Histogram], size: int
) -> None:
    for offset in (-8, 8, 2**60):
        with pytest.raises(ValueError, match=f"{size} bytes at {offset} do not lie in a buffer"):
            kind(bytearray(size), offset)
    with pytest.raises(ValueError, match="aligned to 8 bytes"):
        kind(bytearray(size + 4), 4)
    with pytest.raises(BufferError, match="writable"):
        kind(bytes(size))
    with pytest.raises(BufferError, match="contiguous"):
        kind(memoryview(bytearray(4 * size))[::2])


def test_a_buffer_can_not_go_while_it_is_used() -> None:
    buffer = bytearray(HISTOGRAM_BYTES)
    histogram = Histogram(buffer)
    with pytest.raises(BufferError):
        buffer.clear()
    del histogram
    buffer.clear()


def test_an_empty_histogram_knows_nothing() -> None:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    assert histogram.count() == histogram.sum() == histogram.count_at_most(2**64 - 1) == 0
    assert isnan(histogram.quantile(0.5))


@pytest.mark.parametrize("q", [-0.1, 1.1, nan, inf])
def test_what_is_no_quantile_has_no_value(q: float) -> None:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    histogram.record(5)
    assert isnan(histogram.quantile(q))


def test_small_values_are_kept_exactly() -> None:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    for value in range(16):
        histogram.record(value)
    assert [histogram.quantile((value + 1) / 16) for value in range(16)] == list(range(16))
    assert [histogram.count_at_most(value) for value in range(16)] == list(range(1, 17))


def test_a_value_below_zero_counts_as_zero() -> None:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    histogram.record(-(2**63))
    assert (histogram.count(), histogram.sum(), histogram.quantile(1)) == (1, 0, 0)


@pytest.mark.parametrize("value", [2**42 - 1, 2**42, 2**63 - 1])
def test_huge_values_share_the_last_bucket(value: int) -> None:
    histogram = Histogram(bytearray(HISTOGRAM_BYTES))
    histogram.record(value)
    assert histogram.sum() == value
    assert histogram.quantile(1) == pytest.approx(2**42, rel=1 / 8)
    # It has no end, so its values are at most nothing.
    assert histogram.count_at_most(2**64 - 1) == 0


def test_merging_counts_what_the_buckets_hold() -> None:
    # A writer that was killed between the bucket and the count leaves them one apart.
    buffer = bytearray(HISTOGRAM_BYTES)
    torn, merged = Histogram(buffer), Histogram(bytearray(HISTOGRAM_BYTES))
    torn.record(5)
    Counter(buffer, 0).set(0)
    merged.merge(torn)
    assert (merged.count(), merged.count_at_most(5)) == (1, 1)
