cimport cython

from bench.load.counts cimport Counts


@cython.final
cdef class Tally:
    cdef public long long started
    cdef public long long finished
    cdef public long long good
    cdef public long long bytes
    cdef public long long segments
    cdef public long long events
    cdef public long long content_events
    cdef public long long content_segments
    cdef public long long input_tokens
    cdef public long long output_tokens
    cdef public long long cached_tokens
    cdef public long long metered
    cdef public long long opened
    cdef readonly Counts latency
    cdef readonly Counts ttft
    cdef readonly Counts itl
    cdef readonly Counts tpot
    cdef readonly Counts late
    cdef readonly Counts connect
    cdef public dict errors

    cpdef fail(self, str kind)
    cpdef dict state(self)
    cpdef dict drain(self)
    cpdef add(self, dict state)
