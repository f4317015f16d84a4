"""The spend journal: records appended to a segment, and read back from it.

What a crash can leave. A process that is killed leaves whole records and at most one whose length
is still 0: readers end before it. A machine that loses power may leave any mixture of old and new
pages behind the last sync. The crc of each record starts from that of the header, which names the
writer and the segment, so only what was appended here is ever taken for a record. A reader takes
the longest valid prefix.

Room. A reservation promises that its request can be settled, whatever happens to the disk:
`reserve` leaves room for the settlement of every open one, and a slack for what may stand between.
So when a segment is full and there is no other, what has begun can still be recorded to its end.

Columns that are the same for many rows (key, team, model, deployment ...) are written once into
each segment, before the first record that refers to them: a segment can be read by itself.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastgate._core.atomic cimport store_word
from fastgate._core.crc32c cimport crc_prepare, crc_words, crc_words_soft

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    #define FG_LOAD_LENGTH(cell) __atomic_load_n(cell, __ATOMIC_ACQUIRE)

    /* 16 lower-case hex digits -> 8 bytes in their order; the digits' nibbles are paired in
       parallel, in the low bytes of ever wider lanes. */
    static inline uint64_t fg_eight(const unsigned char* digits) {
        uint64_t half[2];
        memcpy(half, digits, 16);
        for (int i = 0; i < 2; i++) {
            uint64_t n = (half[i] & 0x0F0F0F0F0F0F0F0Fu)
                       + 9 * (half[i] >> 6 & 0x0101010101010101u);
            n = (n << 4 | n >> 8) & 0x00FF00FF00FF00FFu;
            n = (n | n >> 8) & 0x0000FFFF0000FFFFu;
            half[i] = (n | n >> 16) & 0xFFFFFFFFu;
        }
        return half[0] | half[1] << 32;
    }

    static inline void fg_digits(char* to, const void* bytes, int n) {
        static const char alphabet[] = "0123456789abcdef";
        const unsigned char* at = bytes;
        for (int i = 0; i < n; i++) {
            *to++ = alphabet[at[i] >> 4];
            *to++ = alphabet[at[i] & 15];
        }
    }
    """
    uint32_t load_length "FG_LOAD_LENGTH"(const uint32_t* cell) noexcept nogil
    uint64_t eight_of "fg_eight"(const unsigned char* digits) noexcept nogil
    void put_digits "fg_digits"(char* to, const void* data, int n) noexcept nogil
    const uint32_t SEALED_LENGTH "UINT32_MAX"

cdef enum:
    VERSION = 1
    HEADER = 64                     # a cache line, of which 32 bytes are used
    HEAD = sizeof(RecordHead)
    ID = 16
    ID_DIGITS = 32
    STREAM = 1                      # flags of a Result
    CACHE_HIT = 2
    # A record with JSON: enough for any metadata that a gateway should store, and a bound for what
    # a broken length can make a reader look at.
    LONGEST = 64 * 1024
    # Of a segment, what reservations leave free beside settlements: notes, attempts, columns.
    SLACK_PART = 16
    SMALLEST = 4096

cdef const char* MAGIC = b"fgspend\n"

KINDS = {
    "define": DEFINE, "reserve": RESERVE, "progress": PROGRESS, "attempt": ATTEMPT,
    "settle": SETTLE, "note": NOTE,
}
HEADER_BYTES = HEADER
LONGEST_JSON = LONGEST - HEAD - ID
OPEN, SEALED, BROKEN = "open", "sealed", "broken"
HARDWARE_CRC = crc_prepare()


# hot: begin
cdef inline Py_ssize_t padded(Py_ssize_t size) noexcept nogil:
    return (size + 7) & ~7


