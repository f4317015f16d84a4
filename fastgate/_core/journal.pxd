# The spend journal's records, in a segment: a writable buffer with one writer and any number of
# readers in other processes. No file, no clock: see spend/segments.py for those.
#
# A segment is a header and records behind each other, 8-byte aligned, zero where nothing stands:
#
#     Header | record | record | ... | 0        and behind the last one, when it is full, SEALED
#
# A record is a RecordHead and what its kind says. Its length is written last, so that a reader sees
# whole records only. Numbers are the machine's own (little-endian): a segment never leaves it.

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    DEFINE = 1              # JSON: constant columns, referred to by number within the segment
    RESERVE = 2             # Reservation: before the request goes upstream
    PROGRESS = 3            # Progress: what an unfinished request came to so far
    ATTEMPT = 4             # Result: of an attempt that failed and is billed
    SETTLE = 5              # Result: of the request
    NOTE = 6                # id, JSON: rare columns of one request

cdef struct Header:
    unsigned char magic[8]
    uint32_t version
    uint32_t crc            # of what stands behind it; also where the crc of each record starts
    uint64_t epoch          # of the writing process
    uint64_t number         # of the segment, from 1

cdef struct RecordHead:
    uint32_t length         # of the whole record, a multiple of 8; 0: none yet; SEALED: no more
    uint32_t crc            # crc32c of the length (as 8 bytes) and of what stands behind this field
    uint32_t kind
    uint32_t columns        # number of a DEFINE before it; 0: none

cdef struct Reservation:
    uint64_t id[2]
    int64_t at_us           # wall clock; as all times here
    int64_t max_nano        # the most that it can cost
    int64_t estimate_nano   # what it is billed if its worker dies before any PROGRESS; -1: unknown
    int64_t input_tokens

cdef struct Progress:
    uint64_t id[2]
    int64_t output_tokens
    int64_t cost_nano       # in all, input included; -1: unknown

cdef struct Result:
    uint64_t id[2]
    int64_t start_us
    int64_t first_byte_us   # 0: none came
    int64_t end_us
    int64_t ttft_us         # a duration, as the next; -1: unknown
    int64_t overhead_us
    int64_t spend_nano      # -1: no price is known
    int64_t prompt_tokens   # these: -1: unknown
    int64_t cached_tokens
    int64_t cache_write_tokens
    int64_t completion_tokens
    int64_t reasoning_tokens
    int64_t total_tokens
    uint16_t http_status
    uint16_t attempt        # ATTEMPT: its number, from 1; SETTLE: how many there were
    unsigned char status    # codes of spend/rows.py: so are the next two
    unsigned char error_kind
    unsigned char usage_source
    unsigned char flags


@cython.final
cdef class Columns:
    # Constant columns of many rows. A segment gets them once, before the first record of theirs.
    cdef readonly bytes json
    cdef uint64_t _epoch    # the segment that has them, and their number there
    cdef uint64_t _segment
    cdef uint32_t _number


@cython.final
cdef class Outcome:
    # What SETTLE and ATTEMPT write, named as in Result; filled in and used again and again.
    cdef public int64_t start_us, first_byte_us, end_us, ttft_us, overhead_us, spend_nano
    cdef public int64_t prompt_tokens, cached_tokens, cache_write_tokens
    cdef public int64_t completion_tokens, reasoning_tokens, total_tokens
    cdef public int http_status, attempt, status, error_kind, usage_source
    cdef public bint stream, cache_hit
    cpdef void clear(self) noexcept


@cython.final
cdef class Journal:
    cdef object _buffer
    cdef unsigned char* _base
    cdef Py_ssize_t _at, _size, _slack
    cdef uint32_t _seed, _columns
    cdef readonly uint64_t epoch, segment
    cdef readonly uint64_t records      # appended in all, whatever the segment
    cdef readonly int64_t open          # reservations that are not settled
    # Each: False: there is no room (or no segment), and nothing was appended.
    cpdef bint reserve(self, bytes request_id, Columns columns, int64_t at_us, int64_t max_nano,
                       int64_t estimate_nano, int64_t input_tokens) noexcept
    cpdef bint progress(self, bytes request_id, int64_t output_tokens, int64_t cost_nano) noexcept
    cpdef bint attempt(self, bytes request_id, Columns columns, Outcome outcome) noexcept
    cpdef bint settle(self, bytes request_id, Columns columns, Outcome outcome) noexcept
    # A row without a reservation before it.
    cpdef bint report(self, bytes request_id, Columns columns, Outcome outcome) noexcept
    cpdef bint note(self, bytes request_id, bytes json) noexcept

    cdef Py_ssize_t _room(self, uint32_t kind, bint reserved) noexcept nogil
    cdef void _put(self, uint32_t kind, uint32_t columns, const void* fixed, Py_ssize_t fixed_bytes,
                   const void* json, Py_ssize_t json_bytes) noexcept nogil
    cdef bint _append(self, uint32_t kind, bint reserved, Columns columns, const void* fixed,
                      Py_ssize_t fixed_bytes) noexcept
    cdef bint _result(self, uint32_t kind, bint reserved, bytes request_id, Columns columns,
                      Outcome outcome) noexcept


@cython.final
cdef class Reader:
    cdef object _buffer
    cdef const unsigned char* _base
    cdef Py_ssize_t _size
    cdef uint32_t _seed
    cdef readonly uint64_t epoch, number
    cdef readonly Py_ssize_t offset     # behind the last record that was read
