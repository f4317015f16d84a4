cimport cython

from fastgate._core.fields cimport answer_fields, request_id
from fastgate._core.http1 cimport RequestReader, ResponseReader, as_chunk
from fastgate._core.sse cimport Scanner
from fastgate.config.principal cimport Principal
from fastgate.config.scopes cimport Scoped
from fastgate.gateway.authenticate cimport authenticate
from fastgate.gateway.catalog cimport Catalog, Choice, Plan, Target
from fastgate.gateway.clock cimport monotonic_ns, unix_ms
from fastgate.gateway.context cimport Context
from fastgate.gateway.endings cimport Endings
from fastgate.gateway.endpoint cimport Endpoint, Match, match
from fastgate.gateway.forward cimport send
from fastgate.gateway.limit cimport is_stale, reserve
from fastgate.gateway.peek cimport Peek
from fastgate.gateway.record cimport overhead_ns
from fastgate.gateway.relay cimport answer_head, frame, look
from fastgate.gateway.relay cimport start as start_relay
from fastgate.gateway.route cimport Router
from fastgate.upstream.connection cimport Connection
from fastgate.upstream.pool cimport Pool

# Imported by the .py; as C integers they are compared without making objects.
cdef int PHASE_BODY, PHASE_CONNECT, PHASE_ERROR_BODY, PHASE_HEAD
cdef int CONTROL, FORM, JSON, LOCAL
cdef int CONTENT, EVENTS
cdef Py_ssize_t HELD_BYTES, JOIN_BYTES
cdef long long PROGRESS_NS

cdef class Pipeline(Endings):
    cdef public Catalog catalog
    cdef public object snapshot
    cdef public Router router
    cdef public Peek peek
    cdef public object keys
    cdef public object addresses
    cdef public unsigned long long epoch
    cdef public unsigned long long sequence
    cdef public long long max_wait_ns

    @cython.locals(
        reader=RequestReader, found=Match, endpoint=Endpoint, client_id=bytes, method=bytes,
    )
    cpdef on_head(self, Context context)

    @cython.locals(digest=bytes)
    cdef _authenticate(self, Context context)
    cdef _check_route(self, Context context)
    cpdef _on_key(self, Context context, object error)

    @cython.locals(now_ns="long long", kind=int)
    cpdef on_request(self, Context context)

    @cython.locals(plan=Plan, principal=Principal, model=str, scoped=Scoped)
    cpdef bint admit(self, Context context, long long now_ns) except -1
    cdef _ask_again(self, Context context)
    cpdef _on_asked_again(self, Context context, object error)
    cpdef start(self, Context context)

    @cython.locals(choice=Choice, now_ns="long long")
    cpdef attempt(self, Context context)

    @cython.locals(pool=Pool, connection=Connection)
    cpdef call(self, Context context, Target target, long long now_ns)

    @cython.locals(target=Target, now_ns="long long")
    cpdef send(self, Context context, Connection connection)

    @cython.locals(
        context=Context, connection=Connection, reader=ResponseReader, position=Py_ssize_t,
        end=Py_ssize_t, now_ns="long long",
    )
    cpdef on_upstream_data(self, object held, bytes data)

    @cython.locals(scanner=Scanner, seen=int, out=bytes, whole=Py_ssize_t)
    cdef _pass_on(
        self, Context context, ResponseReader reader, bytes data, Py_ssize_t start, Py_ssize_t end,
        long long now_ns,
    )

    @cython.locals(
        fields=bytes, head=bytes, target=Target, scoped=Scoped, joined=bint, entry=Py_ssize_t,
        requests_limit="long long", requests_left="long long", tokens_limit="long long",
        tokens_left="long long",
    )
    cpdef send_head(
        self, Context context, ResponseReader reader, bytes out, Py_ssize_t whole_bytes,
        long long now_ns,
    )
