cimport cython

from bench.load.counts cimport Counts
from bench.load.tally cimport Tally
from fastgate._core.http1 cimport ResponseReader
from fastgate._core.sse cimport Scanner
from fastgate.upstream.socketio cimport plain_fd, send_now


@cython.final
cdef class Client:
    cdef readonly object run
    cdef object clock
    cdef readonly object transport
    cdef int fd
    cdef ResponseReader reader
    cdef Scanner scanner
    cdef public bint closed
    cdef readonly long long served
    cdef readonly object request
    cdef readonly Tally tally
    cdef readonly long long sent_ns
    cdef bint begun
    cdef bint stream
    cdef long long events
    cdef long long content
    cdef long long first_ns
    cdef long long last_ns
    cdef long long longest_gap_ns
    cdef bytes tail
    cdef bytes latest
    cdef public list kept

    @cython.locals(payload=bytes, sent=Py_ssize_t)
    cpdef send(self, object request, long long scheduled_ns, Tally tally)

    @cython.locals(now="long long", position=Py_ssize_t, tally=Tally, reader=ResponseReader)
    cpdef data_received(self, bytes data)

    @cython.locals(
        scanner=Scanner, reader=ResponseReader, tally=Tally, index=Py_ssize_t,
        content="long long", gap="long long")
    cdef _look(self, bytes data, long long now)
    cdef _end_with_connection(self, object exc)

    @cython.locals(
        scanner=Scanner, tally=Tally, latency="long long", tokens="long long",
        tpot="long long", ttft="long long")
    cdef _finish(self, long long now)

    @cython.locals(status=int)
    cdef _fault(self)
    cdef bint _ended(self) except -1
    cpdef give_up(self, str kind)
    cpdef drop(self)
    cdef _fail(self, str kind)
    cdef _release(self)
