cimport cython

from fastgate._core.http1 cimport ResponseReader

@cython.final
cdef class Connection:
    cdef public object pool
    cdef public object transport
    cdef public ResponseReader reader
    cdef public object context
    cdef public object sink
    cdef public long long opened_ns
    cdef public long long idle_since_ns
    cdef public long long served
    cdef public bint closed
    cdef public bint dirty
    cdef public bint reading
    cdef public bint write_paused

    cpdef void begin(self, object context)
    cpdef void data_received(self, bytes data)
    cpdef void pause(self)
    cpdef void resume(self)
    cpdef void abort(self)
