cimport cython

from fastgate._core.histo cimport Counter, Histogram
from fastgate._core.http1 cimport RequestReader
from fastgate._core.sse cimport Scanner
from fastgate._core.scopes cimport Held
from fastgate.config.principal cimport Principal
from fastgate.config.scopes cimport Scoped
from fastgate.gateway.booking cimport Booking
from fastgate.gateway.catalog cimport Catalog, Choice, Plan, Target
from fastgate.gateway.endpoint cimport Endpoint
from fastgate.upstream.connection cimport Connection
from fastgate.upstream.pool cimport Pool

cdef class Sender:
    cdef public str peer
    cdef public bytes key_field
    cdef public Principal key_principal
    cdef public object key_snapshot
    cdef public Plan last_plan
    cdef public Target last_target
    cdef public Endpoint last_endpoint
    cdef public int last_status
    cdef public Counter last_requests
    cdef public Histogram last_durations
    cdef public Histogram last_overheads
    cdef public Principal last_principal
    cdef public bytes last_strings

    cpdef write(self, bytes data)
    cpdef write_all(self, list parts)
    cpdef finish(self, bint keep_alive)
    cpdef on_asked(self)


@cython.final
@cython.freelist(64)
cdef class Context:
    # downstream
    cdef public Sender downstream
    cdef public RequestReader reader
    cdef public bytes request_id
    cdef public long long start_ns
    cdef public long long read_ns
    cdef public bytes body
    cdef public Py_ssize_t body_start
    cdef public Py_ssize_t body_end
    cdef public object upload
    cdef public bint upload_read
    cdef public bint keep_alive
    # endpoint
    cdef public Endpoint endpoint
    # peek
    cdef public str model
    cdef public bint stream
    cdef public bint strip_usage
    cdef public bint wants_strip
    cdef public long long max_tokens
    cdef public long long n
    cdef public bint noted
    cdef public Py_ssize_t user_start
    cdef public Py_ssize_t user_end
    cdef public Py_ssize_t metadata_start
    cdef public Py_ssize_t metadata_end
    cdef public bytes note
    cdef public tuple names
    # authenticate
    cdef public object snapshot
    cdef public Catalog catalog
    cdef public object refusal
    cdef public Principal principal
    cdef public bint asking
    cdef public long long authenticated_ns
    # limit
    cdef public Scoped scoped
    cdef public Held held_scopes
    # route
    cdef public Plan plan
    cdef public Choice choice
    cdef public Target target
    cdef public str upstream_model
    cdef public Py_ssize_t target_limit_entry
    cdef public int attempts
    cdef public bint counted
    cdef public bint retried_fresh
    cdef public list fallback_groups
    cdef public int retries_left
    cdef public int fallbacks
    cdef public list tried
    cdef public list trail
    cdef public long long routed_ns
    # book
    cdef public Booking booking
    cdef public bint booked
    cdef public long long prompt_estimate
    cdef public long long progress_booked_ns
    cdef public long long spend_nano
    # forward
    cdef public Connection connection
    cdef public Pool pool
    cdef public bint fresh
    cdef public long long connected_ns
    cdef public long long sent_ns
    cdef public long long deadline_ns
    cdef public object timer
    # relay
    cdef public int phase
    cdef public int status
    cdef public long long first_byte_ns
    cdef public long long relay_ns
    cdef public long long first_content_ns
    cdef public long long progress_ns
    cdef public Scanner scanner
    cdef public list held
    cdef public Py_ssize_t held_bytes
    cdef public long long held_since_ns
    cdef public long long events
    cdef public bytearray error_content
    cdef public bytes tail
    cdef public Py_ssize_t boundary
    cdef public Py_ssize_t cut_start
    cdef public Py_ssize_t cut_end
    cdef public bytes client_request_id
    cdef public object failure
    cdef public bint head_sent
    cdef public bint chunked_out
    cdef public long long bytes_out
    # settle, record
    cdef public bint finished
    cdef public str error_kind
