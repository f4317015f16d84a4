"""Counters, gauges and log-linear histograms over memory that several processes map.

Every cell has one writer, the worker that owns its block, so adding is a load and a store. Both are
atomic (a reader never sees half a number) and relaxed: a reader may see a bucket counted before the
sum, which is why `merge` counts the buckets themselves. Values are whole numbers without a unit;
fastgate records nanoseconds.

Buckets: a value below 8 has one of its own. Above, each octave [2^e, 2^(e+1)) is cut into 8 equal
parts, so a bucket's upper bound is at most 12.5 % above its lower one, at any size, in 2.6 kB for
12 decades.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.math cimport NAN, ceil
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define FG_LOAD(cell) __atomic_load_n(cell, __ATOMIC_RELAXED)
    #define FG_STORE(cell, value) __atomic_store_n(cell, value, __ATOMIC_RELAXED)
    #define FG_LOG2(value) (63 - __builtin_clzll(value))
    """
    int64_t load "FG_LOAD"(int64_t* cell) noexcept nogil
    void store "FG_STORE"(int64_t* cell, int64_t value) noexcept nogil
    uint64_t load_u "FG_LOAD"(uint64_t* cell) noexcept nogil
    void store_u "FG_STORE"(uint64_t* cell, uint64_t value) noexcept nogil
    int log2_of "FG_LOG2"(uint64_t value) noexcept nogil

cdef enum:
    COUNT = 0
    SUM = 1
    FIRST = 2               # of the buckets
    SUB_BITS = 3            # SUB_BUCKETS == 1 << SUB_BITS
    VALUE_BITS = 42         # BUCKETS == SUB_BUCKETS * (VALUE_BITS - SUB_BITS + 1)

HISTOGRAM_BYTES = HISTOGRAM_CELLS * 8


cdef unsigned char* cells_of(object view, Py_ssize_t offset, Py_ssize_t size) except NULL:
    """Return where `size` bytes at `offset` of `view` stand; the caller keeps the view."""
    buffer = PyMemoryView_GET_BUFFER(view)
    if buffer.readonly or not PyBuffer_IsContiguous(buffer, b"C"):
        raise BufferError("expected a writable, contiguous buffer")
    if offset < 0 or size > buffer.len - offset:
        raise ValueError(f"{size} bytes at {offset} do not lie in a buffer of {buffer.len}")
    cdef unsigned char* cells = <unsigned char*>buffer.buf + offset
    if <size_t>cells % 8:
        raise ValueError("cells must be aligned to 8 bytes")
    return cells


# hot: begin
cdef inline int bucket_of(uint64_t value) noexcept nogil:
    cdef int octave
    if value < SUB_BUCKETS:
        return <int>value
    octave = log2_of(value)
    if octave >= VALUE_BITS:
        return BUCKETS - 1
    return (SUB_BUCKETS * (octave - SUB_BITS + 1)
            + <int>((value >> (octave - SUB_BITS)) & (SUB_BUCKETS - 1)))


cdef inline uint64_t lowest_of(int bucket) noexcept nogil:
    """The smallest value of `bucket`; of one past the last, 2^VALUE_BITS."""
    cdef int octave
    if bucket < SUB_BUCKETS:
        return bucket
    octave = bucket // SUB_BUCKETS + SUB_BITS - 1
    return (<uint64_t>(SUB_BUCKETS + bucket % SUB_BUCKETS)) << (octave - SUB_BITS)


cdef inline void record_in(uint64_t* cells, uint64_t value) noexcept nogil:
    cdef uint64_t* bucket = cells + FIRST + bucket_of(value)
    store_u(bucket, load_u(bucket) + 1)
    store_u(cells + SUM, load_u(cells + SUM) + value)
    store_u(cells + COUNT, load_u(cells + COUNT) + 1)


cdef void merge_into(uint64_t* cells, uint64_t* others) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint64_t n
    cdef int i
    for i in range(FIRST, HISTOGRAM_CELLS):
        n = load_u(others + i)
        if n:
            total += n
            store_u(cells + i, load_u(cells + i) + n)
    store_u(cells + SUM, load_u(cells + SUM) + load_u(others + SUM))
    store_u(cells + COUNT, load_u(cells + COUNT) + total)


cdef double quantile_of(uint64_t* cells, double q) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint64_t seen = 0
    cdef uint64_t rank
    cdef int i
    for i in range(BUCKETS):
        total += load_u(cells + FIRST + i)
    if total == 0 or not 0 <= q <= 1:
        return NAN
    # Nearest rank: the smallest value that at least q of all values do not exceed.
    rank = <uint64_t>ceil(q * <double>total)
    rank = 1 if rank < 1 else total if rank > total else rank
    for i in range(BUCKETS):
        seen += load_u(cells + FIRST + i)
        if seen >= rank:
            break
    # A bucket's values are whole numbers, from its lowest to one below the next bucket's.
    return (<double>lowest_of(i) + <double>(lowest_of(i + 1) - 1)) / 2


cdef uint64_t at_most(uint64_t* cells, uint64_t value) noexcept nogil:
    cdef uint64_t total = 0
    cdef int i
    for i in range(BUCKETS - 1):
        if lowest_of(i + 1) - 1 > value:
            return total
        total += load_u(cells + FIRST + i)
    # The last bucket has no end.
    return total
# hot: end


cdef class Counter:
    def __cinit__(self, object buffer, Py_ssize_t offset=0):
        self._owner = memoryview(buffer)
        self._cell = <int64_t*>cells_of(self._owner, offset, sizeof(int64_t))

    cpdef void add(self, int64_t amount) noexcept:
        store(self._cell, load(self._cell) + amount)

    cpdef void set(self, int64_t value) noexcept:
        store(self._cell, value)

    cpdef int64_t value(self) noexcept:
        return load(self._cell)


cdef class Histogram:
    def __cinit__(self, object buffer, Py_ssize_t offset=0):
        self._owner = memoryview(buffer)
        self._cells = <uint64_t*>cells_of(self._owner, offset, HISTOGRAM_CELLS * sizeof(uint64_t))

    cpdef void record(self, int64_t value) noexcept:
        record_in(self._cells, 0 if value < 0 else <uint64_t>value)

    cpdef uint64_t count(self) noexcept:
        return load_u(self._cells + COUNT)

    cpdef uint64_t sum(self) noexcept:
        return load_u(self._cells + SUM)

    cpdef void merge(self, Histogram other) noexcept:
        merge_into(self._cells, other._cells)

    cpdef double quantile(self, double q) noexcept:
        return quantile_of(self._cells, q)

    cpdef uint64_t count_at_most(self, uint64_t value) noexcept:
        return at_most(self._cells, value)
