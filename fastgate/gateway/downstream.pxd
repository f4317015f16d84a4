cimport cython

from fastgate._core.http1 cimport RequestReader
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.context cimport Context, Sender
from fastgate.gateway.pipeline cimport Pipeline
from fastgate.gateway.shared cimport Shared
from fastgate.upstream.socketio cimport plain_fd, send_now

# Imported or set by the .py; as C integers they are compared without making objects.
cdef int IDLE, HEAD, BODY, BUSY, LINGER, ASKING, FORM
cdef long long REFUSED_BODY_BYTES, LINGER_NS


cdef class Downstream(Sender):
    # connection
    cdef public Shared worker
    cdef public Pipeline pipeline
    cdef public object transport
    cdef public int fd
    cdef public bint unsent
    cdef public RequestReader reader
    cdef public int state
    cdef public bint closed
    cdef public bint reading
    cdef public bint write_paused
    cdef public long long deadline_ns
    cdef public long long body_deadline_ns
    cdef public long long stuck_since_ns
    cdef public Py_ssize_t stuck_bytes
    cdef public long long served
    # what has not been looked at yet
    cdef public list pending
    cdef public Py_ssize_t pending_bytes
    # the request being read or answered
    cdef public Context context
    cdef public bytearray parts
    cdef public Py_ssize_t body_limit

    cpdef void data_received(self, bytes data)

    @cython.locals(position=Py_ssize_t, end=Py_ssize_t, size=Py_ssize_t)
    cdef _consume(self, bytes data)

    @cython.locals(at_ns="long long", worker=Shared)
    cdef bint _on_head(self, Py_ssize_t left) except -1
    cpdef on_asked(self)

    @cython.locals(length="long long", worker=Shared, reader=RequestReader, context=Context)
    cdef bint _on_known(self, Py_ssize_t left, long long at_ns) except -1
    cdef Py_ssize_t _on_body(self, bytes data, Py_ssize_t position) except -2
    cdef _dispatch(self)
    cdef _keep(self, bytes data)

    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, bytes data)
    cdef bint _unsent(self) except -1
    cpdef write_all(self, list parts)
    cpdef finish(self, bint keep_alive)
