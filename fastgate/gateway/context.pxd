cimport cython

from fastgate._core.http1 cimport RequestReader
from fastgate._core.sse cimport Scanner
from fastgate.gateway.endpoint cimport Endpoint

cdef class Sender:
    cdef public str peer
    cdef public bytes key_field
    cdef public object key_principal
    cdef public object key_snapshot
    cdef public object log_principal
    cdef public object log_plan
    cdef public object log_target
    cdef public object log_endpoint
    cdef public bytes log_strings

    cpdef write(self, bytes data)
    cpdef write_all(self, list parts)
    cpdef finish(self, bint keep_alive)


@cython.final
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
    # authenticate
    cdef public object snapshot
    cdef public object catalog
    cdef public object refusal
    cdef public object principal
    cdef public long long authenticated_ns
    # limit
    cdef public Py_ssize_t limit_entry
    cdef public long long reserved_ns
    cdef public long long reserved_tokens
    # route
    cdef public object plan
    cdef public object target
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
    # forward
    cdef public object connection
    cdef public object pool
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
