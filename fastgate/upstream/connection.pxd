cimport cython

from fastgate._core.http1 cimport ResponseReader
from fastgate.upstream.socketio cimport plain_fd, send_now


cdef class Sink:
    cpdef on_upstream_data(self, object held, bytes data)


@cython.final
cdef class Connection:
    cdef public object pool
    cdef public object transport
    cdef public int fd
    cdef public bint unsent
    cdef public ResponseReader reader
    cdef public object context
    cdef public Sink sink
    cdef public long long opened_ns
    cdef public long long idle_since_ns
    cdef public long long served
    cdef public bint closed
    cdef public bint dirty
    cdef public bint reading
    cdef public bint write_paused

    cpdef void begin(self, object context)
    cpdef void data_received(self, bytes data)

    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, bytes data)
    cpdef write_all(self, list parts)
    cdef bint _unsent(self) except -1
    cpdef void pause(self)
    cpdef void resume(self)
    cpdef void abort(self)
