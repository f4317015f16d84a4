cimport cython

from fastgate._core.bucket cimport LimitTable
from fastgate._core.budget cimport BudgetTable
from fastgate._core.http1 cimport ResponseReader
from fastgate._core.sse cimport Scanner
from fastgate.gateway.book cimport Book
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.context cimport Context, Sender
from fastgate.gateway.flow cimport Flow
from fastgate.gateway.limit cimport settle
from fastgate.gateway.record cimport Recorder, tokens_used
from fastgate.gateway.shared cimport Shared
from fastgate.upstream.connection cimport Connection
from fastgate.upstream.pool cimport Pool

cdef int LOCAL


cdef class Endings(Flow):
    cdef public Shared worker
    cdef public LimitTable limits
    cdef public BudgetTable budgets
    cdef public Recorder recorder
    cdef public Book book

    cpdef settle(self, Context context, long long now_ns)

    @cython.locals(
        connection=Connection, pool=Pool, reader=ResponseReader, scanner=Scanner,
        downstream=Sender, now_ns="long long",
    )
    cpdef complete(self, Context context, bint reusable)
    cpdef end(self, Context context, long long now_ns)
