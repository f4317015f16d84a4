"""Segments against a reader written with `struct`, and checksums against their definition."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgate._core.journal import (
    HARDWARE_CRC,
    HEADER_BYTES,
    KINDS,
    OPEN,
    OUTCOME_FIELDS,
    SEALED,
    Columns,
    Journal,
    Outcome,
    Reader,
    crc32c,
    format_segment,
)

Record = tuple[int, str, int, object]

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT16 = st.integers(0, 2**16 - 1)
BYTE = st.integers(0, 255)
OUTCOMES = st.tuples(*[INT64] * 12, UINT16, UINT16, BYTE, BYTE, BYTE, st.booleans(), st.booleans())
IDS = st.binary(min_size=16, max_size=16).map(lambda raw: raw.hex().encode())
JSON = st.binary(max_size=200).filter(lambda data: not data.endswith(b" "))
SETS = st.integers(0, 3)
APPENDED = st.one_of(
    st.tuples(st.just("reserve"), IDS, SETS, st.tuples(INT64, INT64, INT64, INT64)),
    st.tuples(st.just("progress"), IDS, st.just(0), st.tuples(INT64, INT64)),
    st.tuples(st.sampled_from(["settle", "attempt", "report"]), IDS, SETS, OUTCOMES),
    st.tuples(st.just("note"), IDS, st.just(0), JSON),
)


@cache
def remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


def crc_of(crc: int, data: bytes) -> int:
    """CRC-32C without inversions, a byte at a time: RFC 3720 12.1, appendix B.4."""
    for byte in data:
        crc = crc >> 8 ^ remainder((crc ^ byte) & 255)
    return crc


def records_of(segment: bytes) -> Iterator[Record]:
    """Read a segment as the contract of the format says."""
    magic, version, seed = struct.unpack_from("<8sII", segment)
    assert (magic, version) == (b"fgspend\n", 1)
    assert seed == crc_of(0xFFFFFFFF, segment[16:64])
    at = 64
    while at + 16 <= len(segment):
        length, crc, kind, columns = struct.unpack_from("<IIII", segment, at)
        if length in (0, 0xFFFFFFFF) or length % 8 or not 16 <= length <= len(segment) - at:
            return
        if crc_of(seed, struct.pack("<Q", length) + segment[at + 8 : at + length]) != crc:
            return
        body = segment[at + 16 : at + length]
        at += length
        if kind == KINDS["define"]:
            yield kind, "", columns, body
            continue
        yield kind, body[:16].hex(), columns, content_of(kind, body[16:])


def content_of(kind: int, body: bytes) -> object:
    if kind == KINDS["reserve"]:
        return struct.unpack("<4q", body)
    if kind == KINDS["progress"]:
        return struct.unpack("<2q", body)
    if kind == KINDS["note"]:
        return body
    *values, flags = struct.unpack("<12q2H4B", body)
    return (*values, bool(flags & 1), bool(flags & 2))


def padded(json: Any) -> bytes:
    padded: bytes = json.ljust(-(-len(json) // 8) * 8)
    return padded


def append(journal: Journal, name: str, request_id: bytes, columns: Columns, content: Any) -> bool:
    if name == "reserve":
        return journal.reserve(request_id, columns, *content)
    if name == "progress":
        return journal.progress(request_id, *content)
    if name == "note":
        return journal.note(request_id, content)
    outcome = Outcome()
    for field, value in zip(OUTCOME_FIELDS, content, strict=True):
        setattr(outcome, field, value)
    appended: bool = getattr(journal, name)(request_id, columns, outcome)
    return appended


def written(appended: list[tuple[str, bytes, int, object]], size: int = 32768) -> bytearray:
    buffer = bytearray(size)
    format_segment(buffer, 2**64 - 1, 3)
    journal = Journal()
    journal.attach(buffer)
    columns = [Columns(b'{"n":%d}' % n) for n in range(4)]
    for name, request_id, number, content in appended:
        assert append(journal, name, request_id, columns[number], content)
    return buffer


@settings(max_examples=200, deadline=None)
@given(st.lists(APPENDED, max_size=20))
def test_both_readers_find_what_was_appended(
    appended: list[tuple[str, bytes, int, object]],
) -> None:
    buffer = written(appended)
    found = list(records_of(bytes(buffer)))
    assert list(Reader(buffer)) == found
    kinds = KINDS | {"report": KINDS["settle"]}
    expected = [
        (kinds[name], request_id.decode(), padded(content) if name == "note" else content)
        for name, request_id, _, content in appended
    ]
    assert [(kind, id, content) for kind, id, _, content in found if id] == expected


@pytest.fixture(scope="module")
def small() -> bytearray:
    """A segment with one record of each kind."""
    request_id, outcome = b"0123456789abcdef" * 2, tuple([5] * 17 + [True, False])
    return written(
        [
            ("reserve", request_id, 0, (1, 2, 3, 4)),
            ("progress", request_id, 0, (5, 6)),
            ("note", request_id, 0, b'{"customer_id":"c"}'),
            ("attempt", request_id, 1, outcome),
            ("settle", request_id, 0, outcome),
        ],
        size=4096,
    )


def ends_of(segment: bytearray) -> list[int]:
    """Return where each record ends."""
    reader = Reader(segment)
    return [reader.offset for _ in reader]


def test_a_segment_cut_at_any_byte_gives_the_records_before_the_cut(small: bytearray) -> None:
    whole, ends = list(Reader(small)), ends_of(small)
    for cut in range(HEADER_BYTES, ends[-1] + 1):
        zeroed = small[:cut] + bytes(len(small) - cut)
        expected = [record for record, end in zip(whole, ends, strict=True) if end <= cut]
        # What was cut off may have been zeros.
        found = list(Reader(zeroed))
        assert found[: len(expected)] == expected
        assert found == whole[: len(found)]
        short = Reader(bytes(small[: cut // 8 * 8]))
        assert list(short) == [
            record for record, end in zip(whole, ends, strict=True) if end <= cut // 8 * 8
        ]


def test_any_bit_that_flips_ends_the_prefix_at_its_record(small: bytearray) -> None:
    whole, ends = list(Reader(small)), ends_of(small)
    spoiled = bytearray(small)
    for bit in range(HEADER_BYTES * 8, ends[-1] * 8):
        spoiled[bit // 8] ^= 1 << bit % 8
        hit = sum(end <= bit // 8 for end in ends)
        reader = Reader(spoiled)
        assert list(reader) == whole[:hit]
        assert reader.state != SEALED
        # The records behind it are there to be counted.
        assert reader.stranded() == len(whole) - hit - 1
        spoiled[bit // 8] ^= 1 << bit % 8
    assert Reader(spoiled).state == OPEN


def test_a_flipped_bit_of_the_header_is_noticed(small: bytearray) -> None:
    for bit in range(HEADER_BYTES * 8):
        spoiled = bytearray(small)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="segment"):
            Reader(spoiled)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 8 * 8]))
def test_tables_instruction_and_definition_agree(data: bytes) -> None:
    expected = crc_of(0xFFFFFFFF, data) ^ 0xFFFFFFFF
    assert crc32c(data, hardware=False) == expected
    assert crc32c(data) == expected


def test_checksums_are_those_of_the_standard() -> None:
    # RFC 3720 B.4
    for data, expected in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ):
        assert crc32c(data) == crc32c(data, hardware=False) == expected
    with pytest.raises(ValueError, match="multiple of 8"):
        crc32c(b"123456789")


def test_the_instruction_is_used_where_the_processor_has_it() -> None:
    with open("/proc/cpuinfo") as file:
        flags = file.read()
    if "sse4_2" in flags:
        assert HARDWARE_CRC
