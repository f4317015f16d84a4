from fastgate.gateway.attempts cimport Attempts
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.upstream.connection cimport Sink

cdef int EVENTS, PHASE_BODY
cdef long long HELD_NS


cdef class Flow(Sink):
    cdef public Attempts attempts
    cdef public set active
    cdef public long long stall_ns
    cdef public long long ping_ns
