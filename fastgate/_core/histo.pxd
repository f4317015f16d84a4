# Counters, gauges and log-linear histograms over shared memory. Each cell has one writer (a
# worker); readers in other processes add the workers' cells up. 8 sub-buckets an octave: a bucket's
# bounds lie within 12.5 %.

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    SUB_BUCKETS = 8
    # 8 + 39 octaves of 8: values up to 2^42 - 1 (73 min in ns), more goes to the last.
    BUCKETS = 320
    HISTOGRAM_CELLS = 322   # count, sum, buckets


@cython.final
cdef class Counter:         # 8 bytes
    cdef object _owner
    cdef int64_t* _cell
    cpdef void add(self, int64_t amount) noexcept
    cpdef void set(self, int64_t value) noexcept
    cpdef int64_t value(self) noexcept


@cython.final
cdef class Histogram:       # HISTOGRAM_CELLS * 8 bytes
    cdef object _owner
    cdef uint64_t* _cells
    cpdef void record(self, int64_t value) noexcept     # below 0 counts as 0
    cpdef uint64_t count(self) noexcept
    cpdef uint64_t sum(self) noexcept
    cpdef void merge(self, Histogram other) noexcept
    # The middle of the bucket that holds it; nan when empty.
    cpdef double quantile(self, double q) noexcept
    # For cumulative buckets.
    cpdef uint64_t count_at_most(self, uint64_t value) noexcept
