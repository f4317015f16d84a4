cimport cython

from fastgate._core.http1 cimport ResponseReader
from fastgate._core.sse cimport Scanner
from fastgate.gateway.catalog cimport Choice, Plan, Target
from fastgate.gateway.context cimport Context
from fastgate.gateway.authenticate cimport authenticate
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.endings cimport Endings
from fastgate.gateway.forward cimport send
from fastgate.gateway.limit cimport reserve
from fastgate.gateway.peek cimport Peek
from fastgate.gateway.record cimport overhead_ns
from fastgate.gateway.relay cimport answer_head, as_chunk, frame, look
from fastgate.gateway.relay cimport start as start_relay
from fastgate.gateway.route cimport Router
from fastgate.upstream.connection cimport Connection
from fastgate.upstream.pool cimport Pool


@cython.final
cdef class Pipeline(Endings):
    cdef public object catalog
    cdef public object snapshot
    cdef public Router router
    cdef public Peek peek
    cdef public unsigned long long epoch
    cdef public unsigned long long sequence
    cdef public long long stall_ns
    cdef public long long ping_ns
    cdef public long long max_wait_ns

    cpdef on_head(self, Context context)
    cpdef on_request(self, Context context)
    cpdef admit(self, Context context, long long now_ns)
    cpdef start(self, Context context)

    @cython.locals(choice=Choice, now_ns="long long")
    cpdef attempt(self, Context context)

    @cython.locals(pool=Pool, connection=Connection)
    cpdef call(self, Context context, Target target, long long now_ns)
    cpdef send(self, Context context, Connection connection)

    @cython.locals(
        connection=Connection, reader=ResponseReader, position=Py_ssize_t, end=Py_ssize_t,
        now_ns="long long",
    )
    cpdef on_upstream_data(self, Context context, bytes data)

    @cython.locals(scanner=Scanner, seen=int, out=bytes, whole=Py_ssize_t)
    cdef _pass_on(
        self, Context context, ResponseReader reader, bytes data, Py_ssize_t start, Py_ssize_t end,
        long long now_ns,
    )

    @cython.locals(fields=bytes, head=bytes, held=list, target=Target)
    cpdef send_head(
        self, Context context, ResponseReader reader, bytes out, Py_ssize_t whole_bytes,
        long long now_ns,
    )
    cdef bytes _limit_fields(self, Context context, long long now_ns)
