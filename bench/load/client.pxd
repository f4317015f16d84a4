cimport cython

from fastgate._core.http1 cimport ResponseReader
from fastgate._core.sse cimport Scanner
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.upstream.socketio cimport plain_fd, send_now

cdef long long NEVER
cdef int CONTENT, EVENT_STREAM, UNKNOWN, DOCUMENT, EVENTS


cdef class Tally:
    cdef public object coarse
    cdef public object fine
    cdef long long[::1] _fine
    cdef long long[::1] _coarse
    cdef public list longer
    cdef public long long count
    cdef public double sum_us
    cdef public long long largest_us

    @cython.locals(us="long long")
    cpdef void add(self, long long ns)


@cython.final
cdef class Client:
    cdef public object run
    cdef public object transport
    cdef public object item
    cdef public bint busy
    cdef public long long sent_ns
    cdef public long long answers
    cdef int fd
    cdef ResponseReader reader
    cdef Scanner scanner
    cdef bint begun
    cdef bint looked_at
    cdef bint stream
    cdef bint lost
    cdef public bint counted
    cdef long long first_ns
    cdef long long last_ns
    cdef long long events
    cdef long long worst_gap_ns
    cdef Tally gap
    cdef public long long bytes

    @cython.locals(now_ns="long long", position=Py_ssize_t, end=Py_ssize_t, i=Py_ssize_t, seen=int)
    cpdef void data_received(self, bytes data)

    @cython.locals(payload=bytes, sent=Py_ssize_t)
    cpdef void send(self, object item, long long scheduled_ns, bint counted)
    cdef int _look(self, bytes data) except -1
    cdef void _on_events(self, long long now_ns, int seen)
    cdef void _finish(self, str error)