cdef inline uint32_t crc_of(uint32_t seed, const RecordHead* head, uint32_t length) noexcept nogil:
    cdef uint64_t wide = length
    return crc_words(crc_words(seed, &wide, 1), &head.kind, length // 8 - 1)


cdef inline Py_ssize_t fixed_bytes_of(uint32_t kind) noexcept nogil:
    """Bytes behind the head, without JSON; -1: there is no such kind."""
    if kind == SETTLE or kind == ATTEMPT:
        return sizeof(Result)
    if kind == RESERVE:
        return sizeof(Reservation)
    if kind == PROGRESS:
        return sizeof(Progress)
    if kind == NOTE:
        return ID
    return 0 if kind == DEFINE else -1


cdef inline bint has_json(uint32_t kind) noexcept nogil:
    return kind == DEFINE or kind == NOTE


cdef bint is_record(const unsigned char* at, Py_ssize_t room, uint32_t seed) noexcept nogil:
    """Whether a whole and unharmed record stands there."""
    cdef const RecordHead* head = <const RecordHead*>at
    cdef uint32_t length
    cdef Py_ssize_t fixed
    if room < HEAD:
        return False
    length = load_length(&head.length)
    if length < HEAD or length % 8 or length > LONGEST or <Py_ssize_t>length > room:
        return False
    fixed = fixed_bytes_of(head.kind)
    if fixed < 0 or HEAD + fixed > <Py_ssize_t>length:
        return False
    if HEAD + fixed != <Py_ssize_t>length and not has_json(head.kind):
        return False
    return crc_of(seed, head, length) == head.crc
# hot: end


cdef uint32_t crc_of_header(const Header* header) noexcept nogil:
    return crc_words(~<uint32_t>0, &header.epoch, (HEADER - 16) // 8)


cdef Header* header_at(object view, Py_ssize_t smallest) except NULL:
    """The header of the segment in `view`, which the caller keeps."""
    buffer = PyMemoryView_GET_BUFFER(view)
    if not PyBuffer_IsContiguous(buffer, b"C"):
        raise BufferError("expected a contiguous buffer")
    if buffer.len < smallest or <size_t>buffer.buf % 8:
        raise ValueError(
            f"a segment has at least {smallest} bytes, aligned to 8; got {buffer.len} bytes"
        )
    return <Header*>buffer.buf


cdef Header* checked_header(object view) except NULL:
    cdef Header* header = header_at(view, HEADER)
    if memcmp(header.magic, MAGIC, 8) or header.crc != crc_of_header(header):
        raise ValueError("expected the header of a segment, got something else")
    if header.version != VERSION:
        raise ValueError(f"expected a segment of version {VERSION}, got {header.version}")
    return header


def format_segment(object buffer not None, uint64_t epoch, uint64_t number):
    view = memoryview(buffer)
    if view.readonly:
        raise BufferError("expected a writable buffer")
    if number < 1:
        raise ValueError("segments are numbered from 1")
    cdef Header* header = header_at(view, SMALLEST)
    memset(header, 0, HEADER)
    memcpy(header.magic, MAGIC, 8)
    header.version = VERSION
    header.epoch = epoch
    header.number = number
    header.crc = crc_of_header(header)


def crc32c(bytes data not None, *, bint hardware=True):
    cdef uint32_t crc = ~<uint32_t>0
    cdef size_t words = PyBytes_GET_SIZE(data) // 8
    if PyBytes_GET_SIZE(data) % 8:
        raise ValueError(f"expected a multiple of 8 bytes, got {len(data)}")
    if hardware:
        return ~crc_words(crc, PyBytes_AS_STRING(data), words) & 0xFFFFFFFF
    return ~crc_words_soft(crc, <const unsigned char*>PyBytes_AS_STRING(data), words) & 0xFFFFFFFF


cdef class Columns:
    def __cinit__(self, bytes json not None):
        if len(json) > LONGEST_JSON:
            raise ValueError(f"expected at most {LONGEST_JSON} bytes of columns, got {len(json)}")
        self.json = json


cdef class Outcome:
    def __cinit__(self):
        self.clear()

    cpdef void clear(self) noexcept:
        self.start_us = self.first_byte_us = self.end_us = 0
        self.ttft_us = self.overhead_us = self.spend_nano = -1
        self.prompt_tokens = self.cached_tokens = self.cache_write_tokens = -1
        self.completion_tokens = self.reasoning_tokens = self.total_tokens = -1
        self.http_status = self.attempt = self.status = self.error_kind = self.usage_source = 0
        self.stream = self.cache_hit = False


cdef inline bint put_id(uint64_t* to, bytes request_id) noexcept:
    cdef const unsigned char* digits
    if request_id is None or PyBytes_GET_SIZE(request_id) != ID_DIGITS:
        return False
    digits = <const unsigned char*>PyBytes_AS_STRING(request_id)
    to[0] = eight_of(digits)
    to[1] = eight_of(digits + 16)
    return True


cdef class Journal:
    def attach(self, object buffer not None):
        view = memoryview(buffer)
        if view.readonly:
            raise BufferError("expected a writable buffer")
        cdef Header* header = checked_header(view)
        if (<RecordHead*>(<unsigned char*>header + HEADER)).length:
            raise ValueError("expected an empty segment; one that was written is never reused")
        self.seal()
        self._buffer = view
        self._base = <unsigned char*>header
        self._at = HEADER
        # Less the place of the seal.
        self._size = (len(view) & ~7) - 8
        self._slack = self._size // SLACK_PART
        self._seed = header.crc
        self._columns = 0
        self.epoch = header.epoch
        self.segment = header.number

    def seal(self):
        if self._base != NULL:
            store_word(<uint32_t*>(self._base + self._at), SEALED_LENGTH)
        self._base = NULL
        self._at = self._size = self._slack = 0
        self._buffer = None

    @property
    def position(self):
        return self._at

    # hot: begin
    cdef Py_ssize_t _room(self, uint32_t kind, bint reserved) noexcept nogil:
        """Bytes that a record may take, leaving what was promised; without a segment, none."""
        cdef int64_t promised = self.open
        cdef Py_ssize_t slack = 0
        if kind == RESERVE:
            promised += 1
            slack = self._slack
        elif kind == PROGRESS:
            slack = self._slack     # one that is left out costs nothing: the next says as much
        elif reserved and promised:
            promised -= 1
        return (self._size - self._at - slack
                - <Py_ssize_t>promised * <Py_ssize_t>(HEAD + sizeof(Result)))

    cdef void _put(self, uint32_t kind, uint32_t columns, const void* fixed, Py_ssize_t fixed_bytes,
                   const void* json, Py_ssize_t json_bytes) noexcept nogil:
        cdef RecordHead* head = <RecordHead*>(self._base + self._at)
        cdef unsigned char* to = <unsigned char*>head + HEAD
        cdef Py_ssize_t length = padded(HEAD + fixed_bytes + json_bytes)
        head.kind = kind
        head.columns = columns
        memcpy(to, fixed, fixed_bytes)
        if json_bytes:
            memcpy(to + fixed_bytes, json, json_bytes)
            # JSON may have blanks behind it, so its own length need not be kept.
            memset(to + fixed_bytes + json_bytes, c' ', length - HEAD - fixed_bytes - json_bytes)
        head.crc = crc_of(self._seed, head, <uint32_t>length)
        store_word(&head.length, <uint32_t>length)
        self._at += length
        self.records += 1
    # hot: end

    cdef bint _append(self, uint32_t kind, bint reserved, Columns columns, const void* fixed,
                      Py_ssize_t fixed_bytes) noexcept:
        """Append a record of `columns`, and these before it where the segment lacks them."""
        cdef Py_ssize_t need = HEAD + fixed_bytes
        cdef Py_ssize_t json_bytes
        cdef bint known
        if columns is None:
            return False
        known = columns._segment == self.segment and columns._epoch == self.epoch
        json_bytes = PyBytes_GET_SIZE(columns.json)
        if not known:
            need += padded(HEAD + json_bytes)
        if need > self._room(kind, reserved):
            return False
        if not known:
            self._columns += 1
            columns._number = self._columns
            columns._segment = self.segment
            columns._epoch = self.epoch
            self._put(DEFINE, columns._number, fixed, 0, PyBytes_AS_STRING(columns.json),
                      json_bytes)
        self._put(kind, columns._number, fixed, fixed_bytes, NULL, 0)
        return True

    cdef bint _result(self, uint32_t kind, bint reserved, bytes request_id, Columns columns,
                      Outcome outcome) noexcept:
        cdef Result result
        if outcome is None or not put_id(result.id, request_id):
            return False
        result.start_us = outcome.start_us
        result.first_byte_us = outcome.first_byte_us
        result.end_us = outcome.end_us
        result.ttft_us = outcome.ttft_us
        result.overhead_us = outcome.overhead_us
        result.spend_nano = outcome.spend_nano
        result.prompt_tokens = outcome.prompt_tokens
        result.cached_tokens = outcome.cached_tokens
        result.cache_write_tokens = outcome.cache_write_tokens
        result.completion_tokens = outcome.completion_tokens
        result.reasoning_tokens = outcome.reasoning_tokens
        result.total_tokens = outcome.total_tokens
        result.http_status = <uint16_t>outcome.http_status
        result.attempt = <uint16_t>outcome.attempt
        result.status = <unsigned char>outcome.status
        result.error_kind = <unsigned char>outcome.error_kind
        result.usage_source = <unsigned char>outcome.usage_source
        result.flags = (STREAM if outcome.stream else 0) | (CACHE_HIT if outcome.cache_hit else 0)
        return self._append(kind, reserved, columns, &result, sizeof(result))

    cpdef bint reserve(self, bytes request_id, Columns columns, int64_t at_us, int64_t max_nano,
                       int64_t estimate_nano, int64_t input_tokens) noexcept:
        cdef Reservation reservation
        if not put_id(reservation.id, request_id):
            return False
        reservation.at_us = at_us
        reservation.max_nano = max_nano
        reservation.estimate_nano = estimate_nano
        reservation.input_tokens = input_tokens
        if not self._append(RESERVE, False, columns, &reservation, sizeof(reservation)):
            return False
        self.open += 1
        return True

    cpdef bint progress(self, bytes request_id, int64_t output_tokens, int64_t cost_nano) noexcept:
        cdef Progress progress
        if HEAD + <Py_ssize_t>sizeof(progress) > self._room(PROGRESS, False):
            return False
        if not put_id(progress.id, request_id):
            return False
        progress.output_tokens = output_tokens
        progress.cost_nano = cost_nano
        self._put(PROGRESS, 0, &progress, sizeof(progress), NULL, 0)
        return True

    cpdef bint attempt(self, bytes request_id, Columns columns, Outcome outcome) noexcept:
        return self._result(ATTEMPT, False, request_id, columns, outcome)

    cpdef bint settle(self, bytes request_id, Columns columns, Outcome outcome) noexcept:
        if not self._result(SETTLE, True, request_id, columns, outcome):
            return False
        if self.open:
            self.open -= 1
        return True

    cpdef bint report(self, bytes request_id, Columns columns, Outcome outcome) noexcept:
        return self._result(SETTLE, False, request_id, columns, outcome)

    cpdef bint note(self, bytes request_id, bytes json) noexcept:
        cdef uint64_t id[2]
        cdef Py_ssize_t n
        if json is None or not put_id(id, request_id):
            return False
        n = PyBytes_GET_SIZE(json)
        if n > LONGEST_JSON or padded(HEAD + ID + n) > self._room(NOTE, False):
            return False
        self._put(NOTE, 0, id, ID, PyBytes_AS_STRING(json), n)
        return True


cdef class Reader:
    def __cinit__(self, object buffer not None, Py_ssize_t offset=HEADER):
        self._buffer = memoryview(buffer)
        cdef Header* header = checked_header(self._buffer)
        self._base = <const unsigned char*>header
        self._size = len(self._buffer) & ~7
        self._seed = header.crc
        self.epoch = header.epoch
        self.number = header.number
        if not HEADER <= offset <= self._size or offset % 8:
            raise ValueError(f"expected the offset of a record, got {offset}")
        self.offset = offset

    def __iter__(self):
        return self

    def __next__(self):
        cdef const unsigned char* at = self._base + self.offset
        cdef const RecordHead* head = <const RecordHead*>at
        if not is_record(at, self._size - self.offset, self._seed):
            raise StopIteration
        self.offset += head.length
        return (head.kind, *decoded(head))

    @property
    def state(self):
        cdef const RecordHead* head = <const RecordHead*>(self._base + self.offset)
        cdef uint32_t length
        if self._size - self.offset < 8:
            return BROKEN       # the place of the seal has been written over
        length = load_length(&head.length)
        if length == 0 or is_record(<const unsigned char*>head, self._size - self.offset,
                                    self._seed):
            return OPEN
        return SEALED if length == SEALED_LENGTH else BROKEN

    def stranded(self):
        cdef Py_ssize_t at = self.offset
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t size = self._size
        with nogil:
            while at < size:
                if is_record(self._base + at, size - at, self._seed):
                    n += 1
                    at += (<const RecordHead*>(self._base + at)).length
                else:
                    at += 8
        return n


cdef str id_of(const uint64_t* id):
    cdef char digits[ID_DIGITS]
    put_digits(digits, id, ID)
    return digits[:ID_DIGITS].decode("ascii")


cdef tuple decoded(const RecordHead* head):
    cdef const unsigned char* fixed = <const unsigned char*>head + HEAD
    cdef const Reservation* reservation = <const Reservation*>fixed
    cdef const Progress* progress = <const Progress*>fixed
    if head.kind == DEFINE:
        return "", head.columns, PyBytes_FromStringAndSize(
            <const char*>fixed, head.length - HEAD)
    if head.kind == NOTE:
        return id_of(<const uint64_t*>fixed), head.columns, PyBytes_FromStringAndSize(
            <const char*>fixed + ID, head.length - HEAD - ID)
    if head.kind == RESERVE:
        return id_of(reservation.id), head.columns, (
            reservation.at_us, reservation.max_nano, reservation.estimate_nano,
            reservation.input_tokens)
    if head.kind == PROGRESS:
        return id_of(progress.id), head.columns, (progress.output_tokens, progress.cost_nano)
    return outcome_of(head.columns, <const Result*>fixed)


cdef tuple outcome_of(uint32_t columns, const Result* result):
    return id_of(result.id), columns, (
        result.start_us, result.first_byte_us, result.end_us, result.ttft_us, result.overhead_us,
        result.spend_nano, result.prompt_tokens, result.cached_tokens, result.cache_write_tokens,
        result.completion_tokens, result.reasoning_tokens, result.total_tokens,
        result.http_status, result.attempt, result.status, result.error_kind,
        result.usage_source, bool(result.flags & STREAM), bool(result.flags & CACHE_HIT),
    )


OUTCOME_FIELDS = (
    "start_us", "first_byte_us", "end_us", "ttft_us", "overhead_us", "spend_nano",
    "prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens",
    "reasoning_tokens", "total_tokens", "http_status", "attempt", "status", "error_kind",
    "usage_source", "stream", "cache_hit",
)
