cimport cython

from fastgate._core.cost cimport Rates
from fastgate._core.http1 cimport NameSet
from fastgate.gateway.estimate cimport Estimate
from fastgate._core.histo cimport Counter, Histogram
from fastgate.upstream.pool cimport Pool


@cython.final
cdef class Target:
    cdef public object deployment
    cdef public str id
    cdef public str protocol
    cdef public int order
    cdef public bytes fields
    cdef public NameSet allowed
    cdef public NameSet allowed_form
    cdef public Pool pool
    cdef public Py_ssize_t entry
    cdef public bint limited
    cdef public Py_ssize_t limit_entry
    cdef public unsigned long long limit_key
    cdef public double weight
    cdef public long long timeout_ns
    cdef public long long stream_timeout_ns
    cdef public long long cooldown_ns
    cdef public int retries
    cdef public dict prefixes
    cdef public dict counters
    cdef public Histogram ttft
    cdef public Histogram upstream_time
    cdef public Counter active
    cdef public Counter idle
    cpdef bytes prefix(self, str suffix)


@cython.final
cdef class Choice:
    cdef public Target target
    cdef public str model
    cdef public Rates rates


@cython.final
cdef class Plan:
    cdef public str model
    cdef public str group
    cdef public str label
    cdef public list choices
    cdef public list fallbacks
    cdef public Estimate estimate
    cdef public Counter input_tokens
    cdef public Counter output_tokens
    cdef public dict durations

    @cython.locals(choice=Choice, rates=Rates, most="long long")
    cpdef Py_ssize_t most_nano(
        self, long long wall_us, long long prompt, long long completion, long long n
    ) except -2


@cython.final
cdef class Catalog:
    cdef public object snapshot
    cdef public object worker
    cdef public dict targets
    cdef public bytes key_header
    cdef readonly dict plans

    @cython.locals(known=Plan, plan=Plan)
    cpdef Plan plan(self, str model)
