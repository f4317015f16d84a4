cimport cython

from fastgate._core.http1 cimport NameSet, ResponseReader, as_chunk, build_response_head
from fastgate._core.sse cimport Scanner
from fastgate.gateway.context cimport Context

cdef NameSet DENIED
cdef int EVENT_STREAM
cdef int NEITHER
cdef Py_ssize_t MAX_TAIL_BYTES


@cython.locals(unknown=bint, bodiless=bint, events=bint, kind=int)
cpdef bint start(Context context, ResponseReader reader) except -1


@cython.locals(length="long long")
cpdef bytes answer_head(
    Context context, ResponseReader reader, bytes fields, long long whole_bytes, bytes body,
)


@cython.locals(
    scanner=Scanner, i=Py_ssize_t, n=Py_ssize_t, joined=Py_ssize_t, boundary=Py_ssize_t,
    cut_start=Py_ssize_t, cut_end=Py_ssize_t, first=Py_ssize_t, began=Py_ssize_t, stop=Py_ssize_t,
    released=bint, seen=int,
)
cpdef int look(Context context, ResponseReader reader, bytes data, bint last) except -1


@cython.locals(payload=bytes, last=bint)
cpdef bytes frame(
    Context context, ResponseReader reader, bytes data, Py_ssize_t start, Py_ssize_t end,
)


@cython.locals(boundary=Py_ssize_t)
cdef bytes _cut(Context context, bytes payload, bint last)
